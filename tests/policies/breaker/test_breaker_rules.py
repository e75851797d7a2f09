"""The breaker's transition function against a simple model, under random schedules."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

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

THRESHOLD = 3
COOLDOWN = 10.0
PROBES = 2
SUCCESSES = 2

LIMITS = Limits(
    failure_threshold=THRESHOLD,
    wait_in_open=COOLDOWN,
    permitted_calls_in_half_open=PROBES,
    success_threshold=SUCCESSES,
)


class BreakerMachine(RuleBasedStateMachine):
    """Compares with a model that keeps plain numbers and lists and knows no epochs.

    The model remembers which permits are current; every move forgets them, which is what "a result
    that arrives after the state has moved on changes nothing" means.
    """

    permits: Bundle[tuple[int, int]] = Bundle("permits")

    def __init__(self) -> None:
        super().__init__()
        self.state: State = Closed()
        self.now = 0.0
        self.serial = 0
        self.kind = "closed"
        self.failures = 0
        self.successes = 0
        self.opened_at = 0.0
        self.current: set[int] = set()

    def model_has_room(self) -> bool:
        if self.kind == "open":
            return self.now >= self.opened_at + COOLDOWN
        return self.kind == "closed" or len(self.current) < PROBES

    @rule(seconds=st.floats(0, 7))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=permits)
    def admit(self) -> tuple[int, int]:
        self.serial += 1
        if not self.model_has_room():
            assert not has_room(self.state, LIMITS, self.now)
            with pytest.raises(ValueError, match="no permit"):
                transition(self.state, Admitted(), LIMITS, self.now)
            return (self.serial, -1)
        assert has_room(self.state, LIMITS, self.now)
        self.state = transition(self.state, Admitted(), LIMITS, self.now)
        if self.kind == "open":
            self.move("half open")
        self.current.add(self.serial)
        return (self.serial, self.state.epoch)

    @rule(permit=consumes(permits), outcome=st.sampled_from(Outcome))
    def end(self, permit: tuple[int, int], outcome: Outcome) -> None:
        serial, epoch = permit
        before = self.state
        self.state = transition(self.state, Ended(epoch, outcome), LIMITS, self.now)
        if serial not in self.current:
            assert self.state == before
            return
        self.current.discard(serial)
        if outcome is Outcome.FAILURE:
            self.failures += 1
            if self.kind == "half open" or self.failures >= THRESHOLD:
                self.opened_at = self.now
                self.move("open")
        elif outcome is Outcome.SUCCESS:
            if self.kind == "closed":
                self.failures = 0
            else:
                self.successes += 1
                if self.successes >= SUCCESSES:
                    self.failures = 0
                    self.move("closed")

    def move(self, kind: str) -> None:
        self.kind = kind
        self.current.clear()
        self.successes = 0

    @invariant()
    def agrees(self) -> None:
        match self.state:
            case Closed(failures=failures):
                assert (self.kind, self.failures) == ("closed", failures)
                assert failures < THRESHOLD
            case Open(failures=failures, until=until):
                assert (self.kind, self.failures) == ("open", failures)
                assert until == self.opened_at + COOLDOWN
                assert seconds_left(self.state, self.now) == max(0.0, until - self.now)
            case HalfOpen(failures=failures, probes=probes, successes=successes):
                assert (self.kind, self.failures) == ("half open", failures)
                assert probes == len(self.current) <= PROBES
                assert successes == self.successes < SUCCESSES
        assert has_room(self.state, LIMITS, self.now) == self.model_has_room()


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)


def nonsense() -> Iterator[tuple[str, float]]:
    for name in ("failure_threshold", "permitted_calls_in_half_open", "success_threshold"):
        yield name, 0
        yield name, -1
    for value in (-1.0, math.nan, math.inf):
        yield "wait_in_open", value


@pytest.mark.parametrize(("name", "value"), list(nonsense()))
def test_limits_nonsense_is_refused_by_name(name: str, value: float) -> None:
    """A value that means nothing raises, and the message names the parameter."""
    sound = {
        "failure_threshold": 5,
        "wait_in_open": 1.0,
        "permitted_calls_in_half_open": 1,
        "success_threshold": 1,
    }
    with pytest.raises(ValueError, match=name):
        Limits(**{**sound, name: value})  # type: ignore[arg-type]
