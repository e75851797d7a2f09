"""Domain events: told to whoever wants to know, at no cost to whoever raises them."""

from __future__ import annotations

import json

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from bulkhead_trio.delivery.domain import DomainEvent, DomainEvents
from bulkhead_trio.delivery.events import EventWriter
from bulkhead_trio.delivery.tier_events import TierEvents

from ._memory_store import MemoryDatabase
from ._world import running, until


def event(number: int = 0) -> DomainEvent:
    return DomainEvent("order.completed", {"number": number})


async def test_subscribers_hear_everything_in_order(autojump_clock: MockClock) -> None:
    """Each of them, at its own pace, those too that come while it runs."""
    bus, quick, slow = DomainEvents(), list[int](), list[int]()

    async def take_quickly(told: DomainEvent) -> None:
        await trio.lowlevel.checkpoint()
        quick.append(told.payload["number"])

    async def take_slowly(told: DomainEvent) -> None:
        await trio.sleep(1)
        slow.append(told.payload["number"])

    bus.subscribe("quick", take_quickly)
    async with running(bus):
        bus.subscribe("slow", take_slowly)
        for number in range(5):
            bus.publish(event(number))
        await trio.sleep(0.5)
        assert (quick, slow) == ([0, 1, 2, 3, 4], [])
        await trio.sleep(5)
    assert slow == quick
    assert bus.published == 5


async def test_publishing_never_waits_and_drops_the_oldest(autojump_clock: MockClock) -> None:
    """A subscriber that is stuck loses what is oldest, and that is counted; no other loses any."""
    bus, heard, release = DomainEvents(), list[int](), trio.Event()

    async def stick(told: DomainEvent) -> None:
        await release.wait()
        heard.append(told.payload["number"])

    others = list[DomainEvent]()

    async def take(told: DomainEvent) -> None:
        await trio.lowlevel.checkpoint()
        others.append(told)

    stuck = bus.subscribe("stuck", stick, places=3)
    bus.subscribe("other", take)
    async with running(bus):
        bus.publish(event(0))
        await trio.testing.wait_all_tasks_blocked()
        for number in range(1, 11):
            bus.publish(event(number))
        await trio.testing.wait_all_tasks_blocked()
        statistics = stuck.statistics()
        assert (statistics.active, statistics.queued, statistics.dropped) == (True, 3, 7)
        assert len(others) == 11
        release.set()
        await trio.testing.wait_all_tasks_blocked()
    assert heard == [0, 8, 9, 10]
    assert stuck.statistics().taken == 4


async def test_subscriber_that_raises_goes_on(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """With the next event, after a moment; it is logged and counted, and harms no other."""
    bus, heard = DomainEvents(), list[int]()

    async def take(told: DomainEvent) -> None:
        await trio.lowlevel.checkpoint()
        if told.payload["number"] % 2:
            raise KeyError("scripted")
        heard.append(told.payload["number"])

    subscription = bus.subscribe("odd", take)
    async with running(bus):
        for number in range(6):
            bus.publish(event(number))
        await trio.sleep(2)
    assert heard == [0, 2, 4]
    statistics = subscription.statistics()
    assert (statistics.failed, statistics.crashes, statistics.taken) == (3, 3, 6)
    assert "the subscriber odd crashed" in caplog.text


async def test_publishing_works_with_nobody_there() -> None:
    """Before the bus runs, what is published waits for its subscribers."""
    bus, heard = DomainEvents(), list[DomainEvent]()
    bus.publish(event())

    async def take(told: DomainEvent) -> None:
        await trio.lowlevel.checkpoint()
        heard.append(told)

    bus.subscribe("later", take)
    bus.publish(event(1))
    async with running(bus):
        await trio.testing.wait_all_tasks_blocked()
    assert heard == [event(1)]


async def test_tier_events_become_durable(autojump_clock: MockClock) -> None:
    """With their instance; what is no tier's stays in the process."""
    database = MemoryDatabase()
    writer, bus = EventWriter(database.events), DomainEvents()
    bus.subscribe("tier events", TierEvents(writer, instance="one"))
    async with running(writer, bus):
        bus.publish(DomainEvent("tier.breaker_opened", {"retryAfter": 15}, tier="free"))
        bus.publish(DomainEvent("order.completed", {"orderId": "o"}))
        bus.publish(DomainEvent("tier.breaker_closed", {}, tier="pro"))
        await trio.sleep(1)
    opened, closed = database.events.kept.values()
    assert (opened.tenant_id, opened.tier, opened.type) == (None, "free", "tier.breaker_opened")
    assert json.loads(opened.payload) == {"retryAfter": 15, "tier": "free", "instance": "one"}
    assert (closed.tier, json.loads(closed.payload)) == ("pro", {"tier": "pro", "instance": "one"})


async def test_tier_events_wait_for_the_database(autojump_clock: MockClock) -> None:
    """A tier's breaker opens when the database is away, and that is just what is to be told."""
    database = MemoryDatabase()
    database.is_away = True
    writer, bus = EventWriter(database.events), DomainEvents()
    subscription = bus.subscribe("tier events", TierEvents(writer, instance="one"), places=10)
    async with running(writer, bus):
        for number in range(20):
            bus.publish(DomainEvent("tier.breaker_opened", {"number": number}, tier="free"))
            await trio.sleep(1)
        assert subscription.statistics().crashes == 0
        database.is_away = False
        await until(lambda: len(database.events.kept) == 11)
        assert subscription.statistics().dropped == 9
    numbers = [json.loads(kept.payload)["number"] for kept in database.events.kept.values()]
    assert numbers == [0, *range(10, 20)]


async def test_tier_event_that_finds_no_place_tries_again(autojump_clock: MockClock) -> None:
    """A writer that is full, or not there yet, is full for a moment."""
    database = MemoryDatabase()
    writer, bus = EventWriter(database.events), DomainEvents()
    bus.subscribe("tier events", TierEvents(writer, instance="one"))
    async with running(bus) as nursery:
        bus.publish(DomainEvent("tier.breaker_opened", {}, tier="free"))
        await trio.sleep(10)
        assert not database.events.kept
        await nursery.start(writer.run)
        await until(lambda: len(database.events.kept) == 1, within=2)
