"""Counting in buckets, against a list of everything that was ever counted."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bulkhead_trio.policies._recent_rules import RecentCount


def test_recent_count_keeps_a_bucket_until_it_is_out_of_view() -> None:
    """With three buckets of a second, what came at 0.9 is gone at 3.0 and not before."""
    recent = RecentCount(width=1.0, buckets=3)
    assert recent.total(0.5) == 0
    assert recent.add(0.9) == 0
    assert recent.add(1.0) == 1
    assert recent.total(2.9) == 2
    assert recent.total(3.0) == 1
    assert recent.total(3.9) == 1
    assert recent.total(4.0) == 0


def test_recent_count_after_a_long_silence() -> None:
    """However long nothing was asked, all that is old is gone and nothing new is lost."""
    recent = RecentCount(width=0.5, buckets=4)
    for _ in range(3):
        recent.add(1.0)
    assert recent.add(1_000_000.25) == 2_000_000
    assert recent.total(1_000_000.25) == 1
    assert recent.total(1_000_001.75) == 1
    assert recent.total(1_000_002.0) == 0


def test_recent_count_when_the_clock_goes_back() -> None:
    """It counts in the newest bucket there is, and is not undone by time that is over."""
    recent = RecentCount(width=1.0, buckets=2)
    recent.add(10.0)
    assert recent.add(3.0) == 10
    assert recent.total(3.0) == 2
    assert recent.total(11.0) == 2
    assert recent.total(12.0) == 0


@pytest.mark.parametrize(("later", "left"), [(0.0, 1), (2.9, 1), (3.0, 0)])
def test_recent_count_takes_back(later: float, left: int) -> None:
    """One of two is gone from where it was; out of view it is gone already."""
    recent = RecentCount(width=1.0, buckets=3)
    tick = recent.add(0.0)
    recent.add(0.0)
    recent.take_back(tick, later)
    assert recent.total(later) == left
    assert recent.total(5.9) == 0


class RecentCountMachine(RuleBasedStateMachine):
    """Random times, counts and take-backs; the model keeps every bucket number ever used."""

    @initialize(buckets=st.integers(1, 5), start=st.integers(0, 40))
    def begin(self, buckets: int, start: int) -> None:
        self.buckets = buckets
        self.now = start / 4
        self.recent = RecentCount(width=1.0, buckets=buckets)
        self.ticks: list[int] = []

    @rule(quarters=st.integers(0, 30))
    def time_passes(self, quarters: int) -> None:
        self.now += quarters / 4

    @rule()
    def count(self) -> None:
        tick = self.recent.add(self.now)
        assert tick == int(self.now)
        self.ticks.append(tick)

    @precondition(lambda self: self.ticks)
    @rule(data=st.data())
    def take_back(self, data: st.DataObject) -> None:
        tick = data.draw(st.sampled_from(self.ticks))
        self.ticks.remove(tick)
        self.recent.take_back(tick, self.now)

    @invariant()
    def total_is_that_of_the_model(self) -> None:
        if hasattr(self, "recent"):
            in_view = [tick for tick in self.ticks if tick > int(self.now) - self.buckets]
            assert self.recent.total(self.now) == len(in_view)


TestRecentCountMachine = RecentCountMachine.TestCase
