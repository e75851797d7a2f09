"""Deadlines: one point in time that holds for everything a request does.

Trio's cancel scopes are the deadline: whatever is called inside one sees it, however deep, and
nothing has to be handed down. What is here gives it the shape of a policy, and lets a call ask how
much time it has before it begins what it cannot finish.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Self, TypeVar, TypeVarTuple

import attrs
import msgspec
import trio

from bulkhead_trio.errors import DeadlineExceeded, DeadlineUnreachable
from bulkhead_trio.policies._checks import check_seconds
from bulkhead_trio.policies._entries import Entries
from bulkhead_trio.policies.listeners import tell
from bulkhead_trio.policies.policy import Kind, Policy

T = TypeVar("T")
Args = TypeVarTuple("Args")


def remaining() -> float:
    """Seconds until the nearest deadline round the current task; ``math.inf`` where there is none.

    Never below 0; 0 too when the task has been cancelled already.
    """
    return max(0.0, trio.current_effective_deadline() - trio.current_time())


def check_reachable(wait: float, service: float = 0.0, *, what: str) -> None:
    """Refuse what would only wait to die: its turn or its end would come after the deadline.

    Args:
        wait: predicted seconds until its turn.
        service: seconds it then takes, where they are known.
        what: what it would wait for, for the message.

    Raises:
        DeadlineUnreachable: ``wait + service`` is more than what remains; ``retry_after`` is
            ``wait``.
    """
    left = remaining()
    if wait + service > left:
        raise DeadlineUnreachable(
            f"the deadline is {left:.3f} s away, {what} needs {wait + service:.3f} s",
            retry_after=wait,
        )


@attrs.frozen
class TimeoutStatistics:
    """What a timeout has counted.

    Attributes:
        seconds: the limit.
        active: calls under way.
        completed: calls that ended by themselves, with a result or an error, or were cancelled
            from outside.
        timed_out: calls that it ended.
    """

    name: str
    seconds: float
    active: int
    completed: int
    timed_out: int


@attrs.frozen
class TimedOut:
    """A call was ended ``seconds`` after it began; ``at`` is on Trio's clock."""

    timeout: str
    seconds: float
    at: float


class Timeout(Policy):
    """Ends what takes longer than ``seconds``.

    The limit is a cancel scope, so everything inside sees it as its deadline. Use as ``with``,
    ``async with``, decorator or by `call`; one object serves any number of tasks, and each block
    and each call has the whole time.

    A call that comes to its end although the time is up, because it met no checkpoint, has what it
    came for: its result is kept.

    Args:
        seconds: 0 or more; 0 ends a call at its first checkpoint.
        name: for statistics, listeners and messages.
        listeners: told of `TimedOut`.

    Raises:
        ValueError: ``seconds`` is negative, not a number or infinite.
    """

    kind = Kind.TIMEOUT

    def __init__(
        self,
        seconds: float,
        *,
        name: str = "",
        listeners: Iterable[Callable[[TimedOut], None]] = (),
    ) -> None:
        check_seconds("seconds", seconds)
        self.name = name
        self.seconds = seconds
        self._listeners = tuple(listeners)
        self._entries: Entries[trio.CancelScope] = Entries()
        self._entered = 0
        self._left = 0
        self._timed_out = 0

    async def call(self, work: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
        """Run ``await work(*args)`` within the limit.

        Raises:
            DeadlineExceeded: this limit ended it. A deadline or a cancellation from further out
                passes through as what it is.
        """
        scope = trio.CancelScope(deadline=trio.current_time() + self.seconds)
        self._entered += 1
        try:
            with scope:
                return await work(*args)
        finally:
            self._count(scope)
        raise self._exceeded()

    def __enter__(self) -> Self:
        scope = trio.CancelScope(deadline=trio.current_time() + self.seconds)
        scope.__enter__()
        self._entries.push(scope)
        self._entered += 1
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        scope = self._entries.pop()
        try:
            scope.__exit__(exc_type, exc, traceback)
        finally:
            self._count(scope)
        if scope.cancelled_caught:
            raise self._exceeded() from None

    async def __aenter__(self) -> Self:
        await trio.lowlevel.checkpoint()
        return self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(exc_type, exc, traceback)

    def statistics(self) -> TimeoutStatistics:
        """What the timeout has counted so far."""
        return TimeoutStatistics(
            name=self.name,
            seconds=self.seconds,
            active=self._entered - self._left,
            completed=self._left - self._timed_out,
            timed_out=self._timed_out,
        )

    def _count(self, scope: trio.CancelScope) -> None:
        self._left += 1
        if scope.cancelled_caught:
            self._timed_out += 1
            if self._listeners:
                tell(self._listeners, TimedOut(self.name, self.seconds, trio.current_time()))

    def _exceeded(self) -> DeadlineExceeded:
        whose = f" of {self.name}" if self.name else ""
        return DeadlineExceeded(f"the limit{whose} of {self.seconds:g} s has passed")


def deadline(seconds: float, *, name: str = "") -> Timeout:
    """Give a block ``seconds``: ``with deadline(5):``, or what else a `Timeout` can do.

    Raises:
        ValueError: ``seconds`` is negative, not a number or infinite.
    """
    return Timeout(seconds, name=name)


class Deadline(msgspec.Struct, frozen=True, gc=False):
    """A point on Trio's clock.

    Attributes:
        at: as `trio.current_time` counts.
    """

    at: float

    @classmethod
    def starting_now(cls, *, limit: float, asked: float | None) -> Self:
        """The smaller of the server's ``limit`` and what the caller ``asked`` for, in seconds."""
        return cls.counted_from(trio.current_time(), limit=limit, asked=asked)

    @classmethod
    def counted_from(cls, began: float, *, limit: float, asked: float | None) -> Self:
        """The same for what began at ``began`` on Trio's clock."""
        return cls(at=began + (limit if asked is None else min(limit, asked)))

    def enforced(self) -> Enforced:
        """Run a block within the deadline: ``with deadline.enforced():``.

        Raises:
            DeadlineExceeded: the deadline passed inside the block and nothing wider was cancelled.
                A block that came to its end all the same has what it came for: nothing it holds is
                lost. Whoever wants it punctual too calls `check`.
        """
        return Enforced(self.at)

    def check(self) -> None:
        """Refuse to go on, or to answer, when it is too late.

        Raises:
            DeadlineExceeded: the deadline has passed.
        """
        if trio.current_time() >= self.at:
            raise DeadlineExceeded("the deadline has passed")


class Enforced:
    """One block within a deadline; see `Deadline.enforced`.

    A class rather than a generator: every request passes through one, and this takes half the time.

    Args:
        at: as `trio.current_time` counts.
    """

    __slots__ = ("_scope",)

    def __init__(self, at: float) -> None:
        self._scope = trio.CancelScope(deadline=at)

    def __enter__(self) -> None:
        self._scope.__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        scope = self._scope
        scope.__exit__(exc_type, exc, traceback)
        if scope.cancelled_caught:
            raise DeadlineExceeded("the deadline has passed") from None
