"""All stages together: an event's whole way, and one stage that is stuck beside the others."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.database.event_records import EventDraft
from bulkhead_trio.database.work_records import Finished, NotificationWork, WebhookWork
from bulkhead_trio.delivery.domain import DomainEvent
from bulkhead_trio.delivery.endpoint_breakers import BreakersStatistics
from bulkhead_trio.delivery.opening import Delivery, DeliveryStores, open_delivery
from bulkhead_trio.delivery.settings import DeliverySettings
from bulkhead_trio.errors import BulkheadFull
from bulkhead_trio.observe.delivery_snapshots import INCIDENTS

from ._memory_store import Endpoint, MemoryDatabase
from ._world import SCHEDULE, Receiver, states, until


@attrs.define(eq=False)
class Sender:
    """Sends webhooks to a receiver, and has breakers to speak of."""

    receiver: Receiver

    async def send(self, work: WebhookWork) -> Finished:
        return await self.receiver.send(work)

    def statistics(self) -> BreakersStatistics:
        return BreakersStatistics(3, {"CLOSED": 2, "OPEN": 1}, 1)


@attrs.define(eq=False)
class Channels:
    """The same for notifications."""

    receiver: Receiver
    shared = frozenset({"smtp"})

    async def send(self, work: NotificationWork) -> Finished:
        return await self.receiver.send(work)

    def statistics(self) -> Mapping[str, BreakersStatistics]:
        return {
            "smtp": BreakersStatistics(1, {"CLOSED": 1}, 0),
            "http": BreakersStatistics(2, {"CLOSED": 1, "HALF_OPEN": 1}, 4),
        }


@attrs.define(eq=False)
class House:
    database: MemoryDatabase
    webhooks: Receiver
    notifications: Receiver
    endpoint: Endpoint
    delivery: Delivery

    async def event(self) -> None:
        await self.delivery.events.add(
            EventDraft(self.endpoint.tenant_id, "order.completed", b"{}")
        )

    def of_kind(self, kind: type) -> list[Any]:
        return [item for item in self.database.items.values() if isinstance(item.draft, kind)]


@asynccontextmanager
async def open_house(**options: Any) -> AsyncIterator[House]:
    database = MemoryDatabase()
    endpoint = database.endpoint(database.tenant())
    webhooks, notifications = Receiver(), Receiver()
    stores = DeliveryStores(
        events=database.events,
        webhooks=database.webhooks,
        notifications=database.notifications,
        history=database.history,
    )
    async with open_delivery(
        stores,
        sender=Sender(webhooks),
        channels=Channels(notifications),
        settings=DeliverySettings(**{"schedule": SCHEDULE, "grace_seconds": 20.0, **options}),
        instance="one",
        uniform=lambda: 0.5,
    ) as delivery:
        yield House(database, webhooks, notifications, endpoint, delivery)


async def test_event_goes_all_the_way_at_once(autojump_clock: MockClock) -> None:
    """Each stage wakes the next: no look into the database has to be waited for."""
    async with open_house() as house:
        await trio.sleep(10.3)
        began = trio.current_time()
        await house.event()
        await until(lambda: len(house.webhooks.ended) == 1)
        assert trio.current_time() - began < 0.05


async def test_words_of_the_database_wake_the_stages(autojump_clock: MockClock) -> None:
    """What another instance, or the API, has written is begun at once."""
    async with open_house() as house:
        await trio.sleep(10.3)
        house.database.notification(house.database.tenant())
        began = trio.current_time()
        house.delivery.waking("notifications")
        await until(lambda: len(house.notifications.ended) == 1)
        assert trio.current_time() - began < 0.05


async def test_stuck_webhooks_block_neither_fan_out_nor_notifications(
    autojump_clock: MockClock,
) -> None:
    """Their deliveries wait in the database, as many as there are."""
    async with open_house(webhooks_parallel=2, lease_seconds=3600.0) as house:
        for _ in range(3):
            house.webhooks.stuck.add(house.database.endpoint(house.database.tenant()).id)
        house.webhooks.stuck.add(house.endpoint.id)
        for _ in range(50):
            await house.event()
        await until(lambda: not house.database.events.outbox, within=1)
        assert len(house.of_kind(WebhookWork)) == 50
        for _ in range(20):
            house.database.notification(house.database.tenant())
        await until(lambda: len(house.notifications.ended) == 20, within=2)
        assert house.delivery.statistics().webhooks.active >= 1
        assert not house.webhooks.ended


async def test_stuck_notifications_do_not_block_webhooks(autojump_clock: MockClock) -> None:
    """A mail server that hangs is its own pipeline's trouble."""
    async with open_house(notifications_parallel=2, lease_seconds=3600.0) as house:
        for _ in range(10):
            item = house.database.notification(house.database.tenant())
            house.notifications.stuck.add(item.draft.queue_id)
        await trio.sleep(2)
        assert house.delivery.statistics().notifications.active == 2
        for _ in range(20):
            await house.event()
        await until(lambda: len(house.webhooks.ended) == 20, within=2)


async def test_stuck_fan_out_does_not_block_deliveries(autojump_clock: MockClock) -> None:
    """What has been fanned out is delivered, and events are taken in."""
    async with open_house() as house:

        async def hang(_limit: int) -> Any:
            await trio.sleep_forever()

        house.database.events.fan_out = hang  # type: ignore[method-assign,assignment]
        await trio.sleep(2)
        for _ in range(10):
            await house.event()
            house.database.delivery(house.endpoint)
        await until(lambda: len(house.webhooks.ended) == 10, within=3)
        assert len(house.database.events.outbox) == 10


async def test_crashing_stage_takes_no_other_down(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A mistake in one pipeline's claims is that pipeline's alone."""
    async with open_house() as house:

        async def broken(*_: object, **__: object) -> Any:
            await trio.lowlevel.checkpoint()
            raise KeyError("scripted")

        house.database.notifications.claim = broken  # type: ignore[method-assign]
        await trio.sleep(5)
        for _ in range(10):
            await house.event()
        await until(lambda: len(house.webhooks.ended) == 10, within=2)
        assert house.delivery.statistics().notifications.crashes >= 3
        assert house.delivery.statistics().webhooks.crashes == 0
    assert "the claimer of notifications crashed" in caplog.text


async def test_tier_events_reach_the_tiers_endpoints(autojump_clock: MockClock) -> None:
    """A domain event of a tier goes to those of its tenants that have asked for it."""
    async with open_house() as house:
        database = house.database
        asked = database.endpoint(database.tenant(tier="pro"), event_types=("tier.*",))
        database.endpoint(database.tenant(tier="pro"), event_types=("order.*",))
        house.delivery.domain.publish(
            DomainEvent("tier.breaker_opened", {"retryAfter": 15}, tier="pro")
        )
        await until(lambda: len(house.webhooks.ended) == 1)
        (item,) = house.of_kind(WebhookWork)
        assert item.draft.queue_id == asked.id
        (kept,) = database.events.kept.values()
        assert json.loads(kept.payload) == {"retryAfter": 15, "tier": "pro", "instance": "one"}


async def test_numbers_say_what_there_is(autojump_clock: MockClock) -> None:
    """Of each pipeline: what it holds, what waits in the database, and its breakers."""
    async with open_house(webhooks_parallel=4) as house:
        house.webhooks.stuck.add(house.endpoint.id)
        for _ in range(10):
            await house.event()
        failing = house.database.notification(house.database.tenant())
        house.notifications.fails.add(failing.draft.queue_id)
        await trio.sleep(2.8)
        snapshot = house.delivery.snapshot()
        webhooks = snapshot.pipelines["webhooks"]
        # Half of the workers for one tenant.
        assert (webhooks.max_parallel, webhooks.active, webhooks.queued) == (4, 2, 8)
        assert dict(webhooks.breakers) == {"CLOSED": 2, "HALF_OPEN": 0, "OPEN": 1}
        notifications = snapshot.pipelines["notifications"]
        assert (notifications.max_parallel, notifications.retrying) == (8, 1)
        assert dict(notifications.troubled) == {"smtp": "CLOSED"}
        assert dict(notifications.breakers) == {"CLOSED": 2, "HALF_OPEN": 1, "OPEN": 0}
        assert dict(notifications.outcomes) == {"retry": 1}
        assert sum(notifications.tries.counts) == 1
        assert snapshot.pipelines["webhookFanOut"].outcomes["deliveries"] == 10
        assert (snapshot.intake.accepted, snapshot.intake.batches) == (10, 10)
        await trio.sleep(400)
        assert house.delivery.snapshot().pipelines["notifications"].dead_lettered == 1


async def test_events_that_wait_for_fan_out_are_counted(autojump_clock: MockClock) -> None:
    """While it stands still, as somebody who looks should see."""
    async with open_house() as house:

        async def hang(_limit: int) -> Any:
            await trio.sleep_forever()

        house.database.events.fan_out = hang  # type: ignore[method-assign,assignment]
        await trio.sleep(2)
        for _ in range(7):
            await house.event()
        await trio.sleep(5)
        assert house.delivery.snapshot().pipelines["webhookFanOut"].queued == 7


async def test_events_that_find_no_place_are_counted_and_repeated_ones_once(
    autojump_clock: MockClock,
) -> None:
    """What is told as accepted is what has come, however often it was said."""
    async with open_house(event_places=2) as house:
        draft = EventDraft(house.endpoint.tenant_id, "order.completed", b"{}", "a key")
        for _ in range(3):
            await house.delivery.events.add(draft)
        house.database.seconds = 0.5
        refused = 0

        async def add() -> None:
            nonlocal refused
            try:
                await house.event()
            except BulkheadFull:
                refused += 1

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(add)
        assert refused == 4  # half of the places for one tenant
        intake = house.delivery.snapshot().intake
        assert (intake.accepted, intake.refused, intake.failed) == (2, 4, 0)


async def test_what_should_not_happen_is_counted(autojump_clock: MockClock) -> None:
    """Crashes of stages and mistakes of sends, each with its pipeline."""
    async with open_house() as house:

        async def broken(*_: object, **__: object) -> Any:
            await trio.lowlevel.checkpoint()
            raise KeyError("scripted")

        item = house.database.notification(house.database.tenant())
        house.notifications.raises[item.draft.item_id] = KeyError("scripted")
        house.database.events.fan_out = broken  # type: ignore[method-assign]
        house.database.history.prune = broken  # type: ignore[method-assign]
        await trio.sleep(7200)
        snapshot = house.delivery.snapshot()
        assert snapshot.pipelines["webhookFanOut"].incidents["crashes"] > 10
        assert snapshot.pipelines["webhooks"].incidents == dict.fromkeys(INCIDENTS, 0)
        assert snapshot.pipelines["notifications"].incidents["mistakes"] >= 3
        assert snapshot.intake.crashes > 0


async def test_leaving_gives_everything_back(autojump_clock: MockClock) -> None:
    """By an error of the block too, which comes out as it is."""
    with pytest.raises(KeyError, match="scripted"):
        async with open_house(grace_seconds=5.0) as house:
            house.webhooks.seconds = house.notifications.seconds = 3.0
            for _ in range(4):
                await house.event()
                house.database.notification(house.database.tenant())
            await trio.sleep(2)
            raise KeyError("scripted")
    assert not house.database.leased()
    assert not house.webhooks.cut_off
    assert states(house.of_kind(WebhookWork))["delivered"] == len(house.webhooks.ended) > 0
