"""Latency quantiles: close to exact ones, and forgetful."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.observe.latency import (
    GENERATION_SECONDS,
    GROWTH,
    SMALLEST_SECONDS,
    LatencyWindow,
    bucket_of,
    upper_bound,
)


@given(st.floats(SMALLEST_SECONDS * 1.01, 1e4))
def test_bucket_holds_its_durations_within_five_percent(seconds: float) -> None:
    """A duration lies under its bucket's bound and at most one step of growth below it."""
    bound = upper_bound(bucket_of(seconds))
    assert seconds <= bound * (1 + 1e-9)
    assert bound <= seconds * GROWTH * (1 + 1e-9)


async def test_quantiles_are_close_to_exact_ones(autojump_clock: trio.testing.MockClock) -> None:
    """Of a thousand known durations the quantiles come out at most five per cent too high."""
    window = LatencyWindow()
    durations = [number / 1000 for number in range(1, 1001)]
    for duration in durations:
        window.observe(duration)
    found = window.quantiles()
    for q, value in ((0.5, found.p50), (0.95, found.p95), (0.99, found.p99)):
        exact = durations[math.ceil(q * 1000) - 1]
        assert exact <= value * (1 + 1e-9)
        assert value <= exact * GROWTH * (1 + 1e-9)


async def test_quantiles_of_nothing_are_zero(autojump_clock: trio.testing.MockClock) -> None:
    """Before anything was observed there is nothing to say."""
    assert LatencyWindow().quantiles().p99 == 0.0


async def test_quantiles_forget(autojump_clock: trio.testing.MockClock) -> None:
    """What was slow is remembered for one to two minutes and then no longer."""
    window = LatencyWindow()
    window.observe(5.0)
    await trio.sleep(GENERATION_SECONDS + 1)
    window.observe(0.001)
    assert window.quantiles().p99 == pytest.approx(5.0, rel=0.06)
    await trio.sleep(GENERATION_SECONDS)
    assert window.quantiles().p99 == pytest.approx(0.001, rel=0.06)
    await trio.sleep(10 * GENERATION_SECONDS)
    assert window.quantiles().p99 == 0.0
