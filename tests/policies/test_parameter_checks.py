"""Nonsense is refused by name where a policy is made, of whatever type it is."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest

from bulkhead_trio import (
    AIMD,
    AdaptiveBulkhead,
    Bulkhead,
    BulkheadSettings,
    CircuitBreaker,
    Consecutive,
    CountWindow,
    Fallback,
    FixedWindow,
    Hedge,
    KeyedRateLimiter,
    LeakyBucket,
    RateLimiter,
    Retry,
    RetryBudget,
    SingleFlight,
    SlidingLog,
    SlidingWindow,
    Throttle,
    Timeout,
    TimeWindow,
    TokenBucket,
    UtilisationTarget,
    deadline,
)
from bulkhead_trio.policies._checks import (
    LARGEST_WHOLE,
    LONGEST_SECONDS,
    SHORTEST_SECONDS,
    check_duration,
    check_positive,
    check_seconds,
    check_share,
    check_wait,
    check_whole,
    is_finite,
)

HUGE = 10**400
"""A whole number that no float can hold."""

Make = Callable[[Any], object]

RULE = FixedWindow(limit=1, seconds=1)

WHOLE: list[tuple[str, Make]] = [
    ("max_concurrent", lambda value: Bulkhead("test", value)),
    ("max_queued", lambda value: Bulkhead("test", 1, max_queued=value)),
    ("attempts", lambda value: Retry(value)),
    ("min_retries", lambda value: RetryBudget(min_retries=value)),
    ("max_hedges", lambda value: Hedge(1, value)),
    ("max_keys", lambda value: SingleFlight(max_keys=value)),
    ("limit", lambda value: FixedWindow(limit=value, seconds=1)),
    ("capacity", lambda value: TokenBucket(rate=1, capacity=value)),
    ("capacity", lambda value: LeakyBucket(rate=1, capacity=value)),
    ("max_keys", lambda value: KeyedRateLimiter(RULE, max_keys=value)),
    ("max_waiting", lambda value: RateLimiter(RULE, max_waiting=value)),
    ("failures", lambda value: Consecutive(value)),
    ("size", lambda value: CountWindow(value)),
    ("success_threshold", lambda value: CircuitBreaker("test", success_threshold=value)),
    ("maximum", lambda value: AIMD(maximum=value)),
]

SECONDS: list[tuple[str, Make]] = [
    ("seconds", Timeout),
    ("seconds", deadline),
    ("base_delay", lambda value: Retry(base_delay=value)),
    ("max_delay", lambda value: Retry(max_delay=value)),
    ("delay", lambda value: Hedge(value)),
    ("stale", lambda value: SingleFlight(ttl=1, stale=value)),
    ("wait_in_open", lambda value: CircuitBreaker("test", wait_in_open=value)),
    ("wait_in_open", lambda value: CircuitBreaker("test", wait_in_open=[value])),
]

WAITS: list[tuple[str, Make]] = [
    ("max_wait", lambda value: Bulkhead("test", 1, max_wait=value)),
    ("timeout", lambda value: Bulkhead("test", 1).acquire(timeout=value)),
    ("max_wait", lambda value: RateLimiter(RULE, max_wait=value)),
    ("max_wait", lambda value: BulkheadSettings(1, max_wait=value)),
]

DURATIONS: list[tuple[str, Make]] = [
    ("timeout_per_try", lambda value: Retry(timeout_per_try=value)),
    ("window", lambda value: RetryBudget(window=value)),
    ("window", lambda value: Throttle(window=value)),
    ("ttl", lambda value: SingleFlight(ttl=value)),
    ("max_age", lambda value: Fallback(last_good=True, max_age=value)),
    ("seconds", lambda value: FixedWindow(limit=1, seconds=value)),
    ("seconds", lambda value: SlidingWindow(limit=1, seconds=value)),
    ("seconds", lambda value: SlidingLog(limit=1, seconds=value)),
    ("seconds", lambda value: TimeWindow(value)),
    (
        "slow_call_duration_threshold",
        lambda value: CircuitBreaker("test", slow_call_duration_threshold=value),
    ),
    ("max_wait_in_half_open", lambda value: CircuitBreaker("test", max_wait_in_half_open=value)),
    ("interval", lambda value: UtilisationTarget(interval=value)),
    ("timeout", lambda value: AIMD(timeout=value)),
]

MEASURES: list[tuple[str, Make]] = [
    ("ratio", lambda value: RetryBudget(value)),
    ("quantile", lambda value: Hedge(1, quantile=value)),
    ("k", lambda value: Throttle(value)),
    ("rate", lambda value: TokenBucket(rate=value, capacity=1)),
    ("rate", lambda value: LeakyBucket(rate=value, capacity=1)),
    ("target", lambda value: UtilisationTarget(value)),
    ("backoff_ratio", lambda value: AIMD(backoff_ratio=value)),
    (
        "failure_rate_threshold",
        lambda value: CircuitBreaker("test", window=CountWindow(9), failure_rate_threshold=value),
    ),
]

OBJECTS: list[tuple[str, Make]] = [
    ("budget", lambda value: Retry(budget=value)),
    ("retry_result", lambda value: Retry(retry_result=value)),
    ("rule", lambda value: RateLimiter(value)),
    ("rule", lambda value: KeyedRateLimiter(value, max_keys=1)),
    ("rule", lambda value: AdaptiveBulkhead("test", value)),
]


def refuses(name: str, make: Make, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(name)}\b"):
        make(value)


@pytest.mark.parametrize("value", [True, "5", 5j, object(), math.nan, -1, HUGE, -HUGE, -math.inf])
@pytest.mark.parametrize(("name", "make"), [*WHOLE, *SECONDS, *WAITS, *DURATIONS, *MEASURES])
def test_number_that_is_none_is_refused(name: str, make: Make, value: object) -> None:
    """A truth value, a text, no number, and one that no float can hold."""
    refuses(name, make, value)


@pytest.mark.parametrize(("name", "make"), [*WHOLE, *SECONDS, *DURATIONS, *MEASURES])
def test_number_without_end_is_refused(name: str, make: Make) -> None:
    """Infinity is a wait without limit where one waits, and nonsense elsewhere."""
    if name != "max_age":
        refuses(name, make, math.inf)


@pytest.mark.parametrize(("name", "make"), DURATIONS)
@pytest.mark.parametrize("value", [0, 5e-324, 1e-309, 1e16, 1.5e308])
def test_duration_beyond_measure_is_refused(name: str, make: Make, value: float) -> None:
    """One that no clock could tell, or whose inverse or multiple is no number any more."""
    refuses(name, make, value)


@pytest.mark.parametrize(("name", "make"), WAITS)
@pytest.mark.parametrize("value", [0, 1.5, math.inf])
def test_wait_may_be_without_end(name: str, make: Make, value: float) -> None:
    """What leaves the limit to the caller's deadline makes sense."""
    make(value)


@pytest.mark.parametrize(("name", "make"), OBJECTS)
@pytest.mark.parametrize("value", [0.2, 5, True, "rule", math.nan])
def test_object_of_another_kind_is_refused(name: str, make: Make, value: object) -> None:
    """Not only when it is used for the first time."""
    refuses(name, make, value)


async def test_cost_beyond_counting_is_refused() -> None:
    """The largest that can be counted is only too much; more is nonsense."""
    one = RateLimiter(TokenBucket(rate=1, capacity=1))
    keyed = KeyedRateLimiter(TokenBucket(rate=1, capacity=1), max_keys=1)
    assert not one.acquire_nowait(LARGEST_WHOLE).allowed
    assert not keyed.acquire_nowait("key", LARGEST_WHOLE).allowed
    for cost in (LARGEST_WHOLE + 1, HUGE):
        refuses("cost", one.acquire_nowait, cost)
        refuses("cost", lambda cost: keyed.acquire_nowait("key", cost), cost)
        refuses("cost", one.reserve, cost)
        refuses("cost", lambda cost: keyed.reserve("key", cost), cost)


def test_checks_take_what_lies_on_the_border() -> None:
    """The least and the most that each of them lets pass."""
    check_whole("value", 3, minimum=3)
    check_whole("value", LARGEST_WHOLE, minimum=3)
    refuses("value", lambda value: check_whole("value", value, minimum=3), 2)
    refuses("value", lambda value: check_whole("value", value, minimum=3), LARGEST_WHOLE + 1)
    check_seconds("value", 0)
    check_wait("value", 0)
    check_positive("value", 5e-324)
    refuses("value", lambda value: check_positive("value", value), 0)
    check_duration("value", SHORTEST_SECONDS)
    check_duration("value", LONGEST_SECONDS)
    refuses("value", lambda value: check_duration("value", value), SHORTEST_SECONDS * 0.999)
    refuses("value", lambda value: check_duration("value", value), LONGEST_SECONDS * 1.001)
    check_share("value", 1)
    check_share("value", 5e-324)
    refuses("value", lambda value: check_share("value", value), 0)
    refuses("value", lambda value: check_share("value", value), 1.0001)
    assert is_finite(1.7976931348623157e308)
    assert is_finite(-1.7976931348623157e308)
    assert not is_finite(2**1024)
