"""The breaker's rules, and the breaker itself, against a model of it, under random schedules."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from bulkhead_trio.errors import CircuitOpen
from bulkhead_trio.policies.breaker import (
    BreakerOutcome,
    CircuitBreaker,
    Consecutive,
    CountWindow,
    Permit,
    TimeWindow,
)
from bulkhead_trio.policies.breaker._rules import (
    Trigger,
    admitted,
    closed_at,
    ended,
    failures_of,
    has_room,
    seconds_left,
    settled,
    transition,
)
from bulkhead_trio.policies.breaker._states import Closed, HalfOpen, Limits, State, limits_of
from tests.policies.breaker._model import Model

OK, FAILED, IGNORED = BreakerOutcome.SUCCESS, BreakerOutcome.FAILURE, BreakerOutcome.IGNORED


OPTIONS = st.fixed_dictionaries(
    {
        "window": st.sampled_from(
            [Consecutive(1), Consecutive(3), CountWindow(1), CountWindow(4), TimeWindow(20.0)]
        ),
        "failure_rate_threshold": st.sampled_from([0.25, 0.5, 0.6, 1.0]),
        "slow_call_duration_threshold": st.just(1.0),
        "slow_call_rate_threshold": st.sampled_from([0.5, 1.0]),
        "minimum_number_of_calls": st.sampled_from([1, 2, 4]),
        "wait_in_open": st.sampled_from([(10.0,), (0.0,), (1.0, 5.0, 9.0)]),
        "permitted_calls_in_half_open": st.sampled_from([1, 2, 5]),
        "success_threshold": st.sampled_from([1, 2, 4]),
        "max_wait_in_half_open": st.sampled_from([None, 6.0]),
    }
)


def sensible(options: dict[str, Any]) -> dict[str, Any]:
    """Leave out what the window does not know."""
    window = options["window"]
    if isinstance(window, Consecutive):
        unknown = ("failure_rate_threshold", "slow_call_rate_threshold", "minimum_number_of_calls")
        return {**options, **dict.fromkeys(unknown)}
    if isinstance(window, CountWindow):
        least = min(options["minimum_number_of_calls"], window.size)
        return {**options, "minimum_number_of_calls": least}
    return options


class BreakerMachine(RuleBasedStateMachine):
    """The rules and the model take the same steps, and always agree."""

    permits: Bundle[tuple[int, int]] = Bundle("permits")

    @initialize(options=OPTIONS.map(sensible))
    def make(self, options: dict[str, Any]) -> None:
        self.limits: Limits = limits_of(**options)
        self.model = Model(options)
        self.state: State = closed_at(0.0, self.limits)
        self.now = 0.0
        self.serial = 0

    def settle(self) -> None:
        self.state = settled(self.state, self.limits, self.now)
        self.model.time_passes(self.now)

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 6.0, 10.0]) | st.floats(0, 7))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=permits)
    def admit(self) -> tuple[int, int]:
        self.settle()
        self.serial += 1
        if not self.model.has_room(self.now):
            assert not has_room(self.state, self.limits, self.now)
            with pytest.raises(ValueError, match="no permit"):
                admitted(self.state, self.limits, self.now)
            return (self.serial, -1)
        assert has_room(self.state, self.limits, self.now)
        self.state = admitted(self.state, self.limits, self.now)
        self.model.admit(self.serial, self.now)
        return (self.serial, self.state.epoch)

    @rule(
        permit=consumes(permits),
        outcome=st.sampled_from([OK, FAILED, FAILED, IGNORED]),
        slow=st.sampled_from([False, False, False, True]),
    )
    def end(self, permit: tuple[int, int], outcome: BreakerOutcome, slow: bool) -> None:
        self.settle()
        serial, epoch = permit
        before, is_current = self.state, serial in self.model.current
        self.state = ended(before, epoch, outcome, slow, self.limits, self.now)
        self.model.end(serial, outcome, slow, self.now)
        if not is_current:
            assert self.state is before

    @rule(outcomes=st.lists(st.sampled_from([FAILED, FAILED, OK]), min_size=2, max_size=6))
    def calls(self, outcomes: list[BreakerOutcome]) -> None:
        for outcome in outcomes:
            self.end(self.admit(), outcome, False)

    @precondition(lambda self: self.model.kind == "OPEN")
    @rule(outcome=st.sampled_from([OK, FAILED]))
    def cooldown_passes_and_a_probe(self, outcome: BreakerOutcome) -> None:
        self.now = max(self.now, self.model.opened_at + self.model.cooldown)
        self.end(self.admit(), outcome, False)

    @precondition(lambda self: self.serial % 8 == 7)
    @rule(trigger=st.sampled_from([Trigger.FORCE_OPEN, Trigger.DISABLE, *[Trigger.RESET] * 3]))
    def command(self, trigger: Trigger) -> None:
        self.settle()
        before = self.state
        self.state = transition(before, trigger, self.limits, self.now)
        target = {
            Trigger.FORCE_OPEN: "FORCED_OPEN", Trigger.DISABLE: "DISABLED",
            Trigger.RESET: "CLOSED",
        }[trigger]  # fmt: skip
        assert (self.state is before) == (self.model.kind == target != "CLOSED")
        if self.state is not before:
            self.model.move(target)

    @invariant()
    def agrees(self) -> None:
        self.settle()
        model, state, now = self.model, self.state, self.now
        assert state.kind.value == model.kind
        tally = state.tally.at(now) if isinstance(state, Closed) else state.tally
        failures = tally.failures if isinstance(state, Closed) else failures_of(state)
        assert failures == model.failures(now)
        assert has_room(state, self.limits, now) == model.has_room(now)
        left = model.opened_at + model.cooldown - now if model.kind == "OPEN" else 0.0
        assert seconds_left(state, now) == pytest.approx(max(0.0, left))
        if isinstance(state, HalfOpen):
            assert state.probes == len(model.current) <= self.limits.permitted
            assert state.ended == len(model.trial) < self.limits.trial
        if isinstance(state, Closed):
            view = model.in_view(now)
            assert tally.calls == len(view)
            if not isinstance(self.limits.window, Consecutive):
                assert tally.slow == sum(slow for _, _, slow in view)


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)


# --- the breaker itself --------------------------------------------------------------------------

STEPS = st.lists(
    st.sampled_from(
        [
            *(0.5, 1.0, 3.0, 10.0),
            *("enter", "enter", "enter", "enter", "enter", "check"),
            *((FAILED, FAILED, OK) * 6),
            *(IGNORED, "reset", "force_open", "disable"),
        ]
    )
    | st.tuples(st.integers(0, 9), st.sampled_from([OK, FAILED, FAILED, IGNORED])),
    min_size=30,
    max_size=80,
)
"""Seconds pass; somebody enters; a whole call ends so; by hand; one that is in ends so."""


@attrs.define
class Run:
    """A breaker and its model, driven by the same steps."""

    breaker: CircuitBreaker
    model: Model
    permits: list[tuple[int, float, Permit]] = attrs.Factory(list)
    ends: dict[BreakerOutcome, int] = attrs.Factory(lambda: dict.fromkeys(BreakerOutcome, 0))
    serial: int = 0
    refused: int = 0

    def enter(self, now: float) -> bool:
        self.serial += 1
        permit = self.breaker.permit()
        if self.model.has_room(now):
            permit.__enter__()
            self.model.admit(self.serial, now)
            uncounted = self.model.kind == "DISABLED"
            self.permits.append((-1 if uncounted else self.serial, now, permit))
            return True
        self.refused += 1
        with pytest.raises(CircuitOpen) as error:
            permit.__enter__()
        if self.model.kind == "OPEN":
            left = self.model.opened_at + self.model.cooldown - now
            assert error.value.retry_after == pytest.approx(left)
        return False

    def check(self, now: float) -> None:
        if self.model.has_room(now):
            self.breaker.check()
            return
        self.refused += 1
        with pytest.raises(CircuitOpen):
            self.breaker.check()

    def leave(self, number: int, outcome: BreakerOutcome, now: float) -> None:
        if not self.permits:
            return
        serial, began, permit = self.permits.pop(number % len(self.permits))
        self.model.end(serial, outcome, now - began > 1.0, now)
        if serial >= 0:
            self.ends[outcome] += 1
        error = {OK: None, FAILED: OSError(), IGNORED: KeyError()}[outcome]
        permit.__exit__(type(error) if error else None, error, None)

    def command(self, name: str) -> None:
        target = {"reset": "CLOSED", "force_open": "FORCED_OPEN", "disable": "DISABLED"}[name]
        getattr(self.breaker, name)()
        if self.model.kind != target or name == "reset":
            self.model.move(target)

    def agrees(self, now: float) -> None:
        known, model = self.breaker.statistics(), self.model
        waits_for_probe = model.kind == "OPEN" and model.has_room(now)
        assert known.state.value == ("HALF_OPEN" if waits_for_probe else model.kind)
        assert known.failures == model.failures(now)
        assert known.probes == (len(model.current) if model.kind == "HALF_OPEN" else 0)
        assert (known.opened, known.refused) == (model.opened, self.refused)
        assert (known.succeeded, known.failed, known.ignored) == (
            self.ends[OK], self.ends[FAILED], self.ends[IGNORED],
        )  # fmt: skip
        if model.kind == "CLOSED":
            view = model.in_view(now)
            assert known.calls == len(view)
            if not view or isinstance(model.options["window"], Consecutive):
                assert (known.failure_rate, known.slow_rate) == (None, None)
            else:
                assert known.failure_rate == sum(failed for _, failed, _ in view) / len(view)
                assert known.slow_rate == sum(slow for _, _, slow in view) / len(view)


@given(options=OPTIONS.map(sensible), steps=STEPS)
@settings(max_examples=150, deadline=None)
def test_breaker_agrees_with_its_model(options: dict[str, Any], steps: list[Any]) -> None:
    """Whatever comes in whatever order: who is let in, what is refused, and all the numbers."""
    clock = trio.testing.MockClock()

    async def drive() -> None:
        run = Run(CircuitBreaker("model", ignore=KeyError, **options), Model(options))
        for step in steps:
            if isinstance(step, float):
                clock.jump(step)
            now = trio.current_time()
            run.model.time_passes(now)
            if isinstance(step, tuple):
                run.leave(step[0], step[1], now)
            elif isinstance(step, BreakerOutcome):
                if run.enter(now):
                    run.leave(len(run.permits) - 1, step, now)
            elif step in {"enter", "check"}:
                getattr(run, step)(now)
            elif isinstance(step, str):
                run.command(step)
            run.agrees(now)

    trio.run(drive, clock=clock)
