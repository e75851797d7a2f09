"""The local twin of shared limits: exact sliding windows."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.policies.rate import SlidingLog
from bulkhead_trio.state import LocalTenantLimits
from bulkhead_trio.state._log_rules import LONGEST, WindowLog, entry_end

STEPS = st.lists(st.integers(min_value=-2, max_value=6), max_size=60)


@given(limit=st.integers(min_value=1, max_value=6), steps=STEPS)
def test_log_decides_as_the_policy_does(limit: int, steps: list[int]) -> None:
    """Step by step, with a clock that may stand still or go back."""
    rule = SlidingLog(limit, 8.0)
    state, log, now = rule.initial(), WindowLog(), 100.0
    for step in steps:
        now += step
        state, expected = rule.decide(state, now)
        assert log.take(now, limit, 8.0) == expected


@given(st.floats(0, 1e6), st.floats(0.001, 1e3))
def test_refused_passes_when_it_was_told_to_come_again(now: float, seconds: float) -> None:
    """As floats add, not a rounding error later."""
    log = WindowLog()
    log.take(now, 1, seconds)
    refused = log.take(now, 1, seconds)
    assert log.take(now + refused.retry_after, 1, seconds).allowed


@given(st.lists(st.tuples(st.floats(0, 0.01), st.integers(1, 400)), max_size=40))
def test_log_of_a_large_limit_never_lets_more_pass(bursts: list[tuple[float, int]]) -> None:
    """Shared entries count for longer, never for less long; and there are few of them."""
    limit, seconds = LONGEST + 1, 1.0
    log, now, passed = WindowLog(), 0.0, []
    for pause, requests in bursts:
        now += pause
        for _ in range(requests):
            if log.take(now, limit, seconds).allowed:
                passed.append(now)
    assert sum(moment > now - seconds for moment in passed) <= limit
    assert len(log._entries) <= LONGEST + 1


@given(st.floats(0, 1e9), st.floats(0.001, 1e6))
def test_entry_of_a_large_limit_is_late_by_a_grain_at_most(now: float, seconds: float) -> None:
    """A 4096th of the window, and what floats round."""
    end = entry_end(now, 2 * LONGEST, seconds)
    assert now + seconds <= end <= now + seconds + seconds / LONGEST + 1e-6


async def test_limits_are_each_tenants_own(autojump_clock: trio.testing.MockClock) -> None:
    """One that has used up its quota leaves another's alone, and has it again in time."""
    limits = LocalTenantLimits()
    assert [limits.acquire("a", 2, 10.0).allowed for _ in range(3)] == [True, True, False]
    assert limits.acquire("b", 2, 10.0).allowed
    refused = limits.acquire("a", 2, 10.0)
    await trio.sleep(refused.retry_after)
    assert limits.acquire("a", 2, 10.0).allowed
    statistics = limits.statistics()
    assert (statistics.allowed, statistics.refused, statistics.tenants) == (4, 2, 2)


async def test_limit_that_changes_counts_what_was_used(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A lower one refuses until enough has gone; a shorter window forgets sooner."""
    limits = LocalTenantLimits()
    for _ in range(5):
        limits.acquire("a", 10, 60.0)
    assert not limits.acquire("a", 3, 60.0).allowed
    assert limits.acquire("a", 3, 2.0).retry_after == 2.0


async def test_tenants_at_rest_are_forgotten(autojump_clock: trio.testing.MockClock) -> None:
    """However many there were."""
    limits = LocalTenantLimits()
    for number in range(100):
        limits.acquire(f"old {number}", 1, 10.0)
    await trio.sleep(11)
    for number in range(100):
        limits.acquire(f"new {number}", 1, 10.0)
    assert limits.statistics().tenants <= 101


@pytest.mark.parametrize(("limit", "seconds"), [(0, 1.0), (1.5, 1.0), (1, 0.0), (1, float("nan"))])
async def test_limit_that_makes_no_sense_is_refused(limit: int, seconds: float) -> None:
    """By name."""
    with pytest.raises(ValueError, match=r"limit|window_seconds"):
        LocalTenantLimits().acquire("a", limit, seconds)
