"""Shares: together exactly what was configured, and each as much as the others."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.config import Settings, TierSettings, load_settings
from bulkhead_trio.workers._share_rules import (
    EVENT_TOTALS,
    LEAST_OF_DELIVERIES,
    ORDER_TOTALS,
    TIER_TOTALS,
    parts,
    share,
)

WORKERS = st.integers(1, 64)
SOME = st.integers(64, 10_000)
TIERS = st.builds(
    TierSettings,
    st.just("some"),
    connections=SOME,
    workers=SOME,
    queue=st.integers(0, 1000),
    rate_limit=st.none() | SOME,
)


@given(whole=st.integers(0, 10**9), workers=WORKERS, first=st.integers(0, 1000))
def test_parts_add_up_and_differ_by_one_at_most(whole: int, workers: int, first: int) -> None:
    """Nothing is lost or made, and nobody gets much more than another."""
    found = parts(whole, workers, first=first)
    assert len(found) == workers
    assert sum(found) == whole
    assert max(found) - min(found) <= 1


@pytest.mark.parametrize(("first", "expected"), [(0, (3, 2)), (1, (2, 3)), (2, (3, 2))])
def test_parts_give_what_is_left_over_from_the_first_on(
    first: int, expected: tuple[int, int]
) -> None:
    """So that different numbers can give it to different workers."""
    assert parts(5, 2, first=first) == expected


def whole_settings(tiers: tuple[TierSettings, ...], workers: int) -> Settings:
    settings = load_settings(environ={}, overrides={"orders_workers": 70, "orders_connections": 65})
    return attrs.evolve(settings, tiers=tiers, workers=workers)


@given(tiers=st.tuples(TIERS, TIERS), workers=WORKERS)
def test_shares_add_up_to_the_settings(tiers: tuple[TierSettings, ...], workers: int) -> None:
    """Every total of every tier and of the orders; what is no total is the same for all."""
    settings = whole_settings(tiers, workers)
    shares = [share(settings, number) for number in range(workers)]
    for index, tier in enumerate(tiers):
        own = [each.tiers[index] for each in shares]
        for name in TIER_TOTALS:
            values = [getattr(each, name) for each in own]
            whole = getattr(tier, name)
            assert values == [None] * workers if whole is None else sum(values) == whole
        assert {(each.name, each.timeout, each.failure_threshold) for each in own} == {
            (tier.name, tier.timeout, tier.failure_threshold)
        }
    for name in ORDER_TOTALS + EVENT_TOTALS:
        assert sum(getattr(each, name) for each in shares) == getattr(settings, name)
    assert sum(each.orders_rate for each in shares) == pytest.approx(settings.orders_rate)
    assert sum(each.events_rate for each in shares) == pytest.approx(settings.events_rate)
    assert {each.orders_backlog for each in shares} == {settings.orders_backlog}


@given(workers=WORKERS)
def test_shares_of_deliveries_add_up_unless_some_would_deliver_none(workers: int) -> None:
    """Every worker delivers something, even where there are more workers than deliveries."""
    settings = whole_settings((), workers)
    shares = [share(settings, number) for number in range(workers)]
    for name, least in LEAST_OF_DELIVERIES.items():
        own = [getattr(each, name) for each in shares]
        whole = getattr(settings, name)
        assert min(own) >= least
        assert max(own) - min(own) <= 1
        assert sum(own) == whole or max(own) == least or whole < workers * least


def test_share_of_the_only_worker_is_everything() -> None:
    """One worker changes nothing."""
    settings = load_settings(environ={}, overrides={})
    assert share(settings, 0) == settings


def test_shares_spread_what_is_left_over() -> None:
    """No worker gets the bit more of everything."""
    tier = TierSettings("some", connections=5, workers=11, queue=3, rate_limit=101)
    settings = whole_settings((tier,), 2)
    first, second = (share(settings, number).tiers[0] for number in (0, 1))
    assert (first.connections, first.workers, first.queue, first.rate_limit) == (3, 5, 2, 50)
    assert (second.connections, second.workers, second.queue, second.rate_limit) == (2, 6, 1, 51)
