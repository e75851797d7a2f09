"""The line of those who wait, against a model that works everything out anew at every step."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from bulkhead_trio.policies.rate import (
    FixedWindow,
    LeakyBucket,
    Rule,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
)
from bulkhead_trio.policies.rate._line_rules import Line, Place

QUOTAS: list[Rule[Any]] = [
    FixedWindow(limit=3, seconds=8),
    SlidingWindow(limit=3, seconds=8),
    SlidingLog(limit=3, seconds=8),
    TokenBucket(rate=0.5, capacity=3),
    LeakyBucket(rate=0.5, capacity=3, pacing=True),
]


@attrs.define
class Wanted:
    """What the model thinks of one place."""

    place: Place[Any]
    at: float = math.inf


class WaitingLine(RuleBasedStateMachine):
    """Joins, leaves, steps of time and requests that do not wait, in any order.

    Times are in eighths, so that sums are exact and everything may be compared by equality.
    """

    @initialize(quota=st.sampled_from(QUOTAS))
    def start(self, quota: Rule[Any]) -> None:
        self.rule = quota
        self.line = Line(quota, quota.initial())
        self.state = quota.initial()
        self.before_newest: tuple[Place[Any], Any] | None = None
        self.now = 1000.0
        self.waiting: list[Wanted] = []

    def model_moment(self, state: Any, earliest: float, cost: int) -> tuple[float, Any]:
        after, decision = self.rule.decide(state, earliest, cost)
        if decision.allowed:
            return earliest, after
        at = earliest + decision.retry_after
        after, decision = self.rule.decide(state, at, cost)
        assert decision.allowed
        return at, after

    def work_out(self) -> None:
        """Everybody's moment, from the state and the order alone; it never gets later."""
        state, at = self.state, self.now
        for wanted in self.waiting:
            at, state = self.model_moment(state, at, wanted.place.cost)
            assert at <= wanted.at + 1e-9
            wanted.at = at

    @rule(cost=st.integers(1, 3))
    def join(self, cost: int) -> None:
        asked = self.line.ask(self.now, cost)
        place = self.line.join(self.now, cost)
        self.waiting.append(Wanted(place))
        self.work_out()
        assert place.at == pytest.approx(self.waiting[-1].at)
        assert self.now + asked.retry_after == pytest.approx(place.at)
        self.settle()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        wanted = data.draw(st.sampled_from(self.waiting))
        self.line.leave(wanted.place, self.now)
        self.waiting.remove(wanted)
        self.work_out()
        assert not wanted.place.is_in_line
        assert not wanted.place.has_gone
        self.settle()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def look(self, data: st.DataObject) -> None:
        wanted = data.draw(st.sampled_from(self.waiting))
        self.line.refresh(wanted.place)
        assert wanted.place.at == pytest.approx(wanted.at)

    @rule(eighths=st.integers(0, 60))
    def pass_time(self, eighths: int) -> None:
        self.now += eighths / 8
        self.settle()

    @rule(cost=st.integers(1, 4))
    def take(self, cost: int) -> None:
        if self.waiting:
            expected = False
        else:
            self.state, decision = self.rule.decide(self.state, self.now, cost)
            expected = decision.allowed
        asked = self.line.ask(self.now, cost)
        got = self.line.decide(self.now, cost)
        assert got.allowed == expected
        if expected:
            self.before_newest = None
            return
        assert got == asked
        assert got.retry_after > 0
        assert (got.retry_after == math.inf) == (cost > 3)
        if self.waiting:
            assert (got.remaining, got.limit) == (0, self.rule.limit)
            assert self.now + got.reset_after >= self.waiting[-1].at
            assert self.now + got.retry_after >= self.waiting[-1].at

    @precondition(lambda self: self.before_newest is not None)
    @rule()
    def take_back(self) -> None:
        assert self.before_newest is not None
        place, self.state = self.before_newest
        self.before_newest = None
        assert self.line.take_back(place, self.now)
        assert not place.has_gone
        assert not self.line.take_back(place, self.now)
        for wanted in self.waiting:
            wanted.at = math.inf  # a window that never began may begin anew a little later
        self.work_out()
        self.settle()

    def settle(self) -> None:
        while (place := self.line.next_to_go(self.now)) is not None:
            wanted = self.waiting.pop(0)
            assert wanted.place is place
            assert place.has_gone
            assert place.decision.allowed
            assert place.at == pytest.approx(wanted.at)
            before = self.state
            self.state, decision = self.rule.decide(self.state, place.at, place.cost)
            assert decision.allowed
            self.before_newest = (place, before)
        assert all(wanted.at > self.now for wanted in self.waiting)

    @invariant()
    def line_is_the_model(self) -> None:
        assert self.line.length == len(self.waiting)
        assert self.line.units == sum(wanted.place.cost for wanted in self.waiting)
        assert self.line.state == self.state
        assert self.line.first is (self.waiting[0].place if self.waiting else None)


TestWaitingLine = WaitingLine.TestCase
TestWaitingLine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_line_timer_is_for_the_first_who_is_waited_for() -> None:
    """Reservations that nobody waits for are passed over, and the moment is found anew."""
    line = Line(rule := TokenBucket(rate=1, capacity=1), rule.initial())
    assert line.first_with_waiter() is None
    for _ in range(5):
        line.join(0.0, 1)
    assert line.next_to_go(0.0) is not None
    assert line.next_to_go(0.0) is None
    assert line.first_with_waiter() is None
    first = line.first
    assert first is not None
    second = first.next
    assert second is not None
    third = second.next
    assert third is not None
    third.waiter = object()
    assert line.first_with_waiter() is third
    assert third.at == 3.0
    line.leave(second, 0.5)
    assert third.at == 3.0  # the latest it can be, until somebody asks
    assert line.first_with_waiter() is third
    assert third.at == 2.0


def test_line_cost_that_never_passes_has_no_moment() -> None:
    """Asked behind others, too large a cost waits for ever."""
    line = Line(rule := SlidingLog(limit=2, seconds=5), rule.initial())
    line.join(0.0, 2)
    line.next_to_go(0.0)
    line.join(0.0, 1)
    assert line.ask(0.0, 3).retry_after == math.inf
    assert line.ask(0.0, 2).retry_after == 10.0
    assert line.ask(0.0, 1).retry_after == 5.0


def test_line_closed_takes_nothing_back() -> None:
    """Once its state is kept elsewhere, what went has gone."""
    line = Line(rule := TokenBucket(rate=1, capacity=1), rule.initial())
    place = line.join(0.0, 1)
    line.next_to_go(0.0)
    assert line.close() == line.state
    assert not line.take_back(place, 0.0)


def test_line_a_thousand_who_leave_cost_little() -> None:
    """Moments are found anew when somebody asks, not once for each who leaves."""
    asked = 0

    class Counting(TokenBucket):
        def decide(self, state: Any, now: float, cost: int = 1) -> Any:
            nonlocal asked
            asked += 1
            return super().decide(state, now, cost)

    line = Line(rule := Counting(rate=1, capacity=1), rule.initial())
    places = [line.join(0.0, 1) for _ in range(1000)]
    asked = 0
    for place in places[1:]:
        line.leave(place, 0.0)
        line.next_to_go(0.0)
    assert asked <= 2 * 1000
    assert line.length == 0
