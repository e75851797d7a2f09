"""The fixed window: edges, steps of the clock, and that a refusal uses nothing."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.policies.rate import FixedWindow, RateLimiter


def test_window_begins_with_its_first_request() -> None:
    """The quota is whole again exactly one window after the first request in it, not before."""
    rule = FixedWindow(limit=2, seconds=60)
    state, first = rule.decide(rule.initial(), now=1000.0)
    assert (first.allowed, first.remaining, first.reset_after) == (True, 1, 60.0)
    state, second = rule.decide(state, now=1059.0)
    assert (second.allowed, second.remaining, second.reset_after) == (True, 0, 1.0)
    state, refused = rule.decide(state, now=1059.999)
    assert not refused.allowed
    assert refused.retry_after == pytest.approx(0.001)
    state, fresh = rule.decide(state, now=1060.0)
    assert (fresh.allowed, fresh.remaining, fresh.reset_after) == (True, 1, 60.0)


def test_window_refusal_uses_nothing() -> None:
    """However many are refused, the window ends when it would have ended."""
    rule = FixedWindow(limit=3, seconds=10)
    state, _ = rule.decide(rule.initial(), now=0.0, cost=3)
    for step in range(100):
        after, decision = rule.decide(state, now=step / 11)
        assert not decision.allowed
        assert after == state


def test_window_larger_cost_than_is_left_is_refused_whole() -> None:
    """A request that costs more than is left takes none of it."""
    rule = FixedWindow(limit=5, seconds=10)
    state, _ = rule.decide(rule.initial(), now=0.0, cost=3)
    state, refused = rule.decide(state, now=1.0, cost=3)
    assert (refused.allowed, refused.remaining) == (False, 2)
    _, allowed = rule.decide(state, now=1.0, cost=2)
    assert (allowed.allowed, allowed.remaining) == (True, 0)


@pytest.mark.parametrize("step", [-1e9, -61.0, -0.001])
def test_window_clock_that_steps_back_gives_no_second_quota(step: float) -> None:
    """A clock that goes back neither reopens a used window nor promises an endless wait."""
    rule = FixedWindow(limit=1, seconds=60)
    state, _ = rule.decide(rule.initial(), now=5000.0)
    _, decision = rule.decide(state, now=5000.0 + step)
    assert not decision.allowed
    assert 0 <= decision.retry_after <= 60


@given(
    limit=st.integers(1, 5),
    seconds=st.floats(0.1, 100),
    gaps=st.lists(st.floats(0, 50), max_size=60),
)
def test_window_never_allows_more_than_the_limit(
    limit: int, seconds: float, gaps: list[float]
) -> None:
    """No window, counted from its first allowed request, has more than the limit in it."""
    rule = FixedWindow(limit=limit, seconds=seconds)
    state, now = rule.initial(), 0.0
    windows: list[tuple[float, int]] = []
    for gap in gaps:
        now += gap
        state, decision = rule.decide(state, now)
        if not windows or now >= windows[-1][0] + seconds:
            windows.append((now, 0))
        if decision.allowed:
            began, used = windows[-1]
            windows[-1] = (began, used + 1)
        assert decision.allowed == (windows[-1][1] <= limit and decision.retry_after == 0)
        assert decision.remaining == limit - windows[-1][1] >= 0
        assert rule.remaining(state, now) == decision.remaining
        assert 0 <= decision.reset_after <= seconds


@pytest.mark.parametrize(
    ("limit", "seconds", "name"),
    [
        (0, 1.0, "limit"),
        (-1, 1.0, "limit"),
        (1, 0.0, "seconds"),
        (1, -1.0, "seconds"),
        (1, math.nan, "seconds"),
        (1, math.inf, "seconds"),
    ],
)
def test_window_nonsense_is_refused_by_name(limit: int, seconds: float, name: str) -> None:
    """A value that means nothing raises, and the message names the parameter."""
    with pytest.raises(ValueError, match=name):
        FixedWindow(limit=limit, seconds=seconds)


async def test_limiter_reads_trios_clock(autojump_clock: trio.testing.MockClock) -> None:
    """The limiter's window passes with Trio's time, and its statistics with it."""
    limiter = RateLimiter(FixedWindow(limit=2, seconds=5), name="test")
    assert [limiter.acquire_nowait().allowed for _ in range(3)] == [True, True, False]
    assert limiter.statistics().remaining == 0
    await trio.sleep(5)
    assert limiter.statistics().remaining == 2
    assert limiter.acquire_nowait().allowed
    assert (limiter.statistics().allowed, limiter.statistics().refused) == (3, 1)


def test_limiter_refuses_costs_that_mean_nothing() -> None:
    """A cost below one would give quota back."""
    with pytest.raises(ValueError, match="cost"):
        RateLimiter(FixedWindow(limit=1, seconds=1)).acquire_nowait(0)
