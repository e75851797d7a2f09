"""The circuit breaker as a state machine: a table of moves, and one function that follows it.

The pattern is Michael Nygard's ("Release It!", 2007). What is exact here:

* `MOVES` is all there is: no state follows another except by a row of it, and the diagram in the
  docs is drawn from it.
* Every period in one state has a number, its ``epoch``. A permit carries the epoch it was given in,
  and a result whose epoch is not the state's own changes nothing: it speaks of a time that is over.
* Half-open counts the probes that are under way, so that never more than the permitted number run.
* An outcome can be neither good nor bad (cancelled, refused further in): it only ends the permit.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, TypeAlias

import attrs

from bulkhead_trio.policies.breaker._outcome_rules import BreakerOutcome
from bulkhead_trio.policies.breaker._states import (
    BreakerState,
    Closed,
    Disabled,
    ForcedOpen,
    HalfOpen,
    Limits,
    Open,
    State,
)

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
FORCED_OPEN, DISABLED = BreakerState.FORCED_OPEN, BreakerState.DISABLED
FAILURE, IGNORED = BreakerOutcome.FAILURE, BreakerOutcome.IGNORED


class Trigger(enum.Enum):
    """What happens to a breaker."""

    __hash__ = object.__hash__  # as `BreakerState`

    CALL_ASKS = "a call asks"
    CALL_ENDED = "a call ended"
    TIME_PASSED = "time passed"
    FORCE_OPEN = "force_open()"
    DISABLE = "disable()"
    RESET = "reset()"


_CALL_ENDED = Trigger.CALL_ENDED  # a global is found faster than an enum's member


# --- conditions ----------------------------------------------------------------------------------


def _always(state: State, limits: Limits, now: float) -> bool:  # noqa: ARG001
    return True


def _window_opens(state: Closed, limits: Limits, now: float) -> bool:  # noqa: ARG001
    return state.tally.opens(limits.thresholds)


def _cooldown_is_over(state: Open, limits: Limits, now: float) -> bool:  # noqa: ARG001
    return now >= state.until


def _trial_failed(state: HalfOpen, limits: Limits, now: float) -> bool:  # noqa: ARG001
    bad = state.ended - state.good
    if bad > limits.trial - limits.successes:
        return True
    return limits.window.fails_trial(state.failed, state.slow, limits.trial, limits.thresholds)


def _trial_succeeded(state: HalfOpen, limits: Limits, now: float) -> bool:  # noqa: ARG001
    return state.good >= limits.successes


def _trial_took_too_long(state: HalfOpen, limits: Limits, now: float) -> bool:  # noqa: ARG001
    return now >= state.until


# --- the table -----------------------------------------------------------------------------------

Condition: TypeAlias = Callable[[Any, Limits, float], bool]


@attrs.frozen
class Move:
    """One row: in ``source``, when ``trigger`` happens and ``condition`` holds, go to ``target``.

    Attributes:
        when: the condition in words; empty where there is none.
    """

    source: BreakerState
    trigger: Trigger
    target: BreakerState
    when: str = ""
    condition: Condition = _always


MOVES: tuple[Move, ...] = (
    Move(CLOSED, Trigger.CALL_ENDED, OPEN, "the window reaches a threshold", _window_opens),
    Move(OPEN, Trigger.CALL_ASKS, HALF_OPEN, "wait_in_open is over", _cooldown_is_over),
    Move(
        HALF_OPEN, Trigger.CALL_ENDED, CLOSED, "success_threshold probes are good", _trial_succeeded
    ),
    Move(HALF_OPEN, Trigger.CALL_ENDED, OPEN, "too many probes are bad", _trial_failed),
    Move(
        HALF_OPEN, Trigger.TIME_PASSED, OPEN, "max_wait_in_half_open is over", _trial_took_too_long
    ),
    *(Move(each, Trigger.FORCE_OPEN, FORCED_OPEN) for each in BreakerState if each != FORCED_OPEN),
    *(Move(each, Trigger.DISABLE, DISABLED) for each in BreakerState if each != DISABLED),
    *(Move(each, Trigger.RESET, CLOSED) for each in BreakerState),
)
"""Every way from a state to the next. Rows of one state and trigger exclude each other."""


def _rows_of(source: BreakerState, trigger: Trigger) -> tuple[Move, ...]:
    return tuple(row for row in MOVES if row.source is source and row.trigger is trigger)


_ROWS = {
    trigger: {source: _rows_of(source, trigger) for source in BreakerState} for trigger in Trigger
}


def transition(state: State, trigger: Trigger, limits: Limits, now: float) -> State:
    """The state after ``trigger`` at ``now``: the next one by the table, or ``state`` itself."""
    for row in _ROWS[trigger][state.kind]:
        if row.condition(state, limits, now):
            return _ENTER[row.target](state, limits, now)
    return state


# --- entering a state: always a new epoch --------------------------------------------------------


def closed_at(now: float, limits: Limits, epoch: int = 0) -> Closed:
    """A clean start at ``now``."""
    return Closed(epoch, limits.window.empty(now))


def _enter_closed(state: State, limits: Limits, now: float) -> State:
    return closed_at(now, limits, state.epoch + 1)


def _enter_open(state: State, limits: Limits, now: float) -> State:
    openings = state.openings + 1 if isinstance(state, HalfOpen) else 1
    return Open(
        epoch=state.epoch + 1,
        tally=state.tally,
        failures=failures_of(state),
        openings=openings,
        until=now + limits.wait_in_open(openings),
    )


def _enter_half_open(state: State, limits: Limits, now: float) -> State:
    assert isinstance(state, Open)  # noqa: S101  the table leads here from nowhere else
    return HalfOpen(
        epoch=state.epoch + 1,
        tally=state.tally,
        failures=state.failures,
        openings=state.openings,
        until=now + limits.longest_half_open,
    )


def _enter_forced_open(state: State, limits: Limits, now: float) -> State:
    return ForcedOpen(state.epoch + 1, limits.window.empty(now))


def _enter_disabled(state: State, limits: Limits, now: float) -> State:
    return Disabled(state.epoch + 1, limits.window.empty(now))


_ENTER: dict[BreakerState, Callable[[State, Limits, float], State]] = {
    CLOSED: _enter_closed,
    OPEN: _enter_open,
    HALF_OPEN: _enter_half_open,
    FORCED_OPEN: _enter_forced_open,
    DISABLED: _enter_disabled,
}


# --- what a call does ----------------------------------------------------------------------------


def has_room(state: State, limits: Limits, now: float) -> bool:
    """Whether a call may start at ``now``; of a state that is `settled`."""
    if isinstance(state, HalfOpen):
        return (
            state.probes < limits.permitted
            # Calls beyond those on which it is judged could only come too late.
            and state.probes + state.ended < limits.trial
        )
    if isinstance(state, Open):
        return now >= state.until
    return state.kind is not FORCED_OPEN


def settled(state: State, limits: Limits, now: float) -> State:
    """The state that time alone has led to; as of the moment that was due, however late it is."""
    if isinstance(state, HalfOpen):
        return transition(state, Trigger.TIME_PASSED, limits, min(now, state.until))
    return state


def admitted(state: State, limits: Limits, now: float) -> State:
    """The state once a call has started in it.

    Raises:
        ValueError: `has_room` says no; the shell never asks that.
    """
    if not has_room(state, limits, now):
        raise ValueError("no permit may be given now")
    state = transition(state, Trigger.CALL_ASKS, limits, now)
    return attrs.evolve(state, probes=state.probes + 1) if isinstance(state, HalfOpen) else state


def ended(
    state: State, epoch: int, outcome: BreakerOutcome, is_slow: bool, limits: Limits, now: float
) -> State:
    """The state once a call that started in ``epoch`` has ended; of one that is `settled`."""
    if epoch != state.epoch:
        return state
    if isinstance(state, Closed):
        if outcome is IGNORED:
            return state
        tally = state.tally.after(outcome is FAILURE, is_slow, now)
        if tally is state.tally:
            return state
        return transition(Closed(epoch, tally), _CALL_ENDED, limits, now)
    if isinstance(state, HalfOpen):
        return transition(_probed(state, outcome, is_slow), _CALL_ENDED, limits, now)
    return state


def _probed(state: HalfOpen, outcome: BreakerOutcome, is_slow: bool) -> HalfOpen:
    probes = state.probes - 1
    if outcome is IGNORED:
        return attrs.evolve(state, probes=probes)
    failed = outcome is FAILURE
    return attrs.evolve(
        state,
        probes=probes,
        ended=state.ended + 1,
        good=state.good + (not failed and not is_slow),
        failed=state.failed + failed,
        slow=state.slow + is_slow,
    )


# --- what can be read off it ---------------------------------------------------------------------


def failures_of(state: State) -> int:
    """Failures that the window holds; after opening, those that opened it and failed probes."""
    if isinstance(state, HalfOpen):
        return state.failures + state.failed
    return state.failures if isinstance(state, Open) else state.tally.failures


def shown(state: State, now: float) -> BreakerState:
    """The state's name; an open one whose cooldown is over waits for a probe: half open."""
    return HALF_OPEN if isinstance(state, Open) and now >= state.until else state.kind


def seconds_left(state: State, now: float) -> float:
    """What is left of the cooldown; 0 where there is none."""
    return max(0.0, state.until - now) if isinstance(state, Open) else 0.0
