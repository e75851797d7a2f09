"""Measures the loop time that each piece of work takes, whichever task does it.

Measuring takes a microsecond a step, of some thirty that a small request takes in all. So one
round of turns in `ONE_ROUND_IN` is measured, and stands for those that are not: who has how much
of the loop is a matter of thousands of steps.
"""

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


ONE_ROUND_IN = 4


class LoopMeter(trio.abc.Instrument):
    """Charges every step of every task to what the task's `METERED` says, while it is on.

    Args:
        clock: in seconds; a processor's clock rather than Trio's, because what is measured is the
            work of this process, also where a test has Trio's clock stand still.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._began = 0.0
        self._round = 0
        self.is_on = False

    def next_round(self) -> None:
        """A round is over and another begins; it is measured or not."""
        self._round = (self._round + 1) % ONE_ROUND_IN
        if self._round == 0:
            self.turn_on()
        elif self.is_on:
            self.turn_off()

    def turn_on(self) -> None:
        """Measure from here on."""
        self.is_on = True
        self._began = self._clock()
        trio.lowlevel.add_instrument(self)

    def turn_off(self) -> None:
        """Measure no more, until it is turned on again."""
        if self.is_on:
            self.is_on = False
            trio.lowlevel.remove_instrument(self)

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002  Trio's signature
        """Called by Trio before the steps of a round, which follow each other without a pause."""
        self._began = self._clock()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Called by Trio."""
        began = self._began
        self._began = now = self._clock()
        if (metered := task.context.get(METERED)) is not None:
            metered.on_step(now - began)
