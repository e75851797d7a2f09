"""The estimate of how long a queue takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.policies.queue._rules import DrainRate


def test_drain_rate_of_steady_work_is_littles_law() -> None:
    """With work of one length the wait is departures times service time over workers."""
    rate = DrainRate()
    for step in range(20):
        rate = rate.departed(2.0, now=float(step))
    assert rate.wait_for(6, workers=4, saturated_since=0.0, now=19.0) == pytest.approx(3.0)


def test_drain_rate_without_history_grows_with_the_stall() -> None:
    """Before anything has left, what is known is how long it has not."""
    rate = DrainRate()
    assert rate.wait_for(5, workers=5, saturated_since=10.0, now=10.0) == 0.0
    assert rate.wait_for(5, workers=5, saturated_since=10.0, now=13.0) == pytest.approx(3.0)


def test_drain_rate_sees_a_stall_that_the_average_does_not() -> None:
    """When departures stop, the estimate grows although no new sample comes in."""
    rate = DrainRate()
    for step in range(20):
        rate = rate.departed(0.01, now=float(step))
    assert rate.wait_for(10, workers=1, saturated_since=0.0, now=19.0) == pytest.approx(0.1)
    assert rate.wait_for(10, workers=1, saturated_since=0.0, now=24.0) == pytest.approx(50.0)


def test_drain_rate_forgets_an_outlier() -> None:
    """One slow piece of work is outweighed within some twenty departures."""
    rate = DrainRate().departed(10.0, now=0.0)
    for step in range(1, 21):
        rate = rate.departed(0.1, now=float(step))
    assert rate.mean_service == pytest.approx(0.1, abs=0.15)


@given(
    services=st.lists(st.floats(0, 100), min_size=1, max_size=50),
    departures=st.integers(0, 1000),
    workers=st.integers(1, 100),
)
def test_drain_rate_stays_within_what_was_seen(
    services: list[float], departures: int, workers: int
) -> None:
    """With no stall, the predicted service time lies between the shortest and the longest seen."""
    rate = DrainRate()
    for service in services:
        rate = rate.departed(service, now=0.0)
    wait = rate.wait_for(departures, workers=workers, saturated_since=0.0, now=0.0)
    slack = 1e-9 * (1 + max(services))
    assert departures * min(services) / workers - slack <= wait
    assert wait <= departures * max(services) / workers * (1 + 1e-9) + slack
