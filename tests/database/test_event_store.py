"""Events, idempotency keys and fan-out in a real PostgreSQL."""

from __future__ import annotations

import uuid
from uuid import UUID

import psycopg
import pytest
import trio

from bulkhead_trio.database.delivery_records import DeliveryFilter
from bulkhead_trio.database.event_records import Added, Conflicted, EventDraft, FannedOut
from bulkhead_trio.errors import CallerError, DatabaseUnavailable, NotFound
from tests.database._delivery import added, opened
from tests.delivery._patterns import patterns_for


async def test_event_is_kept_as_it_was_sent(database: str) -> None:
    """To the last digit and space of its payload, under an id that later ones are above."""
    payload = (
        b'{ "amount": 1234567890123456789.000000000000000001, "n":\t"\\u0000 \xf0\x9f\x98\x80" }'
    )
    async with opened(database) as world:
        tenant = await world.tenant()
        one, two = added(
            await world.events.add(
                [EventDraft(tenant, "a", payload), EventDraft(tenant, "b", b"1")]
            )
        )
        event = await world.events.get(tenant, one)
        assert (event.id, event.tenant_id, event.type, event.payload) == (one, tenant, "a", payload)
        assert event.tier is None
        await trio.sleep(0.002)
        (three,) = added(await world.events.add([EventDraft(tenant, "c", b"2")]))
        assert three > max(one, two)
        for other in (await world.tenant(), uuid.uuid4()):
            with pytest.raises(NotFound):
                await world.events.get(other, one)
        assert await world.events.add([]) == []


async def test_event_of_a_known_key_is_the_first_one(database: str) -> None:
    """If it says the same; if not there is a conflict. Another tenant's key is another."""
    async with opened(database) as world:
        tenant, other = await world.tenant(), await world.tenant()
        first = EventDraft(tenant, "a", b'{"x":1,"y":2}', "key")
        results = await world.events.add([first, first, EventDraft(tenant, "b", b"1", "key")])
        assert isinstance(results[0], Added)
        id_ = results[0].id
        assert results == [Added(id_, True), Added(id_, False), Conflicted(id_)]
        results = await world.events.add(
            [
                EventDraft(tenant, "a", b'{ "y": 2, "x": 1 }', "key"),
                EventDraft(tenant, "a", b'{"x":2,"y":2}', "key"),
                EventDraft(other, "a", b"3", "key"),
                EventDraft(tenant, "a", b"3"),
            ]
        )
        assert results[:2] == [Added(id_, False), Conflicted(id_)]
        assert len(set(added(results[2:]))) == 2
        assert await world.value("SELECT count(*) FROM events") == 3
        assert await world.value("SELECT count(*) FROM event_outbox") == 3


async def test_event_added_by_many_at_once_is_one(database: str) -> None:
    """Whoever is second is told of the first, and there is one delivery."""
    ids: list[UUID] = []
    async with opened(database) as world:
        tenant = await world.tenant()
        await world.webhook(tenant)

        async def add() -> None:
            ids.extend(added(await world.events.add([EventDraft(tenant, "a", b"{}", "key")])))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(add)
        assert len(ids) == 20
        assert len(set(ids)) == 1
        assert await world.fanned_out() == 1


@pytest.mark.parametrize("payload", [b"{", b"\xff", b'"a\0b"'])
async def test_event_that_cannot_be_kept_is_refused_with_its_batch(
    module_database: str, payload: bytes
) -> None:
    """The caller's mistake; nothing of the batch is there, so it can be added without that one."""
    async with opened(module_database) as world:
        tenant = await world.tenant()
        drafts = [EventDraft(tenant, "a", b"{}"), EventDraft(tenant, "a", payload)]
        with pytest.raises(CallerError):
            await world.events.add(drafts)
        assert await world.value("SELECT count(*) FROM events") == 0


async def test_fan_out_makes_a_delivery_for_each_endpoint_that_matches(database: str) -> None:
    """The tenant's own, by their patterns, on or off; no other's; each event once."""
    async with opened(database) as world:
        tenant, other = await world.tenant(), await world.tenant()
        wanted = [
            await world.webhook(tenant, "*"),
            await world.webhook(tenant, "order.*"),
            await world.webhook(tenant, "order.item.added"),
            await world.webhook(tenant, "x", "order.item.*", "order.*"),
        ]
        await world.webhook(tenant, "order.item", "order.item.added.late", "orders.*")
        await world.webhook(other, "*")
        await world.events.add([EventDraft(tenant, "order.item.added", b"{}")])
        assert await world.events.fan_out(10) == FannedOut(1, 4)
        assert await world.events.fan_out(10) == FannedOut(0, 0)
        page = await world.deliveries.page(tenant, DeliveryFilter(), limit=10)
        assert {each.webhook_id for each in page.items} == {each.id for each in wanted}
        assert {(each.state, each.event_type) for each in page.items} == {
            ("pending", "order.item.added")
        }


@pytest.mark.parametrize("type_", ["a", "order.completed", "order.item.added_2", "a.b.c.d.e"])
async def test_fan_out_matches_as_the_rules_say(module_database: str, type_: str) -> None:
    """In SQL and in Python the same patterns take a type."""
    async with opened(module_database) as world:
        patterns = await world.value("SELECT bulkhead_trio_patterns(%s)", (type_,))
        assert sorted(patterns) == sorted(patterns_for(type_))


async def test_fan_out_of_a_test_goes_to_one_endpoint(database: str) -> None:
    """Whatever types it takes; not to another tenant's."""
    async with opened(database) as world:
        tenant = await world.tenant()
        chosen = await world.webhook(tenant, "order.*")
        await world.webhook(tenant)
        foreign = await world.webhook(await world.tenant())
        drafts = [
            EventDraft(tenant, "test", b"{}", webhook_id=each.id) for each in (chosen, foreign)
        ]
        await world.events.add(drafts)
        assert await world.fanned_out() == 1
        (work,) = await world.claimed()
        assert work.queue_id == chosen.id


async def test_event_of_a_tier_goes_to_all_its_tenants(database: str) -> None:
    """To endpoints that take its type; the tenants of the tier can read it, others cannot."""
    async with opened(database) as world:
        inside = [await world.tenant(tier="pro") for _ in range(2)]
        outside = await world.tenant(tier="free")
        for tenant in (*inside, outside):
            await world.webhook(tenant, "tier.*")
            await world.webhook(tenant, "order.*")
        draft = EventDraft(None, "tier.breaker_opened", b"{}", tier="pro")
        (id_,) = added(await world.events.add([draft]))
        assert await world.fanned_out() == 2
        works = await world.claimed()
        assert {work.tenant_id for work in works} == set(inside)
        assert {work.event_id for work in works} == {id_}
        assert (await world.events.get(inside[0], id_)).tier == "pro"
        with pytest.raises(NotFound):
            await world.events.get(outside, id_)


async def test_fan_out_by_many_at_once_makes_each_delivery_once(database: str) -> None:
    """Every event is fanned out, and none twice."""
    async with opened(database, connections=8) as world:
        tenant = await world.tenant()
        for _ in range(3):
            await world.webhook(tenant)
        await world.events.add([EventDraft(tenant, "a", b"%d" % n) for n in range(200)])

        async def fan_out() -> None:
            while (await world.events.fan_out(7)).events:
                pass

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(fan_out)
        assert await world.value("SELECT count(*) FROM deliveries") == 600
        assert await world.value(
            "SELECT count(DISTINCT (event_id, webhook_id)) FROM deliveries"
        ) == 600  # fmt: skip
        await world.check_heads()


async def test_fan_out_that_fails_is_undone(database: str) -> None:
    """The events are in the outbox as before, and nothing of them is anywhere else."""
    async with opened(database) as world:
        tenant = await world.tenant()
        await world.webhook(tenant)
        await world.events.add([EventDraft(tenant, "a", b"{}")])
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("ALTER TABLE work_heads ADD CONSTRAINT no CHECK (lane > 1)")
            with pytest.raises((DatabaseUnavailable, CallerError)):
                await world.events.fan_out(10)
            for table in ("deliveries", "work", "work_heads"):
                assert await world.value(f"SELECT count(*) FROM {table}") == 0
            connection.execute("ALTER TABLE work_heads DROP CONSTRAINT no")
        assert await world.events.fan_out(10) == FannedOut(1, 1)


async def test_events_that_wait_are_counted(database: str) -> None:
    """Those that are no deliveries yet, and no others."""
    async with opened(database) as world:
        tenant = await world.tenant()
        assert await world.events.waiting() == 0
        await world.events.add([EventDraft(tenant, "a", b"{}") for _ in range(3)])
        assert await world.events.waiting() == 3
        await world.events.fan_out(2)
        assert await world.events.waiting() == 1
