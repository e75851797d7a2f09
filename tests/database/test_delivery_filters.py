"""Lists, counts and replays of what filters leave, in a real PostgreSQL: all three agree."""

from __future__ import annotations

import datetime
import uuid
from uuid import UUID

import pytest

from bulkhead_trio.database._cursor_rules import Cursor
from bulkhead_trio.database.deliveries import MOST_REPLAYED
from bulkhead_trio.database.delivery_records import DeliveryFilter, NotificationFilter
from bulkhead_trio.errors import DatabaseUnavailable
from tests.database._delivery import World, opened

START = datetime.datetime(2026, 2, 11, 12, 0, tzinfo=datetime.UTC)


def minutes(number: int) -> datetime.datetime:
    return START + datetime.timedelta(minutes=number)


async def put_letter(
    world: World, tenant: UUID, *, at: int, state: str = "dead", channel: str = "smtp"
) -> UUID:
    id_: UUID = await world.value(
        "INSERT INTO notifications"
        " (tenant_id, channel, recipient, subject, body, state, created_at, ended_at)"
        " VALUES (%(tenant)s, %(channel)s, 'a@example.com', 's', 'b', %(state)s, %(at)s,"
        " CASE WHEN %(state)s IN ('dead', 'delivered') THEN now() END) RETURNING id",
        {"tenant": tenant, "channel": channel, "state": state, "at": minutes(at)},
    )
    return id_


async def put_deliveries(world: World, tenant: UUID, count: int, *, type: str) -> None:
    webhook = (await world.webhook(tenant)).id
    await world.sql(
        "WITH e AS (INSERT INTO events (tenant_id, type, payload) VALUES (%s, %s, '1')"
        " RETURNING id) INSERT INTO deliveries (event_id, webhook_id, tenant_id, state, ended_at)"
        " SELECT e.id, %s, %s, 'dead', now() FROM e, generate_series(1, %s)",
        (tenant, type, webhook, tenant, count),
    )


async def found(
    world: World, tenant: UUID | None, wanted: NotificationFilter, *, limit: int = 2
) -> list[UUID]:
    """All pages; as many as are counted."""
    ids: list[UUID] = []
    cursor: Cursor | None = None
    while True:
        page = await world.notifications.page(tenant, wanted, limit=limit, cursor=cursor)
        ids += [each.id for each in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert await world.notifications.count(tenant, wanted) == len(ids)
    return ids


async def test_notifications_are_filtered(database: str) -> None:
    """By tenant, state, channel and age, newest first, and by several at once."""
    async with opened(database) as world:
        one, other = await world.tenant(), await world.tenant()
        first = await put_letter(world, one, at=1)
        second = await put_letter(world, one, at=2, channel="http")
        third = await put_letter(world, other, at=3)
        fourth = await put_letter(world, one, at=4, state="delivered")
        fifth = await put_letter(world, one, at=5)
        every = NotificationFilter()
        assert await found(world, None, every) == [fifth, fourth, third, second, first]
        assert await found(world, one, every) == [fifth, fourth, second, first]
        dead = NotificationFilter(state="dead")
        assert await found(world, None, dead) == [fifth, third, second, first]
        assert await found(world, one, NotificationFilter(channel="http")) == [second]
        middle = NotificationFilter(since=minutes(2), until=minutes(5))
        assert await found(world, None, middle) == [fourth, third, second]
        some = NotificationFilter(state="dead", channel="smtp", since=minutes(2))
        assert await found(world, one, some) == [fifth]
        assert await found(world, uuid.uuid4(), every) == []


async def test_notifications_replayed_are_those_that_a_filter_leaves(database: str) -> None:
    """In parts, each of them once, and nothing else."""
    async with opened(database) as world:
        tenant = await world.tenant()
        letters = [await put_letter(world, tenant, at=number) for number in range(5)]
        other = await put_letter(world, tenant, at=9, channel="http")
        wanted = NotificationFilter(state="dead", channel="smtp", since=minutes(1))
        counts = []
        cursor: Cursor | None = None
        while True:
            part = await world.notifications.replay_matching(tenant, wanted, limit=3, cursor=cursor)
            counts.append(part.items)
            cursor = part.next_cursor
            if cursor is None:
                break
        assert counts == [3, 1]
        dead = NotificationFilter(state="dead")
        assert await found(world, tenant, dead) == [other, letters[0]]
        assert await world.value("SELECT count(*) FROM work WHERE kind = 2") == 4
        await world.check_heads()


async def test_deliveries_counted_are_those_that_a_filter_leaves(database: str) -> None:
    """Of one tenant, or of all; an index page is no bound to it."""
    async with opened(database) as world:
        one, other = await world.tenant(), await world.tenant()
        await put_deliveries(world, one, 150, type="order.completed")
        await put_deliveries(world, one, 5, type="user.created")
        await put_deliveries(world, other, 7, type="order.failed")
        count = world.deliveries.count
        assert await count(None, DeliveryFilter()) == 162
        assert await count(one, DeliveryFilter(state="dead")) == 155
        assert await count(one, DeliveryFilter(state="delivered")) == 0
        assert await count(None, DeliveryFilter(event_type="order.*")) == 157
        assert await count(other, DeliveryFilter(event_type="user.created")) == 0


@pytest.mark.parametrize("limit", [0, MOST_REPLAYED + 1])
async def test_replay_of_notifications_is_bounded(database: str, limit: int) -> None:
    """A transaction that is too long holds up others."""
    async with opened(database) as world:
        with pytest.raises(ValueError, match="limit must be from 1 to 1000"):
            await world.notifications.replay_matching(None, NotificationFilter(), limit=limit)


async def test_count_says_that_the_database_is_away() -> None:
    """As every other question."""
    async with opened("postgresql://nobody@127.0.0.1:1/none") as world:
        with pytest.raises(DatabaseUnavailable):
            await world.deliveries.count(None, DeliveryFilter())
        with pytest.raises(DatabaseUnavailable):
            await world.notifications.count(None, NotificationFilter())
