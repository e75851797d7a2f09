"""The semaphore bulkhead: so many calls at once, a few more wait their turn, the rest are refused.

A permit that comes back is handed to whoever has waited longest before anybody else can ask for it,
so that nobody is overtaken, and a permit is never in two hands nor in none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable
from types import TracebackType
from typing import TypeAlias, TypeVar, TypeVarTuple

import attrs
import trio

from bulkhead_trio.errors import BulkheadFull, DeadlineUnreachable, QueueTimeout, Rejected
from bulkhead_trio.policies._checks import check_wait, check_whole
from bulkhead_trio.policies._entries import Entries
from bulkhead_trio.policies.listeners import tell
from bulkhead_trio.policies.policy import Kind, Policy
from bulkhead_trio.policies.queue._rules import DrainRate

T = TypeVar("T")
Args = TypeVarTuple("Args")

MOST_WAITING_UNLESS_SAID = 10_000
"""Waiting places of a bulkhead that waits and was given no ``max_queued``: no line is unbounded."""


@attrs.frozen
class BulkheadStatistics:
    """What a bulkhead holds at one moment, and has counted since it was made.

    Attributes:
        active: calls that hold a permit.
        queued: callers that wait for one.
        max_concurrent: permits; after a resize ``active`` may be above it until calls have ended.
        max_queued: waiting places.
        completed: permits that came back, however the call ended.
        refused: callers that were sent away.
        mean_service: seconds a permit is held, a moving average; ``None`` before the first.
    """

    name: str
    active: int
    queued: int
    max_concurrent: int
    max_queued: int
    completed: int
    refused: int
    mean_service: float | None


@attrs.frozen
class BulkheadEntered:
    """A caller got a permit, after waiting ``waited`` seconds."""

    bulkhead: str
    waited: float
    at: float


@attrs.frozen
class BulkheadLeft:
    """A permit came back after ``seconds``; ``error`` is what the call ended with, if anything."""

    bulkhead: str
    seconds: float
    error: BaseException | None
    at: float


@attrs.frozen
class BulkheadRefused:
    """A caller was sent away."""

    bulkhead: str
    reason: str
    retry_after: float | None
    at: float


@attrs.frozen
class BulkheadResized:
    """The number of permits changed."""

    bulkhead: str
    before: int
    after: int
    at: float


BulkheadEvent: TypeAlias = BulkheadEntered | BulkheadLeft | BulkheadRefused | BulkheadResized


class Permit:
    """The right to run one call in a bulkhead.

    From `Bulkhead.acquire` it is still to be had: ``async with`` (or ``await``) waits for it. From
    `Bulkhead.acquire_nowait` it is held already: leave a ``with`` block, or `release` it. One that
    was given back can be waited for again.
    """

    __slots__ = ("_bulkhead", "_is_taken", "_since", "_timeout")

    def __init__(self, bulkhead: Bulkhead, timeout: float | None) -> None:
        self._bulkhead = bulkhead
        self._timeout = timeout
        self._is_taken = False  # held, or waited for by a task
        self._since: float | None = None  # since when it is held

    def release(self) -> None:
        """Give the permit back.

        Raises:
            RuntimeError: it is not held, or no longer.
        """
        self._give_back(None)

    def _give_back(self, error: BaseException | None) -> None:
        since = self._since
        if since is None:
            raise RuntimeError(f"this permit of {self._bulkhead.name} is not held")
        now = trio.current_time()  # outside Trio this raises, and the permit is still held
        self._since = None
        self._is_taken = False
        self._bulkhead._leave(since, now, error)

    async def __aenter__(self) -> Permit:
        if self._is_taken:
            raise RuntimeError(
                f"this permit of {self._bulkhead.name} is held or waited for already;"
                " each task needs one of its own"
            )
        self._is_taken = True
        try:
            await trio.lowlevel.checkpoint()
            since = self._bulkhead._try_enter()
            self._since = await self._bulkhead._wait(self._timeout) if since is None else since
        except BaseException:
            self._is_taken = False
            raise
        return self

    def __await__(self) -> Generator[object, None, Permit]:
        return self.__aenter__().__await__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._since is not None:
            self._give_back(exc)

    def __enter__(self) -> Permit:
        if self._since is None:
            raise RuntimeError("this permit is still to be waited for: use `async with`")
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._since is not None:
            self._give_back(exc)


class Bulkhead(Policy):
    """At most ``max_concurrent`` calls at once; a caller waits up to ``max_wait`` seconds.

    Args:
        name: for statistics, listeners and messages.
        max_concurrent: permits; 1 or more.
        max_wait: seconds a caller waits for a permit; 0 refuses at once, ``math.inf`` leaves the
            limit to the caller's own deadline.
        max_queued: callers that may wait; by default 10,000, so that no line is without an end.
        listeners: told of `BulkheadEntered`, `BulkheadLeft`, `BulkheadRefused`, `BulkheadResized`.

    Raises:
        ValueError: a number makes no sense; it is named.
    """

    kind = Kind.BULKHEAD

    def __init__(
        self,
        name: str,
        max_concurrent: int,
        *,
        max_wait: float = 0.0,
        max_queued: int | None = None,
        listeners: Iterable[Callable[[BulkheadEvent], None]] = (),
    ) -> None:
        check_whole("max_concurrent", max_concurrent, minimum=1)
        check_wait("max_wait", max_wait)
        if max_queued is None:
            max_queued = MOST_WAITING_UNLESS_SAID
        check_whole("max_queued", max_queued, minimum=0)
        self.name = name
        self.max_wait = max_wait
        self._max_concurrent = max_concurrent
        self._max_queued = max_queued
        self._listeners = tuple(listeners)
        self._line = trio.lowlevel.ParkingLot()
        self._saturated_since = 0.0  # means something while no permit is free
        self._entries = Entries[float]()
        self._drain_rate = DrainRate()
        self._active = 0
        self._completed = 0
        self._refused = 0
        self._when_at_rest: Callable[[Bulkhead, float], None] | None = None

    # --- in and out ------------------------------------------------------------------------------

    def acquire(self, *, timeout: float | None = None) -> Permit:
        """Use as ``async with bulkhead.acquire(timeout=2.0):``.

        Args:
            timeout: seconds to wait for a permit instead of the bulkhead's ``max_wait``.

        Raises:
            BulkheadFull: no permit is free, and nobody (more) may wait.
            QueueTimeout: the wait was too long.
            DeadlineUnreachable: the wait and the call would outlast the caller's deadline.
            ValueError: ``timeout`` is negative or not a number.
        """
        if timeout is not None:
            check_wait("timeout", timeout)
        return Permit(self, timeout)

    def acquire_nowait(self) -> Permit:
        """A permit, now: use as ``with bulkhead.acquire_nowait():``.

        Raises:
            BulkheadFull: none is free.
        """
        since = self._try_enter()
        if since is None:
            raise self._full()
        permit = Permit(self, None)
        permit._since = since
        permit._is_taken = True
        return permit

    async def call(self, work: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
        """Run ``await work(*args)`` with a permit; raises what `acquire` and it raise."""
        await trio.lowlevel.checkpoint_if_cancelled()
        since = self._try_enter()
        if since is None:
            since = await self._wait(None)
        try:
            result = await work(*args)
        except BaseException as error:
            self._leave(since, trio.current_time(), error)
            raise
        self._leave(since, trio.current_time(), None)
        return result

    async def __aenter__(self) -> None:
        await trio.lowlevel.checkpoint()
        since = self._try_enter()
        self._entries.push(await self._wait(None) if since is None else since)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(self._entries.pop(), trio.current_time(), exc)

    # --- from outside ----------------------------------------------------------------------------

    @property
    def max_concurrent(self) -> int:
        """How many calls may run at once."""
        return self._max_concurrent

    @property
    def is_at_rest(self) -> bool:
        """Whether nobody runs in it, and so nobody waits."""
        return not self._active

    def resize(self, max_concurrent: int) -> None:
        """Change the number of permits.

        More are handed at once to those who wait. Fewer take effect lazily: nobody who runs is
        stopped, and nobody enters before enough have left.

        Raises:
            ValueError: ``max_concurrent`` is below 1.
        """
        check_whole("max_concurrent", max_concurrent, minimum=1)
        before = self._max_concurrent
        if max_concurrent == before:
            return
        now = trio.current_time()
        self._max_concurrent = max_concurrent
        self._saturated_since = now
        while self._line and self._active < max_concurrent:
            self._active += 1
            self._line.unpark()
        if self._listeners:
            tell(self._listeners, BulkheadResized(self.name, before, max_concurrent, now))

    def predicted_wait(self) -> float:
        """Seconds that somebody who asked now would wait for a permit; 0 while one is free."""
        above = self._active - self._max_concurrent  # more than 0 only after a resize
        if above < 0:
            return 0.0
        return self._drain_rate.wait_for(
            above + len(self._line) + 1,
            workers=self._max_concurrent,
            saturated_since=self._saturated_since,
            now=trio.current_time(),
        )

    def statistics(self) -> BulkheadStatistics:
        """What the bulkhead holds now."""
        return BulkheadStatistics(
            name=self.name,
            active=self._active,
            queued=len(self._line),
            max_concurrent=self._max_concurrent,
            max_queued=self._max_queued,
            completed=self._completed,
            refused=self._refused,
            mean_service=self._drain_rate.mean_service,
        )

    # --- inside ----------------------------------------------------------------------------------

    def _try_enter(self) -> float | None:
        """Take a free permit; says when, or ``None`` where none is free.

        While somebody waits none is ever free: it was handed over when it came back.
        """
        active = self._active
        if active >= self._max_concurrent:
            return None
        now = trio.current_time()  # outside Trio this raises, and nothing is taken
        self._active = active = active + 1
        if active == self._max_concurrent:
            self._saturated_since = now
        if self._listeners:
            self._tell_entered(0.0, now)
        return now

    async def _wait(self, timeout: float | None) -> float:
        longest = self.max_wait if timeout is None else timeout
        if longest == 0 or len(self._line) >= self._max_queued:
            raise self._full()
        asked = trio.current_time()
        self._refuse_unreachable(asked)
        is_handed_over = False
        with trio.CancelScope(deadline=asked + longest):
            await self._line.park()
            is_handed_over = True
        if not is_handed_over:
            message = f"no permit of {self.name} came free within {longest:g} s"
            raise self._refusal(QueueTimeout(message, retry_after=self.predicted_wait()))
        now = trio.current_time()
        if self._listeners:
            self._tell_entered(now - asked, now)
        return now

    def _tell_entered(self, waited: float, now: float) -> None:
        """Tell that a permit was taken; should that be interrupted, nobody would give it back."""
        try:
            tell(self._listeners, BulkheadEntered(self.name, waited, now))
        except BaseException as error:
            self._leave(now, now, error)
            raise

    def _leave(self, since: float, now: float, error: BaseException | None) -> None:
        self._drain_rate = self._drain_rate.departed(now - since, now)
        self._completed += 1
        if self._line and self._active <= self._max_concurrent:
            self._line.unpark()  # the permit changes hands; as many are out as before
        else:
            self._active -= 1
            if not self._active and self._when_at_rest is not None:
                self._when_at_rest(self, now)
        if self._listeners:
            tell(self._listeners, BulkheadLeft(self.name, now - since, error, now))

    def _refuse_unreachable(self, now: float) -> None:
        """Send away who would wait only to be cut off by its deadline.

        Only whoever must wait: were the service time held against callers who could start at once,
        one slow spell would keep everybody out, and nothing would show that it is over.
        """
        wait = self.predicted_wait()
        needed = wait + (self._drain_rate.mean_service or 0.0)
        if now + needed > trio.current_effective_deadline():
            message = f"waiting for {self.name} and running would outlast the deadline"
            raise self._refusal(DeadlineUnreachable(message, retry_after=wait))

    def _full(self) -> Rejected:
        return self._refusal(
            BulkheadFull(f"{self.name} is full", retry_after=self.predicted_wait())
        )

    def _refusal(self, refusal: Rejected) -> Rejected:
        """Count and tell a refusal. Its raiser keeps no name for it.

        An error that a frame on its own traceback has a name for is a cycle, for the garbage
        collector to find; refusals come in floods.
        """
        self._refused += 1
        if self._listeners:
            now = trio.current_time()
            tell(
                self._listeners,
                BulkheadRefused(self.name, refusal.reason, refusal.retry_after, now),
            )
        return refusal
