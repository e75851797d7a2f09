"""Whether the server is as it was."""

from __future__ import annotations

from typing import Any

import pytest

from bench.soak.checks import MemorySample, capacity, growth_bytes, restless


def tier(**changes: Any) -> dict[str, Any]:
    return {
        "connectionPool": {"active": 0, "idle": 3, "pending": 0, "max": 5},
        "threadPool": {"active": 0, "queued": 0, "poolSize": 10, "queueSize": 20},
        "circuitBreaker": {"state": "CLOSED", "failures": 0},
    } | changes


def test_rest_is_when_nothing_runs_waits_or_failed() -> None:
    """Idle connections and sizes are no unrest."""
    assert restless({"free": tier(), "pro": tier()}) == []


def test_unrest_is_named() -> None:
    """Everything that is still going on is listed by tier and member."""
    busy = {"active": 1, "queued": 2, "poolSize": 10, "queueSize": 20}
    broken = {"state": "OPEN", "failures": 5}
    assert restless({"free": tier(threadPool=busy), "pro": tier(circuitBreaker=broken)}) == [
        "free.threadPool.active = 1",
        "free.threadPool.queued = 2",
        "pro.circuitBreaker.failures = 5",
        "pro.circuitBreaker.state = OPEN",
    ]


def test_capacity_is_what_runs_and_what_waits() -> None:
    """A tier of 10 workers and 20 places takes 30 at once."""
    assert capacity(tier()) == 30


def test_growth_is_counted_from_the_warm_up_on() -> None:
    """What the server takes while it warms up is its own affair."""
    samples = [MemorySample(n * 1000, size) for n, size in enumerate((50, 80, 90, 85, 92))]
    assert growth_bytes(samples, warm_up=2000) == 2


def test_growth_of_a_single_sample_is_refused() -> None:
    """One figure shows no growth, nor its absence."""
    with pytest.raises(ValueError, match="two samples"):
        growth_bytes([MemorySample(1000, 50)], warm_up=1000)
