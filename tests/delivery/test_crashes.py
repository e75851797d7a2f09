"""Instances that die at any moment and a database that comes and goes: nothing is lost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.database.event_records import EventDraft
from bulkhead_trio.database.work_records import Finished, WebhookWork
from bulkhead_trio.delivery.fan_out import FanOut
from bulkhead_trio.delivery.pipeline import DeliveryPipeline
from bulkhead_trio.errors import DatabaseUnavailable

from ._memory_store import MemoryDatabase, moment
from ._world import SCHEDULE, Receiver, states, until

LEASE = 20.0


class Instance:
    """One process with its own way to the database, which a kill cuts for ever."""

    def __init__(self, database: MemoryDatabase, receiver: Receiver, chance: random.Random) -> None:
        self._database = database
        self._receiver = receiver
        self._chance = chance
        self.is_killed = False

    async def run(self) -> None:
        """Live until `kill`, as a process does: nothing of it is wound up."""
        pipeline = DeliveryPipeline[WebhookWork](
            "webhooks",
            self,
            self._receiver.send,
            parallel=4,
            lease_seconds=LEASE,
            schedule=SCHEDULE,
            grace_seconds=0.0,
            uniform=self._chance.random,
            wall_clock=moment,
        )
        fan_out = FanOut(self, on_made=pipeline.wake, batch=7, uniform=self._chance.random)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(pipeline.run)
            nursery.start_soon(fan_out.run)

    def kill(self) -> None:
        self.is_killed = True
        self._nursery.cancel_scope.cancel()

    async def _way(self) -> MemoryDatabase:
        await trio.lowlevel.checkpoint()
        if self.is_killed:
            raise DatabaseUnavailable("scripted: killed")
        return self._database

    async def claim(self, owner: UUID, **options: Any) -> Sequence[WebhookWork]:
        return await (await self._way()).webhooks.claim(owner, **options)

    async def renew(self, owner: UUID, item_ids: Sequence[UUID], lease_seconds: float) -> set[UUID]:
        return await (await self._way()).webhooks.renew(owner, item_ids, lease_seconds)

    async def finish(self, owner: UUID, results: Sequence[Finished]) -> int:
        return await (await self._way()).webhooks.finish(owner, results)

    async def release(self, owner: UUID, item_ids: Sequence[UUID]) -> int:
        return await (await self._way()).webhooks.release(owner, item_ids)

    async def sweep(self) -> int:
        return await (await self._way()).webhooks.sweep()

    async def backlog(self) -> Any:
        return await (await self._way()).webhooks.backlog()

    async def fan_out(self, limit: int) -> Any:
        return await (await self._way()).events.fan_out(limit)


@pytest.mark.parametrize("seed", range(8))
async def test_crashes_lose_nothing_and_explain_every_duplicate(
    autojump_clock: MockClock, seed: int
) -> None:
    """Every event ends delivered or dead; only what a crash or an outage cut off came twice."""
    chance = random.Random(seed)
    database = MemoryDatabase()
    database.seconds = 0.02
    database.commits_when_cancelled = seed % 2 == 0
    receiver = Receiver(seconds=0.3)
    endpoints = [database.endpoint(database.tenant(), fifo=n == 0) for n in range(6)]
    receiver.fails.add(endpoints[5].id)
    instances: list[Instance] = []
    async with trio.open_nursery() as nursery:

        def launch() -> None:
            instances.append(Instance(database, receiver, chance))
            nursery.start_soon(instances[-1].run)

        for _ in range(3):
            launch()
        for _ in range(100):
            endpoint = chance.choice(endpoints)
            event_id = UUID(int=database.number())
            database.delivery(endpoint, event=event_id)
            await trio.sleep(chance.uniform(0, 0.2))
            if chance.random() < 0.15:
                instances.pop(chance.randrange(3)).kill()
                launch()
            if chance.random() < 0.05:
                database.is_away = not database.is_away
        database.is_away = False
        items = list(database.items.values())
        await until(
            lambda: all(item.state in ("delivered", "dead") for item in items), within=500, every=1
        )
        for instance in instances:
            instance.kill()
    assert not database.leased()
    dead = {item.draft.item_id for item in items if item.state == "dead"}
    assert dead == {item.draft.item_id for item in items if item.draft.queue_id == endpoints[5].id}
    assert all(len(item.tries) == 3 for item in items if item.state == "dead")
    assert all(len(item.tries) == 1 for item in items if item.state == "delivered")
    fifo = [item.draft.item_id for item in items if item.draft.queue_id == endpoints[0].id]
    firsts = list(dict.fromkeys(each for each in receiver.ended if each in fifo))
    assert firsts == fifo


async def test_without_a_crash_nothing_comes_twice(autojump_clock: MockClock) -> None:
    """An outage of the database that leases outlive is no reason either."""
    chance = random.Random(1)
    database, receiver = MemoryDatabase(), Receiver(seconds=0.3)
    endpoints = [database.endpoint(database.tenant()) for _ in range(6)]
    instances = [Instance(database, receiver, chance) for _ in range(3)]
    async with trio.open_nursery() as nursery:
        for instance in instances:
            nursery.start_soon(instance.run)
        for number in range(200):
            database.delivery(chance.choice(endpoints))
            await trio.sleep(0.05)
            database.is_away = 60 <= number % 100 <= 90
        await until(lambda: states(database.items.values())["delivered"] == 200, every=1)
        for instance in instances:
            instance.kill()
    assert set(Counter(receiver.ended).values()) == {1}


async def test_fan_out_is_shared_and_survives_crashes(autojump_clock: MockClock) -> None:
    """Every event has its deliveries once, whoever died."""
    chance = random.Random(2)
    database, receiver = MemoryDatabase(), Receiver(seconds=0.01)
    tenant = database.tenant()
    for patterns in (("*",), ("order.*",), ("user.made",)):
        database.endpoint(tenant, event_types=patterns)
    await database.events.add(
        [EventDraft(tenant.id, "order.completed", b"%d" % n) for n in range(100)]
    )
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            instance = Instance(database, receiver, chance)
            nursery.start_soon(instance.run)
            await trio.sleep(0.01)
            instance.kill()
        nursery.start_soon((last := Instance(database, receiver, chance)).run)
        await until(lambda: states(database.items.values())["delivered"] == 200, every=1)
        last.kill()
    drafts = [item.draft for item in database.items.values()]
    wanted = Counter(each.event_id for each in drafts if isinstance(each, WebhookWork))
    assert set(wanted.values()) == {2}
    assert not database.events.outbox
