"""Tenants, endpoints and lanes beside each other, through a pipeline."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

import trio
from trio.testing import MockClock

from ._memory_store import Endpoint, Item, MemoryDatabase
from ._world import Receiver, pipeline_of, running, states, until


def deliveries(database: MemoryDatabase, endpoint: Endpoint, count: int) -> list[Item]:
    return [database.delivery(endpoint) for _ in range(count)]


async def test_greedy_tenant_does_not_delay_another(autojump_clock: MockClock) -> None:
    """A thousand of one's deliveries wait; another's few go out as they come."""
    database, receiver = MemoryDatabase(), Receiver(seconds=1.0)
    greedy = database.tenant()
    for _ in range(10):
        deliveries(database, database.endpoint(greedy), 40)
    other = database.endpoint(database.tenant())
    async with running(pipeline := pipeline_of(database, receiver, parallel=8)):
        await trio.sleep(5.3)
        for _ in range(5):
            item = database.delivery(other)
            began = trio.current_time()
            pipeline.wake()
            await until(lambda each=item: each.state == "delivered")  # type: ignore[misc]
            assert trio.current_time() - began <= 1.02
            await trio.sleep(1.7)


async def test_tenants_share_by_weight(autojump_clock: MockClock) -> None:
    """With enough to do for all, one of weight 2 has more done than others, and they the same."""
    database, receiver = MemoryDatabase(), Receiver(seconds=0.1)
    for weight in (1.0, 2.0, 1.0):
        tenant = database.tenant(weight=weight)
        for _ in range(5):
            deliveries(database, database.endpoint(tenant), 30)
    async with running(pipeline_of(database, receiver, parallel=8)):
        await until(lambda: len(receiver.begun) >= 200)
    shares = Counter[UUID]()
    for item_id in receiver.begun[:200]:
        shares[database.items[item_id].draft.tenant_id] += 1
    light, heavy, other = (shares[tenant] for tenant in database.tenants)
    assert heavy >= 1.15 * max(light, other)
    assert abs(light - other) <= 8


async def test_dead_endpoint_does_not_hold_the_workers(autojump_clock: MockClock) -> None:
    """Its sends never end, hundreds wait for it, and healthy endpoints do not notice."""
    database, receiver = MemoryDatabase(), Receiver(seconds=0.05)
    tenant = database.tenant()
    dead = database.endpoint(tenant)
    receiver.stuck.add(dead.id)
    deliveries(database, dead, 300)
    others = [database.endpoint(database.tenant()) for _ in range(5)]
    async with running(pipeline := pipeline_of(database, receiver, parallel=8)):
        await trio.sleep(1)
        assert receiver.running[dead.id] == 4
        began = trio.current_time()
        items = [item for other in others for item in deliveries(database, other, 10)]
        pipeline.wake()
        await until(lambda: states(items)["delivered"] == 50)
        assert trio.current_time() - began < 2.0
        assert receiver.running[dead.id] == 4


async def test_slow_endpoints_together_do_not_have_all_workers(autojump_clock: MockClock) -> None:
    """Ten, of ten tenants, each with hundreds that wait: who answers quickly is served at once."""
    database, receiver = MemoryDatabase(), Receiver(seconds=0.05)
    for _ in range(10):
        slow = database.endpoint(database.tenant())
        receiver.seconds_of[slow.id] = 12.0
        deliveries(database, slow, 200)
    quick = [database.endpoint(database.tenant()) for _ in range(3)]
    async with running(pipeline := pipeline_of(database, receiver, parallel=20)):
        await trio.sleep(30.0)  # nobody knew it of them at first
        for _ in range(20):
            items = [item for each in quick for item in deliveries(database, each, 2)]
            began = trio.current_time()
            pipeline.wake()
            await until(lambda: states(items)["delivered"] == 6)  # noqa: B023  awaited here
            assert trio.current_time() - began < 0.5
            await trio.sleep(1.3)
        under_way = sum(receiver.running[each] for each in receiver.seconds_of)
        assert under_way == 16  # and what the quick ones leave is not idle


async def test_endpoint_that_is_quick_again_is_slow_no_more(autojump_clock: MockClock) -> None:
    """A bad minute is forgotten: all workers are everybody's again."""
    database, receiver = MemoryDatabase(), Receiver(seconds=0.2)
    database.webhooks.most_per_endpoint = 100
    endpoints = [database.endpoint(database.tenant()) for _ in range(5)]
    for endpoint in endpoints:
        receiver.seconds_of[endpoint.id] = 3.0
        deliveries(database, endpoint, 20)
    async with running(pipeline := pipeline_of(database, receiver, parallel=10)):
        await trio.sleep(10.0)
        assert receiver.running.total() == 8
        receiver.seconds_of.clear()
        await until(lambda: states(database.items.values())["delivered"] == 100)
        for endpoint in endpoints:
            deliveries(database, endpoint, 20)
        pipeline.wake()
        await trio.sleep(0.3)
        assert receiver.running.total() == 10


async def test_retries_do_not_crowd_out_first_tries_nor_the_other_way_round(
    autojump_clock: MockClock,
) -> None:
    """Both lanes move, first tries three times as fast."""
    database, receiver = MemoryDatabase(), Receiver(seconds=0.5)
    database.webhooks.most_per_endpoint = 100
    failing = [database.endpoint(database.tenant()) for _ in range(4)]
    for endpoint in failing:
        receiver.fails.add(endpoint.id)
        deliveries(database, endpoint, 40)
    async with running(pipeline_of(database, receiver, parallel=8)):
        await until(lambda: states(database.items.values())["retrying"] == 160)
        retries = set(database.items)
        firsts = [
            item
            for _ in range(4)
            for item in deliveries(database, database.endpoint(database.tenant()), 40)
        ]
        receiver.fails.clear()
        await trio.sleep(6)  # all retries are due
        receiver.begun.clear()
        await until(lambda: states(firsts)["delivered"] >= 100)
        begun = Counter(item_id in retries for item_id in receiver.begun)
        assert begun[False] >= 2 * begun[True]
        assert begun[True] >= 10


async def test_two_instances_share_the_work(autojump_clock: MockClock) -> None:
    """Each delivery is sent once, by one of them, and neither has all of it."""
    database = MemoryDatabase()
    receivers = [Receiver(seconds=0.2), Receiver(seconds=0.2)]
    for _ in range(10):
        deliveries(database, database.endpoint(database.tenant()), 20)
    pipelines = [pipeline_of(database, receiver, parallel=4) for receiver in receivers]
    async with running(*pipelines):
        await until(lambda: states(database.items.values())["delivered"] == 200)
    counts = [len(receiver.begun) for receiver in receivers]
    assert sum(counts) == 200
    assert min(counts) > 60


async def test_fifo_endpoint_has_one_send_at_a_time(autojump_clock: MockClock) -> None:
    """Over several instances, and while other endpoints are served side by side."""
    database = MemoryDatabase()
    receiver = Receiver(seconds=0.05)
    fifo = database.endpoint(database.tenant(), fifo=True)
    items = deliveries(database, fifo, 20)
    for _ in range(3):
        deliveries(database, database.endpoint(database.tenant()), 20)
    most = 0
    async with running(*(pipeline_of(database, receiver) for _ in range(3))):
        while states(items)["delivered"] < 20:
            most = max(most, receiver.running[fifo.id])
            await trio.sleep(0.005)
    assert most == 1
    ids = [item.draft.item_id for item in items]
    assert [item_id for item_id in receiver.ended if item_id in ids] == ids
