"""Whose turn it is: tenants' shares, caps, lanes and lines, in a real PostgreSQL."""

from __future__ import annotations

import collections
import uuid
from uuid import UUID

import msgspec
import pytest

from bulkhead_trio.database.work_records import Lane, WebhookWork
from tests.database._delivery import World, ids, opened


async def served(world: World, claims: int, limit: int) -> collections.Counter[UUID]:
    """How many of each tenant, where every claim is finished before the next."""
    counts: collections.Counter[UUID] = collections.Counter()
    for _ in range(claims):
        works = await world.claimed(limit)
        counts.update(work.tenant_id for work in works)
        await world.finished(works)
    return counts


def lanes(works: list[WebhookWork]) -> collections.Counter[Lane]:
    return collections.Counter(work.lane for work in works)


@pytest.mark.parametrize("limit", [1, 8])
@pytest.mark.parametrize("endpoints", [(1, 1), (5, 1), (1, 5), (5, 5)])
async def test_tenants_are_served_by_their_weights(
    database: str, limit: int, endpoints: tuple[int, int]
) -> None:
    """One to three, however many endpoints each has, and however little a claim takes."""
    async with opened(database, most_per_endpoint=8) as world:
        light, heavy = await world.tenant(weight=1), await world.tenant(weight=3)
        for tenant, count in zip((light, heavy), endpoints, strict=True):
            for _ in range(count):
                await world.filled(tenant, (await world.webhook(tenant)).id, 200)
        await served(world, 8, limit)
        counts = await served(world, 96 // limit, limit)
        assert sum(counts.values()) == 96
        assert 2.2 <= counts[heavy] / counts[light] <= 4.0


async def test_queues_may_be_left_out(database: str) -> None:
    """Nothing of theirs is leased, however long their turn has come; later it is."""
    async with opened(database) as world:
        queues = []
        for _ in range(4):
            tenant = await world.tenant()
            queues.append((await world.webhook(tenant)).id)
            await world.filled(tenant, queues[-1], 3)
        *slow, quick = queues
        works = await world.work.claim(world.owner, 20, 60.0, 20, leaving_out=slow)
        assert [work.queue_id for work in works] == [quick] * 3
        works = await world.work.claim(world.owner, 20, 60.0, 20)
        assert sorted(work.queue_id for work in works) == sorted(slow * 3)


async def test_tenant_with_one_event_does_not_wait_behind_ten_thousand(database: str) -> None:
    """It is in the next claim, whatever else there is, and however long that has been served."""
    async with opened(database) as world:
        greedy = await world.tenant()
        for _ in range(10):
            await world.filled(greedy, (await world.webhook(greedy)).id, 1000)
        await served(world, 5, 20)
        for _ in range(3):
            modest = await world.tenant()
            await world.webhook(modest)
            await world.raised(modest)
            works = await world.claimed(4)
            assert modest in {work.tenant_id for work in works}
            await world.finished(works)


async def test_tenant_has_half_of_the_workers_at_most(database: str) -> None:
    """The other half is there for whoever comes; another instance counts for itself."""
    async with opened(database) as world:
        greedy, other = await world.tenant(), await world.tenant()
        for _ in range(10):
            await world.filled(greedy, (await world.webhook(greedy)).id, 100)
        works = await world.claimed(20, parallel=20)
        assert len(works) == 10
        assert await world.claimed(10, parallel=20) == []
        await world.webhook(other)
        await world.raised(other, 3)
        assert {work.tenant_id for work in await world.claimed(10, parallel=20)} == {other}
        assert len(await world.claimed(20, parallel=20, owner=uuid.uuid4())) == 10
        await world.finished(works[:3])
        assert len(await world.claimed(10, parallel=20)) == 3


async def test_tenant_at_its_cap_does_not_hide_the_others(database: str) -> None:
    """However many of its endpoints are in front of them."""
    async with opened(database) as world:
        greedy, other = await world.tenant(weight=100), await world.tenant()
        for _ in range(30):
            await world.filled(greedy, (await world.webhook(greedy)).id, 10)
        await world.webhook(other)
        await world.raised(other, 4)
        works = await world.claimed(8, parallel=8)
        assert lanes(works) == {Lane.FIRST: 8}
        assert collections.Counter(work.tenant_id for work in works) == {greedy: 4, other: 4}


async def test_endpoint_has_four_under_way_at_most(database: str) -> None:
    """At all instances together, first tries and retries together; a finish makes room for one."""
    async with opened(database) as world:
        tenant = await world.tenant()
        webhook = await world.webhook(tenant)
        await world.filled(tenant, webhook.id, 50)
        await world.filled(tenant, webhook.id, 50, lane=1, attempts=1)
        works = await world.claimed(3)
        others = await world.claimed(20, owner=uuid.uuid4())
        assert (len(works), len(others)) == (3, 1)
        assert await world.claimed() == []
        await world.finished(works[:1])
        assert len(await world.claimed()) == 1
        assert await world.claimed() == []
        await world.work.release(world.owner, ids(works[1:]))
        assert len(await world.claimed()) == 2


async def test_endpoint_has_four_under_way_also_for_claims_at_once(database: str) -> None:
    """Who claims first tries counts the retries too: nobody else claims those meanwhile."""
    async with opened(database) as world:
        tenant = await world.tenant()
        webhook = await world.webhook(tenant)
        await world.filled(tenant, webhook.id, 50)
        await world.filled(tenant, webhook.id, 50, lane=1, attempts=1)
        await world.sql("UPDATE work_heads SET due_at = now() + interval '1 hour' WHERE lane = 1")
        claim = b"SELECT bulkhead_trio_claim(1::smallint, %s, 3, '1 minute', 1000, 4, 0, '{}')"
        async with world.pool.acquire() as connection, connection.transaction():
            found = await connection.execute(claim, (world.owner,))
            assert [len(row[0]) for row in await found.fetchall()] == [3]
            await world.sql("UPDATE work_heads SET due_at = now() WHERE lane = 1")
            assert await world.claimed(20, owner=uuid.uuid4()) == []
        assert len(await world.claimed(20, owner=uuid.uuid4())) == 1


async def test_retries_alone_leave_nothing_behind(database: str) -> None:
    """The head that stands for their queue goes with them; first tries that come find it."""
    async with opened(database) as world:
        tenant = await world.tenant()
        webhook = await world.webhook(tenant)
        await world.filled(tenant, webhook.id, 3, lane=1, attempts=1)
        works = await world.claimed(2)
        assert lanes(works) == {Lane.RETRY: 2}
        await world.raised(tenant)
        more = await world.claimed()
        assert lanes(more) == {Lane.FIRST: 1, Lane.RETRY: 1}
        await world.finished([*works, *more])
        assert await world.claimed() == []
        assert await world.sql("SELECT * FROM work_heads") == []


@pytest.mark.parametrize(("chance", "retries"), [(0.0, 3), (0.49, 3), (0.5, 2), (0.99, 2)])
async def test_retries_get_a_quarter_while_first_tries_wait(
    database: str, chance: float, retries: int
) -> None:
    """Of ten two or three, by chance; whatever number of either there is."""
    async with opened(database, chance=chance) as world:
        for _ in range(10):
            tenant = await world.tenant()
            webhook = await world.webhook(tenant)
            await world.filled(tenant, webhook.id, 10)
            await world.filled(tenant, webhook.id, 500, lane=1, attempts=1)
        works = await world.claimed(10)
        assert lanes(works) == {Lane.FIRST: 10 - retries, Lane.RETRY: retries}


@pytest.mark.parametrize(("chance", "lane"), [(0.24, Lane.RETRY), (0.25, Lane.FIRST)])
async def test_claim_of_one_goes_to_either_lane(database: str, chance: float, lane: Lane) -> None:
    """A quarter of them to retries: neither lane starves when claims are small."""
    async with opened(database, chance=chance) as world:
        tenant = await world.tenant()
        webhook = await world.webhook(tenant)
        await world.filled(tenant, webhook.id, 10)
        await world.filled(tenant, webhook.id, 10, lane=1, attempts=1)
        (work,) = await world.claimed(1)
        assert work.lane == lane


async def test_retries_under_way_leave_room_for_first_tries(database: str) -> None:
    """A quarter of the workers while those wait, three quarters when none do."""
    async with opened(database) as world:
        for _ in range(10):
            tenant = await world.tenant()
            await world.filled(tenant, (await world.webhook(tenant)).id, 100, lane=1, attempts=1)
        works = await world.claimed(20, parallel=20)
        assert lanes(works) == {Lane.RETRY: 15}
        assert await world.claimed(5, parallel=20) == []
        newcomer = await world.tenant()
        await world.webhook(newcomer)
        await world.raised(newcomer, 8)
        assert lanes(await world.claimed(3, parallel=20)) == {Lane.FIRST: 3}
        await world.finished(works[:12])
        assert lanes(await world.claimed(2, parallel=20)) == {Lane.FIRST: 1, Lane.RETRY: 1}


async def test_lane_that_is_empty_leaves_its_slots_to_the_other(database: str) -> None:
    """Nothing stands idle while there is work."""
    async with opened(database) as world:
        for _ in range(5):
            tenant = await world.tenant()
            await world.filled(tenant, (await world.webhook(tenant)).id, 2)
        other = await world.tenant()
        for _ in range(5):
            await world.filled(other, (await world.webhook(other)).id, 10, lane=1, attempts=1)
        assert lanes(await world.claimed(20)) == {Lane.FIRST: 10, Lane.RETRY: 10}


async def test_fifo_endpoint_has_one_under_way_in_the_order_of_events(database: str) -> None:
    """The next goes out when the one before has ended, and not before."""
    async with opened(database) as world:
        tenant = await world.tenant()
        await world.webhook(tenant, fifo=True)
        payloads = []
        for _ in range(3):
            await world.raised(tenant, 2)
        for _ in range(6):
            (work,) = await world.claimed()
            assert await world.claimed(owner=uuid.uuid4()) == []
            payloads.append(work.payload)
            await world.finished([work])
        numbers = [msgspec.json.decode(payload)["n"] for payload in payloads]
        assert len(numbers) == 6
        assert numbers == sorted(numbers)


async def test_fifo_head_of_line_holds_the_others_back(database: str) -> None:
    """Until it is delivered or dead; nothing that comes meanwhile hurries it, or overtakes it."""
    async with opened(database) as world:
        tenant = await world.tenant()
        await world.webhook(tenant, fifo=True)
        await world.raised(tenant, 3)
        (first,) = await world.claimed()
        await world.finished([first], "retry", after=300)
        assert await world.claimed() == []
        await world.raised(tenant)
        assert await world.claimed() == []
        await world.later(300)
        (again,) = await world.claimed()
        assert (again.item_id, again.attempts, again.lane) == (first.item_id, 1, Lane.FIRST)
        await world.finished([again], "deferred", after=30)
        assert await world.claimed() == []
        await world.later(30)
        (again,) = await world.claimed()
        assert (again.item_id, again.attempts) == (first.item_id, 1)
        await world.finished([again], "dead")
        (second,) = await world.claimed()
        assert second.seq > first.seq
        assert second.attempts == 0
