"""The circuit breaker's shell: reads the clock, gives permits, tells listeners."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, TypeVar, TypeVarTuple

import trio

from bulkhead_trio.errors import CircuitOpen
from bulkhead_trio.policies._entries import Entries
from bulkhead_trio.policies._matching import Errors
from bulkhead_trio.policies.breaker._outcome_rules import BreakerOutcome, Classification
from bulkhead_trio.policies.breaker._rules import (
    Trigger,
    admitted,
    closed_at,
    ended,
    failures_of,
    has_room,
    seconds_left,
    settled,
    shown,
    transition,
)
from bulkhead_trio.policies.breaker._states import (
    BreakerState,
    Closed,
    Disabled,
    HalfOpen,
    Open,
    State,
    limits_of,
)
from bulkhead_trio.policies.breaker._window_rules import Consecutive, Window
from bulkhead_trio.policies.breaker.records import (
    BreakerCall,
    BreakerCallEnded,
    BreakerRefused,
    BreakerStatistics,
    BreakerTransition,
)
from bulkhead_trio.policies.listeners import tell
from bulkhead_trio.policies.policy import Kind, Policy

T = TypeVar("T")
Args = TypeVarTuple("Args")

WINDOW_UNLESS_SAID = Consecutive(5)

SUCCESS, FAILURE = BreakerOutcome.SUCCESS, BreakerOutcome.FAILURE

LET_THROUGH = -1
"""Instead of an epoch: let through for metrics only; what becomes of it moves nothing."""

UNCOUNTED = -2
"""Instead of an epoch: let through by a disabled breaker, and not even counted."""


class Permit:
    """The right to one call; its ``with`` block decides the outcome.

    No exception is a success; what the breaker is told to record is a failure; what it is told to
    ignore, a refusal by another policy and `trio.Cancelled` end the permit and count neither way.
    """

    __slots__ = ("_began", "_breaker", "_epoch")

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker
        self._epoch: int | None = None
        self._began = 0.0

    def __enter__(self) -> Permit:
        if self._epoch is not None:
            raise RuntimeError(f"this permit of {self._breaker.name} is in use; take another one")
        self._began = now = trio.current_time()
        self._epoch = self._breaker._admit(now)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        epoch, self._epoch = self._epoch, None
        assert epoch is not None  # noqa: S101  it was entered
        if exc is None:
            self._breaker._end(epoch, self._began, SUCCESS)
        else:
            self._breaker._end_raised(epoch, self._began, exc)


class CircuitBreaker(Policy):
    """Stops calling what keeps failing, and finds out with a few probes when it works again.

    Args:
        name: for statistics, listeners and messages.
        window: what it looks back on: so many failures in a row, or rates over the last calls or
            the last seconds; by default five in a row.
        failure_rate_threshold: share of failures that opens it, above 0 and at most 1; by default
            0.5. Not for `Consecutive`.
        slow_call_duration_threshold: seconds; a call that takes longer is slow. By default none is.
        slow_call_rate_threshold: share of slow calls that opens it; by default 1. Not for
            `Consecutive`, to which a slow call is a failure.
        minimum_number_of_calls: calls in the window before rates are looked at; by default 10, or
            the window's size where that is less. Not for `Consecutive`.
        wait_in_open: seconds from opening to the first probe; or a schedule of them, for the first
            opening, the second without having closed between, and so on, the last repeated.
        permitted_calls_in_half_open: probes that may run at the same time, and on which half-open
            is judged.
        success_threshold: probes that must be good (succeed, and in time) to close it; where they
            are more than are permitted, they come one after the other and all must be good.
        max_wait_in_half_open: seconds after which it opens again if the probes have not decided; by
            default they have as long as they take.
        ignore: errors that count neither way: types, or a function.
        record: errors that are failures, unless ignored; all others are successes.
        ignore_result: says of the result of `call` whether it counts neither way.
        record_result: says of the result of `call` whether it is a failure, unless ignored.
        metrics_only: let every call pass, and only count and tell what it would have done.
        listeners: told of every move, after it has happened; what one raises is logged.
        call_listeners: told of every `BreakerRefused` and `BreakerCallEnded`.

    Raises:
        ValueError: a parameter makes no sense, alone or with the others; it is named.
    """

    kind = Kind.BREAKER

    def __init__(
        self,
        name: str,
        *,
        window: Window = WINDOW_UNLESS_SAID,
        failure_rate_threshold: float | None = None,
        slow_call_duration_threshold: float | None = None,
        slow_call_rate_threshold: float | None = None,
        minimum_number_of_calls: int | None = None,
        wait_in_open: float | Sequence[float] = 60.0,
        permitted_calls_in_half_open: int = 1,
        success_threshold: int = 1,
        max_wait_in_half_open: float | None = None,
        ignore: Errors = (),
        record: Errors = Exception,
        ignore_result: Callable[[Any], bool] | None = None,
        record_result: Callable[[Any], bool] | None = None,
        metrics_only: bool = False,
        listeners: Iterable[Callable[[BreakerTransition], None]] = (),
        call_listeners: Iterable[Callable[[BreakerCall], None]] = (),
    ) -> None:
        self._limits = limits_of(
            window=window,
            failure_rate_threshold=failure_rate_threshold,
            slow_call_duration_threshold=slow_call_duration_threshold,
            slow_call_rate_threshold=slow_call_rate_threshold,
            minimum_number_of_calls=minimum_number_of_calls,
            wait_in_open=wait_in_open,
            permitted_calls_in_half_open=permitted_calls_in_half_open,
            success_threshold=success_threshold,
            max_wait_in_half_open=max_wait_in_half_open,
        )
        self._classification = Classification.of(
            ignore=ignore, record=record, ignore_result=ignore_result, record_result=record_result
        )
        self.name = name
        self._slow_above = self._limits.slow_above
        self._asks_results = ignore_result is not None or record_result is not None
        self._is_metrics_only = metrics_only
        self._listeners = tuple(listeners)
        self._call_listeners = tuple(call_listeners)
        # Where nobody wants to know how long a call took, the clock is not read when it begins; and
        # where the window does not care when it ended either, not at all for one that succeeds.
        self._needs_no_start = self._slow_above == math.inf and not self._call_listeners
        self._needs_no_clock = (
            self._needs_no_start and isinstance(window, Consecutive) and not self._asks_results
        )
        self._entries = Entries[tuple[int, float]]()
        self._state: State = closed_at(0.0, self._limits)
        self._opened = self._refused = 0
        self._succeeded = self._failed = self._ignored = 0

    # --- in and out ------------------------------------------------------------------------------

    def permit(self) -> Permit:
        """Use as ``with breaker.permit():`` round one call.

        Raises:
            CircuitOpen: on entering the block, while the breaker is open or its probes are taken.
        """
        return Permit(self)

    async def call(self, work: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
        """Run ``await work(*args)`` with a permit; what it returns may be a failure too.

        Raises:
            CircuitOpen: ``work`` was not called. ``retry_after`` is what is left of the cooldown; 0
                while all probes are out, since one may end any moment; ``None`` after `force_open`.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        state = self._state
        is_plain = self._needs_no_start and type(state) is Closed
        began = 0.0 if is_plain else trio.current_time()
        epoch = state.epoch if is_plain else self._admit(began)
        try:
            result = await work(*args)
        except BaseException as error:
            self._end_raised(epoch, began, error)
            raise
        if is_plain and self._needs_no_clock and self._state is state and not state.tally.failures:
            self._succeeded += 1  # nothing else could change
        elif self._asks_results:
            self._end_returned(epoch, began, result)
        else:
            self._end(epoch, began, SUCCESS)
        return result

    async def __aenter__(self) -> None:
        await trio.lowlevel.checkpoint()
        state = self._state
        if self._needs_no_start and type(state) is Closed:
            self._entries.push((state.epoch, 0.0))
        else:
            now = trio.current_time()
            self._entries.push((self._admit(now), now))

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        epoch, began = self._entries.pop()
        state = self._state
        if exc is not None:
            self._end_raised(epoch, began, exc)
        elif (
            self._needs_no_clock
            and type(state) is Closed
            and state.epoch == epoch
            and not state.tally.failures
        ):
            self._succeeded += 1  # nothing else could change
        else:
            self._end(epoch, began, SUCCESS)

    def check(self) -> None:
        """Refuse early what would be refused anyway; takes no permit.

        Raises:
            CircuitOpen: no call may start now.
        """
        now = trio.current_time()
        state = self._settle(now)
        if not self._is_metrics_only and not has_room(state, self._limits, now):
            self._refuse(state, now)

    # --- by hand ---------------------------------------------------------------------------------

    def force_open(self) -> None:
        """Refuse everything until `reset` or `disable`."""
        self._command(Trigger.FORCE_OPEN)

    def disable(self) -> None:
        """Let everything pass and count nothing until `reset` or `force_open`."""
        self._command(Trigger.DISABLE)

    def reset(self) -> None:
        """Close it, with an empty window; calls that are under way no longer count in it."""
        self._command(Trigger.RESET)

    # --- from outside ----------------------------------------------------------------------------

    def statistics(self) -> BreakerStatistics:
        """What the breaker knows now."""
        now = trio.current_time()
        state = self._settle(now)
        tally = state.tally.at(now) if isinstance(state, Closed) else state.tally
        calls = tally.calls
        has_rates = calls > 0 and not isinstance(self._limits.window, Consecutive)
        return BreakerStatistics(
            name=self.name,
            state=shown(state, now),
            failures=tally.failures if isinstance(state, Closed) else failures_of(state),
            calls=calls,
            failure_rate=tally.failures / calls if has_rates else None,
            slow_rate=tally.slow / calls if has_rates else None,
            retry_after=seconds_left(state, now),
            probes=state.probes if isinstance(state, HalfOpen) else 0,
            opened=self._opened,
            refused=self._refused,
            succeeded=self._succeeded,
            failed=self._failed,
            ignored=self._ignored,
            metrics_only=self._is_metrics_only,
        )

    # --- inside ----------------------------------------------------------------------------------

    def _admit(self, now: float) -> int:
        """Let a call in; returns the epoch that its result belongs to."""
        state = self._state
        if type(state) is Closed:
            return state.epoch
        if type(state) is Disabled:
            return UNCOUNTED
        state = self._settle(now)
        if not has_room(state, self._limits, now):
            self._refuse(state, now)
            return LET_THROUGH
        after = admitted(state, self._limits, now)
        try:
            self._move(after, now)
        except BaseException:  # a listener was interrupted: the probe's place must not stay taken
            self._end(after.epoch, now, BreakerOutcome.IGNORED)
            raise
        # Not the breaker's own state: a listener may have changed that again.
        return after.epoch

    def _end_raised(self, epoch: int, began: float, error: BaseException) -> None:
        outcome = BreakerOutcome.IGNORED  # should the user's function raise
        try:
            outcome = self._classification.of_error(error)
        finally:
            self._end(epoch, began, outcome)

    def _end_returned(self, epoch: int, began: float, result: object) -> None:
        outcome = BreakerOutcome.IGNORED  # should the user's function raise
        try:
            outcome = self._classification.of_result(result)
        finally:
            self._end(epoch, began, outcome)

    def _end(self, epoch: int, began: float, outcome: BreakerOutcome) -> None:
        if epoch == UNCOUNTED:
            return
        now = trio.current_time()
        is_slow = now - began > self._slow_above
        if outcome is SUCCESS:
            self._succeeded += 1
        elif outcome is FAILURE:
            self._failed += 1
        else:
            self._ignored += 1
        state = self._state
        if type(state) is HalfOpen:
            state = self._settle(now)
        after = ended(state, epoch, outcome, is_slow, self._limits, now)
        if after is not state:
            self._move(after, now)
        if self._call_listeners:
            record = BreakerCallEnded(self.name, outcome, now - began, is_slow, now)
            tell(self._call_listeners, record)

    def _refuse(self, state: State, now: float) -> None:
        """Raise, unless it is there for its metrics only."""
        self._refused += 1
        if state.kind is BreakerState.FORCED_OPEN:
            retry_after, why = None, "was forced open"
        elif isinstance(state, HalfOpen):
            retry_after, why = 0.0, "is half open, and all its probes are out"
        else:
            retry_after, why = seconds_left(state, now), "is open"
        if self._call_listeners:
            passed = self._is_metrics_only
            record = BreakerRefused(self.name, state.kind, retry_after, passed, now)
            tell(self._call_listeners, record)
        if not self._is_metrics_only:
            raise CircuitOpen(f"{self.name} {why}", retry_after=retry_after)

    def _command(self, trigger: Trigger) -> None:
        now = trio.current_time()
        self._move(transition(self._settle(now), trigger, self._limits, now), now)

    def _settle(self, now: float) -> State:
        """The state, once what time alone has led to has happened."""
        state = self._state
        if type(state) is HalfOpen and now >= state.until:
            self._move(settled(state, self._limits, now), state.until)
        return self._state

    def _move(self, after: State, at: float) -> None:
        before, self._state = self._state, after
        if before.kind is after.kind:
            return
        if isinstance(after, Open):
            self._opened += 1
        if self._listeners:
            tell(self._listeners, BreakerTransition(self.name, before.kind, after.kind, at))
