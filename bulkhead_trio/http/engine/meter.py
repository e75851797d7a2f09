"""Measures the loop time that each piece of work takes, whichever task does it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Protocol

import trio


class Metered(Protocol):
    """What loop time is charged to."""

    def on_step(self, seconds: float) -> None:
        """A task that works for it has had the loop for ``seconds``."""


METERED: ContextVar[Metered | None] = ContextVar("bulkhead_trio.metered", default=None)
"""For what a task works. Trio copies it to the tasks that a task starts."""


class LoopMeter(trio.abc.Instrument):
    """Charges every step of every task to what the task's `METERED` says.

    Args:
        clock: in seconds; a processor's clock rather than Trio's, because what is measured is the
            work of this process, also where a test has Trio's clock stand still.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._began = clock()

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002  Trio's signature
        """Called by Trio before the steps of a round, which follow each other without a pause."""
        self._began = self._clock()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Called by Trio."""
        now = self._clock()
        metered = task.context.get(METERED)
        if metered is not None:
            metered.on_step(now - self._began)
        self._began = now
