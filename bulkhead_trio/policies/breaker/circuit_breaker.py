"""The circuit breaker's shell: reads the clock, gives permits, tells listeners."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import TypeVar, TypeVarTuple

import attrs
import trio

from bulkhead_trio.errors import CircuitOpen
from bulkhead_trio.policies.breaker._rules import (
    Admitted,
    Closed,
    Ended,
    HalfOpen,
    Limits,
    Open,
    Outcome,
    State,
    has_room,
    seconds_left,
    transition,
)
from bulkhead_trio.policies.listeners import tell

T = TypeVar("T")
Args = TypeVarTuple("Args")


@attrs.frozen
class Consecutive:
    """Open after this many failures with no success between them."""

    failures: int


class BreakerState(enum.Enum):
    """The name of a state, as people and metrics read it."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


@attrs.frozen
class BreakerStatistics:
    """What a breaker knows at one moment.

    Attributes:
        state: an open breaker whose cooldown has passed is ``HALF_OPEN``: the next call probes.
        failures: consecutive failures, those that opened it included.
        retry_after: what is left of the cooldown, in seconds.
        probes: half-open calls under way.
        opened: how often it has opened.
        refused: how many calls it has refused.
    """

    state: BreakerState
    failures: int
    retry_after: float
    probes: int
    opened: int
    refused: int


@attrs.frozen
class BreakerTransition:
    """What a listener is told, after the breaker has moved."""

    breaker: str
    before: BreakerState
    after: BreakerState
    at: float


def _is_any_exception(error: BaseException) -> bool:
    return isinstance(error, Exception)


class Permit:
    """The right to one call; its ``with`` block decides the outcome.

    No exception is a success; an exception for which the breaker's ``is_failure`` holds is a
    failure; everything else, `trio.Cancelled` first of all, ends the permit and counts neither way.
    """

    __slots__ = ("_breaker", "_epoch")

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker
        self._epoch = -1

    def __enter__(self) -> Permit:
        self._epoch = self._breaker._admit()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._breaker._end(self._epoch, self._breaker._outcome_of(exc))


class CircuitBreaker:
    """Stops calling what keeps failing, and finds out with single probes when it works again.

    Args:
        name: for statistics, listeners and messages.
        window: when to open.
        wait_in_open: seconds from opening to the first probe.
        permitted_calls_in_half_open: probes that may run at the same time.
        success_threshold: consecutive successful probes that close it.
        is_failure: which exceptions count; of a group, each of its leaves is asked.
        listeners: told of every move, after it has happened; what one raises is logged.

    Raises:
        ValueError: a threshold is below 1, or a time negative or not finite.
    """

    def __init__(
        self,
        name: str,
        *,
        window: Consecutive = Consecutive(5),
        wait_in_open: float = 60.0,
        permitted_calls_in_half_open: int = 1,
        success_threshold: int = 1,
        is_failure: Callable[[BaseException], bool] = _is_any_exception,
        listeners: Iterable[Callable[[BreakerTransition], None]] = (),
    ) -> None:
        self.name = name
        self._limits = Limits(
            failure_threshold=window.failures,
            wait_in_open=wait_in_open,
            permitted_calls_in_half_open=permitted_calls_in_half_open,
            success_threshold=success_threshold,
        )
        self._is_failure = is_failure
        self._listeners = tuple(listeners)
        self._state: State = Closed()
        self._opened = 0
        self._refused = 0

    def permit(self) -> Permit:
        """Use as ``with breaker.permit():`` round one call.

        Raises:
            CircuitOpen: on entering the block, while the breaker is open or its probes are taken.
        """
        return Permit(self)

    async def call(self, work: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
        """Run ``await work(*args)`` with a permit; raises `CircuitOpen` and what it raises."""
        with self.permit():
            return await work(*args)

    def check(self) -> None:
        """Refuse early what would be refused anyway; takes no permit.

        Raises:
            CircuitOpen: no call may start now.
        """
        now = trio.current_time()
        if not has_room(self._state, self._limits, now):
            self._refuse(now)

    def statistics(self) -> BreakerStatistics:
        """What the breaker knows now."""
        now = trio.current_time()
        state = self._state
        return BreakerStatistics(
            state=_name_of(state, now),
            failures=state.failures,
            retry_after=seconds_left(state, now),
            probes=state.probes if isinstance(state, HalfOpen) else 0,
            opened=self._opened,
            refused=self._refused,
        )

    # --- called by permits -----------------------------------------------------------------------

    def _admit(self) -> int:
        now = trio.current_time()
        if not has_room(self._state, self._limits, now):
            self._refuse(now)
        self._move(transition(self._state, Admitted(), self._limits, now), now)
        return self._state.epoch

    def _end(self, epoch: int, outcome: Outcome) -> None:
        now = trio.current_time()
        self._move(transition(self._state, Ended(epoch, outcome), self._limits, now), now)

    def _outcome_of(self, error: BaseException | None) -> Outcome:
        if error is None:
            return Outcome.SUCCESS
        if isinstance(error, BaseExceptionGroup):
            failed = error.subgroup(self._is_failure) is not None
        else:
            failed = self._is_failure(error)
        return Outcome.FAILURE if failed else Outcome.IGNORED

    def _refuse(self, now: float) -> None:
        self._refused += 1
        raise CircuitOpen(f"{self.name} is open", retry_after=seconds_left(self._state, now))

    def _move(self, after: State, now: float) -> None:
        before, self._state = self._state, after
        if type(before) is type(after):
            return
        if isinstance(after, Open):
            self._opened += 1
        tell(
            self._listeners,
            BreakerTransition(self.name, _kind_of(before), _kind_of(after), now),
        )


def _kind_of(state: State) -> BreakerState:
    match state:
        case Closed():
            return BreakerState.CLOSED
        case Open():
            return BreakerState.OPEN
        case HalfOpen():
            return BreakerState.HALF_OPEN


def _name_of(state: State, now: float) -> BreakerState:
    if isinstance(state, Open) and now >= state.until:
        return BreakerState.HALF_OPEN
    return _kind_of(state)
