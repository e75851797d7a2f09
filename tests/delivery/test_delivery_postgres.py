"""All stages over a real PostgreSQL: what the stores promise is what the stages rely on."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import attrs
import pytest
import trio

from bulkhead_trio.database import PoolSettings, create_pool
from bulkhead_trio.database.connection import Connection
from bulkhead_trio.database.deliveries import DeliveryStore
from bulkhead_trio.database.delivery_records import DeliveryFilter, NotificationDraft
from bulkhead_trio.database.event_records import EventDraft
from bulkhead_trio.database.events import EventStore
from bulkhead_trio.database.notifications import NotificationStore
from bulkhead_trio.database.pool import Pool
from bulkhead_trio.database.pruning import Pruning
from bulkhead_trio.database.webhook_records import WebhookDraft
from bulkhead_trio.database.webhooks import WebhookStore
from bulkhead_trio.database.work import NotificationWorkStore, WebhookWorkStore
from bulkhead_trio.database.work_feed import create_work_feed
from bulkhead_trio.delivery.finisher import UNWRITABLE
from bulkhead_trio.delivery.opening import Delivery, DeliveryStores, open_delivery
from bulkhead_trio.delivery.settings import DeliverySettings

from ._world import SCHEDULE, Receiver
from .test_opening import Channels, Sender


@attrs.frozen
class House:
    pool: Pool[Connection]
    tenant: UUID
    webhooks: WebhookStore

    async def webhook(self, *event_types: str) -> UUID:
        draft = WebhookDraft(uuid4(), self.tenant, "http://hooks.example/", event_types, b"sealed")
        return (await self.webhooks.create(draft)).id


@asynccontextmanager
async def open_house(conninfo: str) -> AsyncIterator[House]:
    pool = create_pool("deliveries", PoolSettings(conninfo))
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        tenant = uuid4()
        async with pool.acquire() as connection:
            await connection.execute(
                "INSERT INTO tenants (id, name, tier) VALUES (%s, %s, 'free')",
                (tenant, f"tenant {tenant}"),
            )
        yield House(pool, tenant, WebhookStore(pool))
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_instance(
    house: House, webhooks: Receiver, notifications: Receiver, **options: float
) -> AsyncIterator[Delivery]:
    settings: Mapping[str, float] = {"poll_seconds": 30.0, "grace_seconds": 2.0, **options}
    stores = DeliveryStores(
        events=EventStore(house.pool),
        webhooks=WebhookWorkStore(house.pool),
        notifications=NotificationWorkStore(house.pool),
        history=Pruning(house.pool),
    )
    async with open_delivery(
        stores,
        sender=Sender(webhooks),
        channels=Channels(notifications),
        settings=DeliverySettings(schedule=SCHEDULE, **settings),  # type: ignore[arg-type]
        instance="one",
    ) as delivery:
        yield delivery


async def seen(condition: Callable[[], Awaitable[bool]], *, within: float = 10.0) -> None:
    with trio.fail_after(within):
        while not await condition():
            await trio.sleep(0.02)


async def test_events_are_delivered_by_two_instances(database: str) -> None:
    """Each to every endpoint that wants it, once; nothing is left to be done."""
    async with open_house(database) as house:
        everything, orders = await house.webhook("*"), await house.webhook("order.*")
        await house.webhook("user.*")
        receiver = Receiver(seconds=0.001)
        deliveries = DeliveryStore(house.pool)
        async with open_instance(house, receiver, Receiver()) as one:
            async with open_instance(house, receiver, Receiver()):
                async with trio.open_nursery() as nursery:
                    for number in range(60):
                        draft = EventDraft(house.tenant, "order.completed", b'{"n":%d}' % number)
                        nursery.start_soon(one.events.add, draft)

                async def all_is_delivered() -> bool:
                    page = await deliveries.page(
                        house.tenant, DeliveryFilter(state="delivered"), limit=100, cursor=None
                    )
                    return len(receiver.ended) == 120 and len(page.items) == 100

                await seen(all_is_delivered)
        assert len(set(receiver.ended)) == 120
        backlog = await WebhookWorkStore(house.pool).backlog()
        assert (backlog.pending, backlog.retrying, backlog.dead, backlog.leased) == (0, 0, 0, 0)
        for webhook in (everything, orders):
            page = await deliveries.page(
                house.tenant, DeliveryFilter(webhook_id=webhook), limit=100, cursor=None
            )
            assert Counter(each.state for each in page.items) == {"delivered": 60}


async def test_database_wakes_an_instance_that_did_not_write(database: str) -> None:
    """What another process has committed is begun at once, not at the next look."""
    async with open_house(database) as house:
        await house.webhook("*")
        webhooks, notifications = Receiver(), Receiver()
        async with open_instance(house, webhooks, notifications) as delivery:
            feed = create_work_feed(database, [delivery.waking])
            async with trio.open_nursery() as nursery:
                await nursery.start(feed.run)
                with trio.fail_after(5):
                    while not feed.statistics().is_listening:
                        await trio.sleep(0.01)
                await trio.sleep(0.2)
                began = trio.current_time()
                await EventStore(house.pool).add([EventDraft(house.tenant, "a.b", b"{}")])
                await NotificationStore(house.pool).add(
                    NotificationDraft(house.tenant, "smtp", "a@example.com", "subject", "body")
                )
                with trio.fail_after(5):
                    while not (webhooks.ended and notifications.ended):
                        await trio.sleep(0.005)
                assert trio.current_time() - began < 2.0
                nursery.cancel_scope.cancel()


async def test_work_of_an_instance_that_vanished_is_done_by_another(database: str) -> None:
    """After its lease, by the sweep of whoever is there."""
    async with open_house(database) as house:
        await house.webhook("*")
        await EventStore(house.pool).add([EventDraft(house.tenant, "a.b", b"{}")])
        await EventStore(house.pool).fan_out(10)
        vanished = await WebhookWorkStore(house.pool).claim(uuid4(), 10, 1.0, 10)
        assert len(vanished) == 1
        receiver = Receiver()
        async with open_instance(house, receiver, Receiver()):
            with trio.fail_after(12):
                while not receiver.ended:
                    await trio.sleep(0.02)
        assert receiver.ended == [vanished[0].item_id]


async def test_stopped_instance_leaves_no_lease(database: str) -> None:
    """What was sent is written, what was not is anybody's."""
    async with open_house(database) as house:
        await house.webhook("*")
        events = EventStore(house.pool)
        await events.add([EventDraft(house.tenant, "a.b", b"{}")] * 12)
        await events.fan_out(100)
        receiver = Receiver(seconds=0.5)
        async with open_instance(house, receiver, Receiver()):
            with trio.fail_after(10):
                while not receiver.begun:
                    await trio.sleep(0.01)
        backlog = await WebhookWorkStore(house.pool).backlog()
        assert backlog.leased == 0
        assert backlog.pending == 12 - len(receiver.ended)
        assert receiver.ended
        assert not receiver.cut_off


async def test_result_with_a_character_that_postgresql_refuses_is_written(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the words: what was delivered stays delivered."""
    async with open_house(database) as house:
        await house.webhook("*")
        events = EventStore(house.pool)
        await events.add([EventDraft(house.tenant, "a.b", b"{}")] * 2)
        await events.fan_out(100)
        deliveries = DeliveryStore(house.pool)
        page = await deliveries.page(house.tenant, DeliveryFilter(), limit=10, cursor=None)
        bad, good = (each.id for each in page.items)
        receiver = Receiver(responses={bad: "a \0 in it", good: "fine"})
        async with open_instance(house, receiver, Receiver()):

            async def both_are_delivered() -> bool:
                page = await deliveries.page(
                    house.tenant, DeliveryFilter(state="delivered"), limit=10, cursor=None
                )
                return len(page.items) == 2

            await seen(both_are_delivered)
        (attempt,) = await deliveries.attempts(house.tenant, bad)
        assert (attempt.status, attempt.response, attempt.error) == (204, None, UNWRITABLE)
        (attempt,) = await deliveries.attempts(house.tenant, good)
        assert (attempt.status, attempt.response, attempt.error) == (204, "fine", None)
    assert "could not be written together" in caplog.text
