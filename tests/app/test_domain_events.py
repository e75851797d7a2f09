"""Domain events of tiers and orders: said once for each thing that has happened."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from bulkhead_trio import CircuitBreaker, CircuitOpen, Consecutive
from bulkhead_trio.app.domain_events import TierBreakerNews, order_news
from bulkhead_trio.delivery.domain import DomainEvent, DomainEvents
from bulkhead_trio.errors import DatabaseUnavailable
from bulkhead_trio.orders import OrderEnded
from bulkhead_trio.policies.breaker import BreakerState, BreakerTransition

COOLDOWN = 15.0


def breaker_told(said: list[DomainEvent]) -> CircuitBreaker:
    return CircuitBreaker(
        "free",
        window=Consecutive(2),
        wait_in_open=COOLDOWN,
        listeners=[TierBreakerNews("free", said.append)],
    )


async def ask(breaker: CircuitBreaker, *, is_away: bool) -> None:
    with breaker.permit():
        if is_away:
            raise DatabaseUnavailable("scripted: away")


async def fail(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        with pytest.raises((DatabaseUnavailable, CircuitOpen)):
            await ask(breaker, is_away=True)


async def test_breaker_that_opens_and_closes_says_both(autojump_clock: MockClock) -> None:
    """Once each, with the tier, and at the end with how long it was open."""
    said: list[DomainEvent] = []
    breaker = breaker_told(said)
    await fail(breaker, 2)
    assert said == [DomainEvent("tier.breaker_opened", {"tier": "free"}, tier="free")]
    await trio.sleep(COOLDOWN)
    await ask(breaker, is_away=False)
    assert said[1:] == [
        DomainEvent("tier.breaker_closed", {"tier": "free", "openSeconds": COOLDOWN}, tier="free")
    ]


async def test_breaker_whose_probes_fail_for_hours_says_it_once(autojump_clock: MockClock) -> None:
    """One outage is one opening and one closing, however often the breaker has tried."""
    said: list[DomainEvent] = []
    breaker = breaker_told(said)
    await fail(breaker, 2)
    for _ in range(500):
        await trio.sleep(COOLDOWN)
        await fail(breaker, 3)
    assert breaker.statistics().opened == 501
    assert [event.type for event in said] == ["tier.breaker_opened"]
    await trio.sleep(COOLDOWN)
    await ask(breaker, is_away=False)
    assert [event.type for event in said] == ["tier.breaker_opened", "tier.breaker_closed"]
    assert said[-1].payload["openSeconds"] == 501 * COOLDOWN


async def test_breaker_moved_by_hand_is_said_too(autojump_clock: MockClock) -> None:
    """Forced open is open to whoever is refused; disabled, everything passes again."""
    said: list[DomainEvent] = []
    breaker = breaker_told(said)
    breaker.force_open()
    breaker.disable()
    breaker.reset()
    breaker.force_open()
    breaker.reset()
    assert [event.type.rpartition("_")[2] for event in said] == ["opened", "closed"] * 2


@given(moves=st.lists(st.sampled_from(BreakerState)))
def test_breaker_news_alternate(moves: list[BreakerState]) -> None:
    """Whatever the breaker does, nobody hears of two openings without a closing between."""
    said: list[DomainEvent] = []
    news = TierBreakerNews("free", said.append)
    before = BreakerState.CLOSED
    for moment, after in enumerate(moves):
        news(BreakerTransition("free", before, after, float(moment)))
        before = after
    types = [event.type.rpartition("_")[2] for event in said]
    assert types == (["opened", "closed"] * len(types))[: len(types)]


async def test_news_reach_the_subscribers_of_the_bus(autojump_clock: MockClock) -> None:
    """Tiers' and orders' news arrive in the order in which they were told."""
    heard: list[DomainEvent] = []

    async def handle(event: DomainEvent) -> None:
        heard.append(event)

    bus = DomainEvents()
    bus.subscribe("test", handle)
    async with trio.open_nursery() as nursery:
        await nursery.start(bus.run)
        TierBreakerNews("pro", bus.publish)(
            BreakerTransition("pro", BreakerState.CLOSED, BreakerState.OPEN, 1.0)
        )
        listener = order_news(bus.publish)
        listener(OrderEnded("order-1", "completed", attempts=2))
        listener(OrderEnded("order-2", "failed", attempts=5))
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert [(event.type, dict(event.payload), event.tier) for event in heard] == [
        ("tier.breaker_opened", {"tier": "pro"}, "pro"),
        ("order.completed", {"orderId": "order-1", "attempts": 2}, None),
        ("order.failed", {"orderId": "order-2", "attempts": 5}, None),
    ]
