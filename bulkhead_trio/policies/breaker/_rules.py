"""The circuit breaker as a state machine: frozen states, and one function that moves between them.

The pattern is Michael Nygard's ("Release It!", 2007). What is exact here:

* Every period in one state has a number, its ``epoch``. A permit carries the epoch it was given in,
  and a result whose epoch is not the state's own changes nothing: it speaks of a time that is over.
* Half-open counts the probes that are under way, so that never more than the permitted number run.
* An outcome can be neither good nor bad (cancelled, refused further in): it only ends the permit.
"""

from __future__ import annotations

import enum
import math
from typing import TypeAlias, assert_never

import attrs


@attrs.frozen
class Limits:
    """When a breaker opens, and how it closes again.

    Attributes:
        failure_threshold: consecutive failures that open it.
        wait_in_open: seconds until the first probe.
        permitted_calls_in_half_open: probes that may run at the same time.
        success_threshold: consecutive successful probes that close it.
    """

    failure_threshold: int
    wait_in_open: float
    permitted_calls_in_half_open: int
    success_threshold: int

    def __attrs_post_init__(self) -> None:
        for name in ("failure_threshold", "permitted_calls_in_half_open", "success_threshold"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if not (self.wait_in_open >= 0 and math.isfinite(self.wait_in_open)):
            raise ValueError(f"wait_in_open must be 0 or more seconds, not {self.wait_in_open}")


@attrs.frozen
class Closed:
    """Everything passes; ``failures`` counts those since the last success."""

    epoch: int = 0
    failures: int = 0


@attrs.frozen
class Open:
    """Nothing passes before ``until``."""

    epoch: int
    failures: int
    until: float


@attrs.frozen
class HalfOpen:
    """A few probes find out whether it works again."""

    epoch: int
    failures: int
    probes: int
    successes: int = 0


State: TypeAlias = Closed | Open | HalfOpen


class Outcome(enum.Enum):
    """How a permitted call ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"


@attrs.frozen
class Admitted:
    """A caller was given a permit."""


@attrs.frozen
class Ended:
    """A permit given in ``epoch`` ended."""

    epoch: int
    outcome: Outcome


Event: TypeAlias = Admitted | Ended


def has_room(state: State, limits: Limits, now: float) -> bool:
    """Whether a call may start at ``now``."""
    match state:
        case Closed():
            return True
        case Open():
            return now >= state.until
        case HalfOpen():
            return state.probes < limits.permitted_calls_in_half_open
        case _:
            assert_never(state)


def seconds_left(state: State, now: float) -> float:
    """What is left of the cooldown; 0 where there is none."""
    return max(0.0, state.until - now) if isinstance(state, Open) else 0.0


def transition(state: State, event: Event, limits: Limits, now: float) -> State:
    """The state after ``event`` at ``now``.

    Raises:
        ValueError: `Admitted` where `has_room` says no; the shell never asks that.
    """
    if isinstance(event, Admitted):
        return _admitted(state, limits, now)
    if event.epoch != state.epoch:
        return state
    match state:
        case Closed():
            return _closed_after(state, event.outcome, limits, now)
        case HalfOpen():
            return _half_open_after(state, event.outcome, limits, now)
        case Open():
            # Opening starts a new epoch and no permit is given in it.
            return state
        case _:
            assert_never(state)


def _admitted(state: State, limits: Limits, now: float) -> State:
    if not has_room(state, limits, now):
        raise ValueError("no permit may be given now")
    match state:
        case Closed():
            return state
        case Open():
            return HalfOpen(epoch=state.epoch + 1, failures=state.failures, probes=1)
        case HalfOpen():
            return attrs.evolve(state, probes=state.probes + 1)
        case _:
            assert_never(state)


def _closed_after(state: Closed, outcome: Outcome, limits: Limits, now: float) -> State:
    match outcome:
        case Outcome.SUCCESS:
            return attrs.evolve(state, failures=0) if state.failures else state
        case Outcome.IGNORED:
            return state
        case Outcome.FAILURE:
            failures = state.failures + 1
            if failures < limits.failure_threshold:
                return attrs.evolve(state, failures=failures)
            return _opened(state, failures, limits, now)
        case _:
            assert_never(outcome)


def _half_open_after(state: HalfOpen, outcome: Outcome, limits: Limits, now: float) -> State:
    match outcome:
        case Outcome.IGNORED:
            return attrs.evolve(state, probes=state.probes - 1)
        case Outcome.FAILURE:
            return _opened(state, state.failures + 1, limits, now)
        case Outcome.SUCCESS:
            successes = state.successes + 1
            if successes < limits.success_threshold:
                return attrs.evolve(state, probes=state.probes - 1, successes=successes)
            return Closed(epoch=state.epoch + 1)
        case _:
            assert_never(outcome)


def _opened(state: State, failures: int, limits: Limits, now: float) -> Open:
    return Open(epoch=state.epoch + 1, failures=failures, until=now + limits.wait_in_open)
