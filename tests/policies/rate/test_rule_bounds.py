"""How much each rule lets pass, against exact references over everything that passed."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.policies.rate import LeakyBucket, SlidingLog, SlidingWindow, TokenBucket
from tests.policies.rate._rules_under_test import (
    BUCKETS,
    METERS,
    PACERS,
    SLIDING_LOGS,
    SLIDING_WINDOWS,
    STARTS,
    STEPS,
    run,
)

SLACK = 1e-6
"""What rounding may add, in units."""


@given(rule=SLIDING_LOGS, start=STARTS, steps=STEPS)
def test_log_decides_as_one_that_remembers_everything(
    rule: SlidingLog, start: float, steps: list[tuple[float, int]]
) -> None:
    """A request passes just when those that passed in the window before it leave room."""
    state, now = rule.initial(), start
    passed: list[tuple[float, int]] = []
    for part, cost in steps:
        now += part * rule.seconds
        cost = 1 + cost % rule.limit
        used = sum(units for at, units in passed if at + rule.seconds > now)
        state, decision = rule.decide(state, now, cost)
        assert decision.allowed == (used + cost <= rule.limit)
        if decision.allowed:
            passed.append((now, cost))
            assert len(state.entries) <= rule.limit
            assert state.used == used + cost


@given(rule=st.one_of(BUCKETS, METERS), start=STARTS, steps=STEPS)
def test_bucket_decides_as_one_of_exact_fractions(
    rule: TokenBucket | LeakyBucket, start: float, steps: list[tuple[float, int]]
) -> None:
    """A request passes when the exact bucket holds its cost, but for what rounding may decide."""
    rate, level, last = Fraction(rule.rate), Fraction(rule.capacity), Fraction(start)
    state, now = rule.initial(), start
    for part, cost in steps:
        now += part * rule.window
        cost = 1 + cost % rule.capacity
        level = min(Fraction(rule.capacity), level + (Fraction(now) - last) * rate)
        last = Fraction(now)
        state, decision = rule.decide(state, now, cost)
        if abs(level - cost) > SLACK:
            assert decision.allowed == (level >= cost)
        if decision.allowed:
            level -= cost
            assert state.units == pytest.approx(float(level), abs=SLACK)


@given(rule=st.one_of(BUCKETS, METERS), start=STARTS, steps=STEPS)
def test_bucket_never_passes_more_than_capacity_and_rate(
    rule: TokenBucket | LeakyBucket, start: float, steps: list[tuple[float, int]]
) -> None:
    """Between any two moments at most `capacity + rate * seconds` units pass."""
    _, _, passed = run(rule, start, steps)
    for first, (began, _) in enumerate(passed):
        total = 0
        for at, cost in passed[first:]:
            total += cost
            assert total <= rule.capacity + rule.rate * (at - began) + SLACK


@given(rule=PACERS, start=STARTS, steps=STEPS)
def test_pacer_leaves_a_gap_after_each(
    rule: LeakyBucket, start: float, steps: list[tuple[float, int]]
) -> None:
    """After a request of so many units nothing passes for so many times `1 / rate`."""
    _, _, passed = run(rule, start, steps)
    for (before, cost), (after, _) in itertools.pairwise(passed):
        assert (after - before) * rule.rate >= cost - SLACK


@given(rule=SLIDING_WINDOWS, start=STARTS, steps=STEPS)
def test_sliding_window_stays_within_its_error(
    rule: SlidingWindow, start: float, steps: list[tuple[float, int]]
) -> None:
    """At a share of the window, at most `limit * (1 + share)` have passed in the last `seconds`."""
    state, now = rule.initial(), start
    passed: list[tuple[float, int]] = []
    for part, cost in steps:
        now += part * rule.seconds
        cost = 1 + cost % rule.limit
        state, decision = rule.decide(state, now, cost)
        if not decision.allowed:
            continue
        passed.append((now, cost))
        share = (now - state.began) / rule.seconds
        counted = sum(units for at, units in passed if at > now - rule.seconds)
        assert counted <= rule.limit * (1 + share) + SLACK
        assert counted <= rule.limit + state.before * share + SLACK
        assert state.used + state.before * (1 - share) <= rule.limit + SLACK


def test_sliding_window_worst_case_is_just_below_twice_the_limit() -> None:
    """All at the end of one window, and nearly all again at the end of the next."""
    rule = SlidingWindow(limit=100, seconds=60)
    state, first = rule.decide(rule.initial(), 0.0, 1)
    state, second = rule.decide(state, 59.9, 99)
    assert (first.allowed, second.allowed) == (True, True)
    assert rule.remaining(state, 119.0) == 98  # with the 99: 197 in 59.1 seconds
    state, third = rule.decide(state, 119.0, 98)
    assert third.allowed


def test_sliding_window_counts_the_window_before_by_its_share() -> None:
    """A quarter into the window, three quarters of the one before still count."""
    rule = SlidingWindow(limit=8, seconds=4)
    state, _ = rule.decide(rule.initial(), 10.0, 8)
    assert rule.remaining(state, 13.999) == 0
    assert [rule.remaining(state, 14.0 + quarter) for quarter in range(4)] == [0, 2, 4, 6]
    state, refused = rule.decide(state, 15.0, 3)
    assert (refused.allowed, refused.remaining, refused.retry_after) == (False, 2, 0.5)
    assert refused.reset_after == 3.0
    state, allowed = rule.decide(state, 15.0, 2)
    assert (allowed.allowed, allowed.remaining, allowed.reset_after) == (True, 0, 7.0)
    # Cost and what is used come above the limit: only the next window, with these two, lets it in.
    _, refused = rule.decide(state, 15.0, 7)
    assert refused.retry_after == 5.0
    _, refused = rule.decide(state, 15.0, 6)
    assert refused.retry_after == 3.0


def test_sliding_window_is_new_after_two_windows() -> None:
    """A window in which nothing was used leaves nothing to the next, and starts anew."""
    rule = SlidingWindow(limit=8, seconds=4)
    state, _ = rule.decide(rule.initial(), 10.0, 8)
    assert rule.rests_at(state) == 18.0
    after, _ = rule.decide(state, 18.0, 1)
    assert (after.began, after.before, after.used) == (18.0, 0, 1)
    after, _ = rule.decide(state, 16.0, 1)
    assert (after.began, after.before, after.used) == (14.0, 8, 1)
    idle, _ = rule.decide(after, 18.5, 1)
    assert (idle.began, idle.before, idle.used) == (18.0, 1, 1)


def test_sliding_window_that_ends_is_over() -> None:
    """What passes at the very end of a window belongs to the next."""
    rule = SlidingWindow(limit=8, seconds=4)
    state, _ = rule.decide(rule.initial(), 10.0, 5)
    after, decision = rule.decide(state, 14.0, 1)
    assert (after.began, after.before, after.used) == (14.0, 5, 1)
    assert (decision.remaining, decision.reset_after) == (2, 8.0)


def test_log_remembers_one_entry_a_moment() -> None:
    """Requests at one moment share an entry, and each moment's units come back on their own."""
    rule = SlidingLog(limit=5, seconds=10)
    state, _ = rule.decide(rule.initial(), 1.0, 2)
    state, _ = rule.decide(state, 1.0, 1)
    state, _ = rule.decide(state, 4.0, 2)
    assert state.entries == ((11.0, 3), (14.0, 2))
    _, refused = rule.decide(state, 5.0, 3)
    assert (refused.retry_after, refused.reset_after) == (6.0, 9.0)
    _, refused = rule.decide(state, 5.0, 4)
    assert refused.retry_after == 9.0
    assert [rule.remaining(state, at) for at in (10.999, 11.0, 13.999, 14.0)] == [0, 3, 3, 5]


def test_bucket_example() -> None:
    """Full at first; empty after its capacity; a token back after `1 / rate`; never above full."""
    rule = TokenBucket(rate=2, capacity=4)
    state, decision = rule.decide(rule.initial(), 100.0, 3)
    assert (decision.allowed, decision.remaining, decision.reset_after) == (True, 1, 1.5)
    _, refused = rule.decide(state, 100.0, 2)
    assert (refused.allowed, refused.remaining) == (False, 1)
    assert (refused.retry_after, refused.reset_after) == (0.5, 1.5)
    state, decision = rule.decide(state, 100.5, 2)
    assert (decision.allowed, decision.remaining, decision.reset_after) == (True, 0, 2.0)
    assert [rule.remaining(state, 100.5 + half / 2) for half in range(6)] == [0, 1, 2, 3, 4, 4]


def test_bucket_faster_than_the_clock_can_tell_keeps_its_rate() -> None:
    """Where `1 / rate` is lost beside the time, what passes too early is paid back."""
    rule = TokenBucket(rate=1e8, capacity=1)
    state, now = rule.initial(), 1e9  # where floats are 1.2e-7 apart
    passed = 0
    while passed < 1000:
        state, decision = rule.decide(state, now)
        if not decision.allowed:
            break
        passed += 1
    assert passed <= 2 + 1e8 * math.ulp(now)


def test_pacer_example() -> None:
    """One at a time: nothing is left until the gap has passed, then any cost that fits at all."""
    rule = LeakyBucket(rate=2, capacity=3, pacing=True)
    state, decision = rule.decide(rule.initial(), 50.0)
    assert (decision.allowed, decision.remaining, decision.reset_after) == (True, 0, 0.5)
    _, refused = rule.decide(state, 50.25)
    assert (refused.remaining, refused.retry_after, refused.reset_after) == (0, 0.25, 0.25)
    assert [rule.remaining(state, at) for at in (50.499, 50.5)] == [0, 3]
    state, decision = rule.decide(state, 50.5, 3)
    assert (decision.allowed, decision.reset_after) == (True, 1.5)
    assert rule.rests_at(state) == 52.0
