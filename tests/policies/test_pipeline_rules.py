"""Which orders are wrong, as a table."""

from __future__ import annotations

import itertools
import math

import pytest

from bulkhead_trio.policies._pipeline_rules import (
    WRONG_ORDERS,
    Layer,
    When,
    first_wrong_order,
)
from bulkhead_trio.policies.policy import Kind

ALWAYS_WRONG = [
    (Kind.BREAKER, Kind.RETRY),
    (Kind.BREAKER, Kind.HEDGE),
    (Kind.BREAKER, Kind.FALLBACK),
    (Kind.RETRY, Kind.FALLBACK),
    (Kind.HEDGE, Kind.FALLBACK),
    (Kind.THROTTLE, Kind.FALLBACK),
    (Kind.RETRY, Kind.RETRY),
    (Kind.HEDGE, Kind.HEDGE),
    (Kind.HEDGE, Kind.RETRY),
    (Kind.BREAKER, Kind.SINGLE_FLIGHT),
    (Kind.THROTTLE, Kind.SINGLE_FLIGHT),
    (Kind.HEDGE, Kind.SINGLE_FLIGHT),
    (Kind.BULKHEAD, Kind.SINGLE_FLIGHT),
    (Kind.BULKHEAD, Kind.RETRY),
    (Kind.BULKHEAD, Kind.HEDGE),
]


def layer(kind: Kind, **more: float | bool) -> Layer:
    return Layer(kind, kind.value, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("outer", "inner"), list(itertools.product(Kind, Kind)))
def test_order_of_two_is_wrong_exactly_where_the_table_says(outer: Kind, inner: Kind) -> None:
    """Two plain policies are wrong in these orders and in no other."""
    found = first_wrong_order([layer(outer, seconds=2.0), layer(inner, seconds=1.0)])
    assert (found is not None) == ((outer, inner) in ALWAYS_WRONG)
    if found is not None:
        assert (found.outer, found.inner) == (outer.value, inner.value)
        assert found.reason


@pytest.mark.parametrize(("outer", "inner"), ALWAYS_WRONG)
def test_order_is_wrong_whatever_stands_between(outer: Kind, inner: Kind) -> None:
    """Being outside counts, not being next to each other."""
    layers = [layer(Kind.PIPELINE), layer(outer), layer(Kind.RATE_LIMIT), layer(inner)]
    assert first_wrong_order(layers) is not None


def test_order_that_is_recommended_is_none_of_them() -> None:
    """The order of the documentation, with a queue that reads the deadline."""
    kinds = (
        Kind.FALLBACK, Kind.SINGLE_FLIGHT, Kind.RATE_LIMIT, Kind.RETRY, Kind.THROTTLE,
        Kind.BULKHEAD, Kind.BREAKER, Kind.TIMEOUT,
    )  # fmt: skip
    layers = [layer(kind, max_wait=5.0 if kind is Kind.BULKHEAD else 0.0) for kind in kinds]
    assert first_wrong_order(layers) is None
    assert first_wrong_order([]) is None


@pytest.mark.parametrize("max_wait", [0.0, 0.1, math.inf])
def test_quota_that_is_waited_for_does_not_belong_into_a_bulkhead(max_wait: float) -> None:
    """A limiter that refuses at once may be in there; one that waits may not."""
    found = first_wrong_order([layer(Kind.BULKHEAD), layer(Kind.RATE_LIMIT, max_wait=max_wait)])
    assert (found is not None) == (max_wait > 0)


@pytest.mark.parametrize("kind", [Kind.BULKHEAD, Kind.RATE_LIMIT])
@pytest.mark.parametrize(
    ("seconds", "max_wait", "is_wrong"),
    [
        (1.0, 2.0, True),
        (2.0, 2.0, True),
        (2.1, 2.0, False),
        (1.0, 0.0, False),
        (1.0, math.inf, False),
        (math.inf, math.inf, False),
        (0.0, 1.0, True),
        (0.0, 0.0, False),
    ],
)
def test_timeout_outlasts_the_wait_inside_it(
    kind: Kind, seconds: float, max_wait: float, is_wrong: bool
) -> None:
    """A wait as long as the timeout or longer is wrong, unless it has no limit but the deadline."""
    layers = [layer(Kind.TIMEOUT, seconds=seconds), layer(kind, max_wait=max_wait)]
    assert (first_wrong_order(layers) is not None) == is_wrong


@pytest.mark.parametrize(("inner", "is_wrong"), [(0.9, False), (1.0, True), (5.0, True)])
def test_timeout_in_a_timeout_is_the_shorter_one(inner: float, is_wrong: bool) -> None:
    """One that is as long as what is round it, or longer, could as well not be there."""
    layers = [layer(Kind.TIMEOUT, seconds=1.0), layer(Kind.TIMEOUT, seconds=inner)]
    assert (first_wrong_order(layers) is not None) == is_wrong


def test_timeout_cannot_see_into_what_goes_on() -> None:
    """A bulkhead whose calls outlive their callers has no use for a timeout outside."""
    inner = layer(Kind.BULKHEAD, obeys_cancellation=False)
    assert first_wrong_order([layer(Kind.TIMEOUT, seconds=1.0), inner]) is not None
    assert first_wrong_order([inner, layer(Kind.TIMEOUT, seconds=1.0)]) is None


@pytest.mark.parametrize("max_wait", [0.0, 0.5, math.inf])
def test_wait_under_a_timeout_does_not_belong_into_a_breaker(max_wait: float) -> None:
    """Cut off while waiting, it would count as a failure; without a timeout it cannot be."""
    breaker, timeout = layer(Kind.BREAKER), layer(Kind.TIMEOUT, seconds=1.0)
    bulkhead = layer(Kind.BULKHEAD, max_wait=max_wait)
    assert (first_wrong_order([breaker, timeout, bulkhead]) is not None) == (max_wait > 0)
    assert first_wrong_order([breaker, bulkhead, timeout]) is None
    assert first_wrong_order([timeout, breaker, bulkhead]) is None


def test_first_wrong_order_is_the_outermost() -> None:
    """Of several, the one that begins furthest out is told."""
    layers = [layer(Kind.RETRY), layer(Kind.BREAKER), layer(Kind.HEDGE), layer(Kind.RETRY)]
    found = first_wrong_order(layers)
    assert found is not None
    assert (found.outer, found.inner) == ("retry", "retry")


def test_table_has_no_row_twice() -> None:
    """Each pair and condition is there once, and each condition is used."""
    rows = [(rule.outer, rule.inner, rule.when) for rule in WRONG_ORDERS]
    assert len(set(rows)) == len(rows)
    assert {rule.when for rule in WRONG_ORDERS} == set(When)
