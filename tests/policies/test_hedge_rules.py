"""The hedge's arithmetic: quantiles of a window, and when a try is due."""

from __future__ import annotations

import math

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bulkhead_trio.policies._hedge_rules import Latencies, Race


def latencies(*seconds: float, kept: int = 256) -> Latencies:
    made = Latencies(kept)
    for one in seconds:
        made.add(one)
    return made


def test_latencies_quantile_is_the_nearest_rank() -> None:
    """Of 20, the 95th percentile is the 19th smallest: one in twenty is above it."""
    twenty = latencies(*range(20, 0, -1))
    assert twenty.quantile(0.95) == 19
    assert twenty.quantile(0.951) == 20
    assert twenty.quantile(0.05) == 1
    assert twenty.quantile(0.051) == 2
    assert twenty.quantile(1.0) == 20
    assert twenty.quantile(1e-12) == 1


def test_latencies_quantile_is_not_moved_by_rounding() -> None:
    """0.07 of 100 is 7, though in floating point it is a little more."""
    assert 0.07 * 100 > 7
    assert latencies(*range(1, 101)).quantile(0.07) == 7


def test_latencies_without_any_have_no_quantile() -> None:
    """Nothing can be said yet; one is enough."""
    with pytest.raises(ValueError, match="no latencies"):
        latencies().quantile(0.5)
    assert latencies(3.0).quantile(0.5) == 3.0


def test_latencies_keep_the_newest() -> None:
    """The oldest makes room, even where others are equal to it."""
    kept = latencies(5, 5, 1, kept=3)
    assert len(kept) == 3
    kept.add(2)
    kept.add(3)
    assert [kept.quantile(share) for share in (0.3, 0.6, 0.9)] == [1, 2, 3]


class LatenciesMachine(RuleBasedStateMachine):
    """A window of seven against a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.rule = Latencies(7)
        self.model: list[float] = []

    @rule(seconds=st.integers(0, 5))
    def add(self, seconds: int) -> None:
        self.rule.add(seconds)
        self.model = [*self.model, seconds][-7:]

    @precondition(lambda self: self.model)
    @rule(percent=st.integers(1, 100))
    def quantile(self, percent: int) -> None:
        found = self.rule.quantile(percent / 100)
        assert found in self.model
        needed = percent * len(self.model)
        assert 100 * sum(one <= found for one in self.model) >= needed
        assert 100 * sum(one < found for one in self.model) < needed

    @invariant()
    def counts(self) -> None:
        assert len(self.rule) == len(self.model)


TestLatencies = LatenciesMachine.TestCase


def test_race_starts_at_once_and_then_after_each_delay() -> None:
    """The first try is due whenever, each other one a delay after the one before."""
    race = Race(most=3)
    assert (race.started, race.ended) == (0, 0)
    assert race.due() == -math.inf
    race = race.after_start(10.0, 2.0)
    assert race.due() == 12.0
    race = race.after_start(12.5, 3.0)
    assert race.due() == 15.5
    race = race.after_start(16.0, 2.0)
    assert race.due() == math.inf
    assert (race.started, race.ended) == (3, 0)


def test_race_after_a_failure_starts_the_next_at_once() -> None:
    """There is nothing to wait for; the one after it has its delay again."""
    race = Race(most=3).after_start(0.0, 2.0).after_failure(is_final=False)
    assert race.ended == 1
    assert race.due() == -math.inf
    assert not race.is_lost()
    assert race.after_start(0.5, 2.0).due() == 2.5


def test_race_after_a_final_failure_starts_no_other() -> None:
    """It stays closed, whatever fails afterwards, and is lost once nothing runs."""
    race = Race(most=4).after_start(0.0, 2.0).after_start(2.0, 2.0)
    race = race.after_failure(is_final=True)
    assert race.due() == math.inf
    assert not race.is_lost()
    race = race.after_failure(is_final=False)
    assert race.due() == math.inf
    assert race.is_lost()


def test_race_is_lost_when_all_have_ended() -> None:
    """Not before the first, not while one runs, not while another may start."""
    race = Race(most=2)
    assert not race.is_lost()
    race = race.after_start(0.0, 1.0)
    assert not race.is_lost()
    race = race.after_failure(is_final=False)
    assert not race.is_lost()
    race = race.after_start(0.0, 1.0)
    assert not race.is_lost()
    assert race.after_failure(is_final=False).is_lost()
