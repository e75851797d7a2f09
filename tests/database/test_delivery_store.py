"""The history of deliveries, dead letters and replays in a real PostgreSQL."""

from __future__ import annotations

import datetime
import uuid

import pytest
import trio

from bulkhead_trio.database._cursor_rules import Cursor, decode_cursor, encode_cursor
from bulkhead_trio.database.delivery_records import DeliveryFilter, DeliveryState
from bulkhead_trio.database.webhook_records import WebhookChanges
from bulkhead_trio.database.work_records import Backlog, Lane
from bulkhead_trio.errors import CallerError, NotFound
from tests.database._delivery import World, ids, opened


async def test_deliveries_are_listed_newest_first_in_pages(database: str) -> None:
    """Each once, whatever the size of the page; no other tenant's."""
    async with opened(database) as world:
        tenant, other = await world.tenant(), await world.tenant()
        await world.webhook(tenant)
        await world.webhook(other)
        for _ in range(3):
            await world.raised(tenant, 3)
            await world.raised(other, 1)
        seen = []
        cursor: Cursor | None = None
        while True:
            page = await world.deliveries.page(tenant, DeliveryFilter(), limit=2, cursor=cursor)
            seen.extend(page.items)
            if page.next_cursor is None:
                break
            cursor = decode_cursor(encode_cursor(page.next_cursor))
        assert len(seen) == len({each.id for each in seen}) == 9
        assert seen == sorted(seen, key=lambda each: (each.created_at, each.id), reverse=True)
        everybody = await world.deliveries.page(None, DeliveryFilter(), limit=100)
        assert len(everybody.items) == 12
        with pytest.raises(CallerError):
            await world.deliveries.page(tenant, DeliveryFilter(), limit=2, cursor=Cursor(1, "7"))
        with pytest.raises(ValueError):
            await world.deliveries.page(tenant, DeliveryFilter(), limit=101)


async def test_delivery_of_another_tenant_is_not_found(database: str) -> None:
    """Nor its attempts, nor is it replayed; an operator finds it."""
    async with opened(database) as world:
        tenant, other = await world.tenant(), await world.tenant()
        await world.webhook(tenant)
        await world.raised(tenant)
        (work,) = await world.claimed()
        await world.finished([work], "dead")
        for tenant_id, id_ in ((other, work.item_id), (tenant, uuid.uuid4()), (None, uuid.uuid4())):
            for method in ("get", "attempts", "replay"):
                with pytest.raises(NotFound):
                    await getattr(world.deliveries, method)(tenant_id, id_)
        assert (await world.deliveries.get(None, work.item_id)).state == "dead"


async def ended(world: World) -> tuple[uuid.UUID, list[uuid.UUID], datetime.datetime]:
    """A tenant with two endpoints; of each a delivery in every state, and a moment between."""
    tenant = await world.tenant()
    hooks = [
        (await world.webhook(tenant, "order.*")).id,
        (await world.webhook(tenant, "user.*")).id,
    ]
    types = ("order.completed", "user.added")
    for type_ in types:
        await world.raised(tenant, 3, type_)
        works = [work for work in await world.claimed() if work.tenant_id == tenant]
        await world.finished(works[:1])
        await world.finished(works[1:2], "dead")
        await world.finished(works[2:], "retry", after=300)
    for type_ in types:
        await world.raised(tenant, 1, type_)
    middle = await world.value("SELECT min(created_at) FROM events WHERE type = 'user.added'")
    return tenant, hooks, middle


async def test_deliveries_are_found_by_what_is_asked(database: str) -> None:
    """State, endpoint, type and time, alone and together."""
    async with opened(database) as world:
        tenant, hooks, middle = await ended(world)

        async def count(**wanted: object) -> int:
            page = await world.deliveries.page(tenant, DeliveryFilter(**wanted), limit=100)  # type: ignore[arg-type]
            return len(page.items)

        assert await count() == 8
        states: list[DeliveryState] = ["pending", "retrying", "delivered", "dead"]
        for state in states:
            assert await count(state=state) == 2
            assert await count(state=state, webhook_id=hooks[0]) == 1
        assert await count(webhook_id=hooks[1]) == 4
        assert await count(event_type="user.added") == 4
        assert await count(event_type="user.*") == 4
        assert await count(event_type="*") == 8
        assert await count(event_type="user") == 0
        assert await count(since=middle) == 5
        assert await count(until=middle) == 3
        assert await count(since=middle, until=middle) == 0
        assert await count(state="dead", webhook_id=hooks[0], event_type="user.added") == 0


async def test_replay_makes_what_has_ended_anew(database: str) -> None:
    """Delivered or dead, with a new schedule, under the same event; attempts go on counting."""
    async with opened(database) as world:
        tenant = await world.tenant()
        await world.webhook(tenant)
        await world.raised(tenant, 2)
        good, bad = await world.claimed()
        await world.finished([good])
        await world.finished([bad], "dead")
        for work in (good, bad):
            delivery = await world.deliveries.replay(tenant, work.item_id)
            assert (delivery.state, delivery.attempts) == ("pending", 1)
            assert (delivery.next_at, delivery.ended_at) == (None, None)
        assert await world.work.backlog() == Backlog(2, 0, 0, 0)
        again = await world.claimed()
        assert [(work.attempts, work.lane) for work in again] == [(0, Lane.RETRY)] * 2
        assert all(work.scheduled_since > work.created_at for work in again)
        assert {work.event_id for work in again} == {good.event_id, bad.event_id}
        assert set(ids(again)) == {good.item_id, bad.item_id}
        await world.finished(again)
        numbers = [each.number for each in await world.deliveries.attempts(tenant, bad.item_id)]
        assert numbers == [1, 2]


async def test_replay_of_what_has_not_ended(database: str) -> None:
    """A retry is due at once and begins anew; what is under way, or never tried, stays as it is."""
    async with opened(database) as world:
        tenant = await world.tenant()
        await world.webhook(tenant)
        await world.raised(tenant, 2)
        first, second = await world.claimed()
        await world.finished([first], "retry", after=86_400)
        assert (await world.deliveries.replay(tenant, second.item_id)).state == "pending"
        delivery = await world.deliveries.replay(tenant, first.item_id)
        assert (delivery.state, delivery.next_at) == ("retrying", None)
        (again,) = await world.claimed()
        assert (again.item_id, again.attempts, again.lane) == (first.item_id, 0, Lane.RETRY)
        assert again.scheduled_since > first.scheduled_since == again.created_at
        assert await world.finished([second]) == 1, "its lease is as it was"
        await world.finished([again], "retry", after=5)
        numbers = [each.number for each in await world.deliveries.attempts(tenant, first.item_id)]
        assert numbers == [1, 2]
        await world.later(5)
        assert [work.attempts for work in await world.claimed()] == [1]


async def test_replay_to_a_fifo_endpoint_stands_at_the_end_of_the_line(database: str) -> None:
    """And does not hurry the one in front; hurrying that one does."""
    async with opened(database) as world:
        tenant = await world.tenant()
        await world.webhook(tenant, fifo=True)
        await world.raised(tenant, 2)
        (first,) = await world.claimed()
        await world.finished([first])
        (second,) = await world.claimed()
        await world.finished([second], "retry", after=300)
        await world.deliveries.replay(tenant, first.item_id)
        assert await world.claimed() == []
        await world.deliveries.replay(tenant, second.item_id)
        (work,) = await world.claimed()
        assert (work.item_id, work.attempts, work.lane) == (second.item_id, 0, Lane.FIRST)
        await world.finished([work])
        assert ids(await world.claimed()) == [first.item_id]


async def test_replay_to_a_disabled_endpoint_waits_until_it_is_on(database: str) -> None:
    """It is pending meanwhile."""
    async with opened(database) as world:
        tenant = await world.tenant()
        webhook = await world.webhook(tenant)
        await world.raised(tenant)
        works = await world.claimed()
        await world.finished(works, "dead")
        await world.webhooks.update(tenant, webhook.id, WebhookChanges(active=False))
        assert (await world.deliveries.replay(tenant, works[0].item_id)).state == "pending"
        assert await world.claimed() == []
        await world.webhooks.update(tenant, webhook.id, WebhookChanges(active=True))
        assert ids(await world.claimed()) == ids(works)


async def test_replay_by_filter_passes_each_delivery_once(database: str) -> None:
    """In parts, and no part finds again what an earlier one has had delivered meanwhile."""
    async with opened(database) as world:
        tenant = await world.tenant()
        await world.webhook(tenant)
        await world.raised(tenant, 7)
        while works := await world.claimed():
            await world.finished(works)
        wanted = DeliveryFilter(state="delivered")
        cursor: Cursor | None = None
        replayed = []
        while True:
            part = await world.deliveries.replay_matching(tenant, wanted, limit=3, cursor=cursor)
            replayed.append(part.items)
            while works := await world.claimed():
                await world.finished(works)
            if (cursor := part.next_cursor) is None:
                break
        assert replayed == [3, 3, 1]
        with pytest.raises(ValueError):
            await world.deliveries.replay_matching(tenant, wanted, limit=1001)


async def test_replay_by_filter_of_dead_letters_only(database: str) -> None:
    """What is asked for, and the tenant's; nothing else moves."""
    async with opened(database) as world:
        tenant, hooks, middle = await ended(world)
        stranger, _, _ = await ended(world)
        wanted = DeliveryFilter(
            state="dead", webhook_id=hooks[1], event_type="user.*", since=middle
        )
        part = await world.deliveries.replay_matching(tenant, wanted)
        assert (part.items, part.next_cursor) == (1, None)
        assert (await world.deliveries.replay_matching(tenant, wanted)).items == 0
        left = await world.deliveries.page(stranger, DeliveryFilter(state="dead"), limit=10)
        assert len(left.items) == 2
        everybody = await world.deliveries.replay_matching(None, DeliveryFilter(state="dead"))
        assert everybody.items == 3


async def test_replay_of_what_was_seen_dead_leaves_alone_what_is_not(database: str) -> None:
    """Of many who replay the same dead letters, one does; what has moved on is not sent twice."""
    replayed: list[int] = []
    async with opened(database) as world:
        tenant = await world.tenant()
        await world.webhook(tenant)
        await world.raised(tenant, 4)
        works = await world.claimed()
        await world.finished(works, "dead")

        async def replay() -> None:
            part = await world.deliveries.replay_matching(tenant, DeliveryFilter(state="dead"))
            replayed.append(part.items)

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(replay)
        assert sum(replayed) == 4
        await world.finished(await world.claimed())
        statement = "SELECT bulkhead_trio_replay_deliveries(%s::uuid[], %s::text[])"
        seen = (ids(works), ["dead", "retrying", "pending", "delivered"])
        assert await world.value(statement, seen) == [works[3].item_id]
