"""From samples to figures."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.isolation.summary import (
    Latency,
    Slice,
    percentile,
    summarize,
    summarize_tier,
    timeline,
)

from .builders import PLAN, flood_samples, sample, steady_samples

FIGURES = st.lists(st.floats(0, 1e6), min_size=1)


@pytest.mark.parametrize(
    ("percent", "value"), [(0, 1), (1, 1), (50, 50), (95, 95), (99, 99), (99.1, 100), (100, 100)]
)
def test_percentile_of_a_hundred_is_the_rank(percent: float, value: int) -> None:
    """Of the numbers 1 to 100, the p-th percentile is p."""
    assert percentile(range(1, 101), percent) == value


@given(FIGURES, st.floats(0, 100))
def test_percentile_is_exact(values: list[float], percent: float) -> None:
    """It is a measured value that enough values do not exceed, and no smaller one would do."""
    ordered = sorted(values)
    found = percentile(ordered, percent)
    needed = len(ordered) * percent / 100
    assert found in ordered
    assert sum(value <= found for value in ordered) >= needed
    smaller = [value for value in ordered if value < found]
    assert not smaller or len(smaller) < needed


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], -1), ([1.0], 101)])
def test_percentile_of_nonsense_is_refused(values: list[float], percent: float) -> None:
    """Nothing is made up where there is nothing to count."""
    with pytest.raises(ValueError, match="percent"):
        percentile(values, percent)


def test_latency_of_nothing_is_none() -> None:
    """A tier without samples has no latency rather than one of zero."""
    assert Latency.of([]) is None


def test_latency_ratio_to_zero_is_no_number() -> None:
    """A multiple of nothing is not invented."""
    ratio = Latency(4, 6, 8, 10).ratio(Latency(2, 2, 2, 0))
    assert (ratio.p50, ratio.p95, ratio.p99) == (2, 3, 4)
    assert math.isnan(ratio.max)


def test_summary_counts_by_status_and_code() -> None:
    """Each request is one of 200, 429, 503 and others; no answer is one of the others."""
    samples = [
        sample(0, status=200),
        sample(0, status=429, code="rate_limited"),
        sample(0, status=503, code="bulkhead_full"),
        sample(0, status=503, code="circuit_open"),
        sample(0, status=500, code="internal"),
        sample(0, status=0, code="timed_out"),
    ]
    summary = summarize(samples, seconds=2)
    assert (summary.count(200), summary.count(429), summary.count(503)) == (1, 1, 2)
    assert (summary.others, summary.sent, summary.per_second) == (2, 6, 3)
    assert summary.answers["503 circuit_open"] == 1
    assert summary.answers["0 timed_out"] == 1


def test_tier_is_split_by_when_a_request_was_due() -> None:
    """Warm-up counts nowhere; a slow request due before the flood belongs to alone."""
    tier = summarize_tier("pro", steady_samples(), PLAN)
    assert tier.alone is not None
    assert (tier.alone.sent, tier.flooded.sent) == (20, 20)
    assert tier.ratio == Latency(2, 2, 2, 2)

    late = summarize_tier("pro", [sample(2.99, latency=5.0), sample(3.0)], PLAN)
    assert late.alone is not None
    assert late.alone.latency == Latency(5000, 5000, 5000, 5000)


def test_tier_without_traffic_alone_has_no_ratio() -> None:
    """The flooded tier is only measured flooded."""
    tier = summarize_tier("free", flood_samples(), PLAN)
    assert tier.alone is None
    assert tier.ratio is None


def test_timeline_has_a_slice_for_each_second_in_order() -> None:
    """Samples arrive in the order of their answers; the timeline is by when they were due."""
    samples = [sample(1.5, latency=0.003, status=503), sample(0.2), sample(1.1, latency=0.001)]
    assert timeline(samples) == (Slice(0, 1, 1, 2.0, 2.0), Slice(1, 2, 1, 1.0, 3.0))
