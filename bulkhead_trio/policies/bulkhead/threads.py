"""The thread bulkhead: plain functions in threads, so many at once and no more.

A thread cannot be stopped. A caller that is cancelled may leave it behind, and then the permit goes
on being held until the thread has really ended: permits count threads, not callers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeAlias, TypeVar, TypeVarTuple, cast

import attrs
import trio

from bulkhead_trio.policies.bulkhead._sync_policy import SyncPolicy
from bulkhead_trio.policies.bulkhead.bulkhead import (
    Bulkhead,
    BulkheadEvent,
    BulkheadStatistics,
    Permit,
)
from bulkhead_trio.policies.listeners import tell

T = TypeVar("T")
Args = TypeVarTuple("Args")


@attrs.frozen
class ThreadBulkheadStatistics(BulkheadStatistics):
    """What a thread bulkhead holds at one moment, and has counted since it was made.

    ``active`` counts threads, the abandoned ones among them.

    Attributes:
        abandoned: threads that run on although their caller has gone.
        abandoned_ever: threads that were ever left behind.
    """

    abandoned: int
    abandoned_ever: int


@attrs.frozen
class ThreadAbandoned:
    """A caller was cancelled and left its thread; `BulkheadLeft` follows when that has ended."""

    bulkhead: str
    at: float


ThreadBulkheadEvent: TypeAlias = BulkheadEvent | ThreadAbandoned


class ThreadBulkhead(SyncPolicy):
    """At most ``max_concurrent`` threads at once, each of which runs one call.

    It belongs to one `trio.run`: a thread that is still abandoned when that ends keeps its permit.

    Args:
        name: for statistics, listeners and messages.
        max_concurrent: threads; 1 or more.
        max_wait: seconds a caller waits for a thread; 0 refuses at once, ``math.inf`` leaves the
            limit to the caller's own deadline.
        max_queued: callers that may wait; by default 10,000.
        abandon_on_cancel: whether a cancelled caller leaves at once and its thread behind. If not,
            it waits for the thread first, and the cancellation takes effect after that.
        listeners: told of what a `Bulkhead` tells, and of `ThreadAbandoned`.

    Raises:
        ValueError: a number makes no sense; it is named.
    """

    def __init__(
        self,
        name: str,
        max_concurrent: int,
        *,
        max_wait: float = 0.0,
        max_queued: int | None = None,
        abandon_on_cancel: bool = True,
        listeners: Iterable[Callable[[ThreadBulkheadEvent], None]] = (),
    ) -> None:
        self._listeners = tuple(listeners)
        self._bulkhead = Bulkhead(
            name,
            max_concurrent,
            max_wait=max_wait,
            max_queued=max_queued,
            listeners=self._listeners,
        )
        self.name = name
        self.max_wait = max_wait
        self.obeys_cancellation = abandon_on_cancel
        self._abandoned = 0
        self._abandoned_ever = 0

    async def call(self, work: Callable[[*Args], T], *args: *Args) -> T:
        """Run ``work(*args)`` in a thread.

        An abandoned ``work`` can find out by `trio.from_thread.check_cancelled`.

        Raises:
            BulkheadFull: no thread is free, and nobody (more) may wait.
            QueueTimeout: the wait was too long.
            DeadlineUnreachable: the wait and the call would outlast the caller's deadline.
        """
        thread = _Thread(self._bulkhead.acquire(), work, args)
        try:
            return await trio.to_thread.run_sync(
                thread.run,
                abandon_on_cancel=self.obeys_cancellation,
                # Trio asks for anything with these two methods, and types it more narrowly.
                limiter=cast(trio.CapacityLimiter, thread),
            )
        finally:
            if thread.holds_permit:
                self._abandon(thread)

    def resize(self, max_concurrent: int) -> None:
        """Change the number of threads; see `Bulkhead.resize`.

        Raises:
            ValueError: ``max_concurrent`` is below 1.
        """
        self._bulkhead.resize(max_concurrent)

    def statistics(self) -> ThreadBulkheadStatistics:
        """What the bulkhead holds now."""
        return ThreadBulkheadStatistics(
            **attrs.asdict(self._bulkhead.statistics()),
            abandoned=self._abandoned,
            abandoned_ever=self._abandoned_ever,
        )

    def _abandon(self, thread: _Thread[*Args, T]) -> None:
        thread.when_ended = self._take_back
        self._abandoned += 1
        self._abandoned_ever += 1
        if self._listeners:
            tell(self._listeners, ThreadAbandoned(self.name, trio.current_time()))

    def _take_back(self) -> None:
        self._abandoned -= 1


class _Thread(Generic[*Args, T]):
    """One call; to Trio its own limiter, which is told in Trio's thread when the thread has ended.

    So the permit's life is the thread's life, whoever is still there to see its end.
    """

    def __init__(self, permit: Permit, work: Callable[[*Args], T], args: tuple[*Args]) -> None:
        self._permit = permit
        self._work = work
        self._args = args
        self._error: BaseException | None = None
        self.holds_permit = False
        self.when_ended: Callable[[], None] | None = None

    def run(self) -> T:
        try:
            return self._work(*self._args)
        except BaseException as error:
            self._error = error
            raise

    async def acquire_on_behalf_of(self, borrower: object) -> None:  # noqa: ARG002
        await self._permit
        self.holds_permit = True

    def release_on_behalf_of(self, borrower: object) -> None:  # noqa: ARG002
        self.holds_permit = False
        error, self._error = self._error, None
        if self.when_ended is not None:
            self.when_ended()
        self._permit.__exit__(None if error is None else type(error), error, None)
