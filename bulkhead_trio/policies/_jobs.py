"""What a worker pool works on, and what it tells of it."""

from __future__ import annotations

import contextvars
import math
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import attrs
import outcome
import trio

from bulkhead_trio.errors import Rejected
from bulkhead_trio.policies.queue.line import Ticket


@attrs.frozen
class WorkerPoolStatistics:
    """What a pool holds at one moment, and has counted since it was made.

    Attributes:
        active: jobs that run.
        queued: jobs that wait.
        workers: how many may run at once.
        places: how many may wait.
        completed: jobs that ran, and ended with a result, an error or a cancellation.
        failed: those of them that ended with an error.
        refused: jobs that were refused a place.
        shed: jobs that lost theirs, or that the pool was closed before.
    """

    name: str
    active: int
    queued: int
    workers: int
    places: int
    completed: int
    failed: int
    refused: int
    shed: int


@attrs.frozen
class JobFailed:
    """A job that nobody waits for raised ``error``."""

    pool: str
    error: Exception
    at: float


@attrs.frozen
class JobShed:
    """A job that nobody waits for lost its place in the line."""

    pool: str
    reason: Rejected
    at: float


@attrs.frozen
class LineBroken:
    """The line raised ``error`` when it was asked for the next job; all that waited were shed."""

    pool: str
    error: Exception
    at: float


WorkerPoolEvent: TypeAlias = JobFailed | JobShed | LineBroken


class Job:
    """What a worker does, and who wants to know; what the line of a pool holds.

    Attributes:
        work: what to call.
        context: the contextvars to call it with.
        scope: what it runs in, with its owner's deadline.
        done: set when it has ended; ``None`` where nobody waits for that.
        ticket: its place, while it has one.
        has_begun: whether ``work`` has been called.
        is_unwanted: whether its owner has gone.
    """

    __slots__ = (
        "_on_shed",
        "_result",
        "context",
        "done",
        "has_begun",
        "is_unwanted",
        "scope",
        "ticket",
        "work",
    )

    def __init__(
        self,
        work: Callable[[], Awaitable[Any]],
        *,
        deadline: float = math.inf,
        on_shed: Callable[[Rejected], None] | None = None,
    ) -> None:
        self.work = work
        self.context = contextvars.copy_context()
        self.scope = trio.CancelScope(deadline=deadline)
        self.done = trio.Event() if on_shed is None else None
        self.ticket: Ticket[Job] | None = None
        self.has_begun = False
        self.is_unwanted = False
        self._on_shed = on_shed
        self._result: outcome.Outcome[Any] | None = None

    def shed(self, reason: Rejected) -> None:
        """It will not run: its owner gets ``reason``."""
        self.ticket = None
        if self._on_shed is not None:
            self._on_shed(reason)
        else:
            self.settle(outcome.Error(reason))

    def settle(self, result: outcome.Outcome[Any]) -> None:
        """It has ended like this."""
        if self.done is not None:
            self._result = result
            self.done.set()

    def take_result(self) -> outcome.Outcome[Any]:
        """How it ended. Kept no longer: an error would hold itself through its traceback."""
        result, self._result = self._result, None
        assert result is not None, "asked for once, after it was done"  # noqa: S101
        return result
