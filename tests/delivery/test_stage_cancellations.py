"""Cancelled at any checkpoint, a stage leaves nothing behind that nobody knows of."""

from __future__ import annotations

from uuid import uuid4

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.database.event_records import Added, EventDraft
from bulkhead_trio.delivery.claimer import Claimer
from bulkhead_trio.delivery.events import EventWriter
from bulkhead_trio.delivery.finisher import Finisher
from bulkhead_trio.delivery.leases import Held, Holdings, Run
from bulkhead_trio.delivery.sending import Sending
from bulkhead_trio.delivery.slowness import Slowness
from bulkhead_trio.errors import Shed
from bulkhead_trio.testing import CancellationPoint, sweep_cancellations

from ._memory_store import MemoryDatabase, moment
from ._world import SCHEDULE, AnyWork, Receiver, pipeline_of, running, states, until


def a_database(items: int, *, commits: bool = False) -> MemoryDatabase:
    database = MemoryDatabase()
    database.seconds = 0.1
    database.commits_when_cancelled = commits
    endpoint = database.endpoint(database.tenant())
    for _ in range(items):
        database.delivery(endpoint)
    return database


async def all_is_delivered_by_another(database: MemoryDatabase) -> None:
    """Within one lease, whatever was cancelled where."""
    database.seconds = 0.0
    total = len(database.items)
    async with running(pipeline_of(database, Receiver())):
        await until(
            lambda: states(database.items.values())["delivered"] == total, within=80, every=1
        )


@pytest.mark.parametrize("commits", [False, True])
async def test_claimer_cancelled_anywhere_knows_what_it_handed_on(
    autojump_clock: MockClock, commits: bool
) -> None:
    """What a claim brought is held and handed on, both or neither; the rest comes back."""

    async def scenario(point: CancellationPoint) -> None:
        database = a_database(6, commits=commits)
        holdings = Holdings[AnyWork]()
        handed: list[Held[AnyWork]] = []
        owner = uuid4()
        claimer = Claimer[AnyWork](
            Run("webhooks", database.webhooks, owner, holdings, lambda: 0.5),
            parallel=8,
            lease_seconds=60.0,
            size=lambda: 2,
            hand=handed.extend,
            slowness=Slowness(holdings, 8),
        )
        with point, trio.move_on_after(2.5):
            await claimer.run()
        assert {held.work.item_id for held in handed} == set(holdings.all())
        leased = {item.draft.item_id for item in database.leased()}
        assert set(holdings.all()) <= leased
        await all_is_delivered_by_another(database)

    assert await sweep_cancellations(scenario) >= 4


async def test_worker_cancelled_anywhere_loses_no_work(autojump_clock: MockClock) -> None:
    """Each piece has a result that will be written, or is still held and can be given back."""

    async def scenario(point: CancellationPoint) -> None:
        database = a_database(3)
        database.seconds = 0.0
        owner = uuid4()
        works = await database.webhooks.claim(owner, limit=3, lease_seconds=60.0, parallel=8)
        holdings, receiver = Holdings[AnyWork](), Receiver(seconds=1.0)
        receiver.raises[works[1].item_id] = KeyError("scripted")
        run = Run[AnyWork]("webhooks", database.webhooks, owner, holdings)
        finisher = Finisher[AnyWork](run, on_written=lambda: None)
        sending = Sending[AnyWork](
            run,
            receiver.send,
            finisher,
            schedule=SCHEDULE,
            limit_seconds=10.0,
            slowness=Slowness(holdings, 8),
            on_taken=lambda: None,
            wall_clock=moment,
        )
        queue_in, queue_out = trio.open_memory_channel[Held[AnyWork]](3)
        for held in holdings.take(works, lease_until=trio.current_time() + 60):
            queue_in.send_nowait(held)
        queue_in.close()
        with point:
            await sending.work(queue_out)
        assert sending.active == 0
        with_result = [held for held in holdings.all().values() if held.result is not None]
        assert len(with_result) == finisher.waiting
        assert len(holdings) == 3
        assert all(held.scope is None for held in holdings.all().values())
        queue_out.close()

    assert await sweep_cancellations(scenario) >= 4


@pytest.mark.parametrize("commits", [False, True])
async def test_finisher_cancelled_anywhere_writes_each_result_once(
    autojump_clock: MockClock, commits: bool
) -> None:
    """What may not have been written is written again, and counts once."""

    async def scenario(point: CancellationPoint) -> None:
        database = a_database(4, commits=commits)
        owner = uuid4()
        works = await database.webhooks.claim(owner, limit=4, lease_seconds=60.0, parallel=8)
        holdings, receiver = Holdings[AnyWork](), Receiver(seconds=0.0)
        run = Run[AnyWork]("webhooks", database.webhooks, owner, holdings)
        finisher = Finisher[AnyWork](run, on_written=lambda: None)
        receiver.responses[works[2].item_id] = "\0"
        database.webhooks.refused_responses.add("\0")
        for held in holdings.take(works, lease_until=trio.current_time() + 60):
            held.result = await receiver.send(held.work)
            finisher.add(held)
        with point, trio.move_on_after(2.0):
            await finisher.run()
        assert finisher.waiting == len(holdings)
        with trio.move_on_after(5.0):
            await finisher.run()
        assert finisher.waiting == len(holdings) == 0
        assert finisher.written + finisher.outdated == 4
        assert [len(item.tries) for item in database.items.values()] == [1] * 4

    assert await sweep_cancellations(scenario) >= 5


@pytest.mark.parametrize("commits", [False, True])
async def test_waiter_of_the_writer_cancelled_anywhere_harms_no_other(
    autojump_clock: MockClock, commits: bool
) -> None:
    """Its place is free again, and the others have their answers."""

    async def scenario(point: CancellationPoint) -> None:
        database = a_database(0, commits=commits)
        writer = EventWriter(database.events, places=4)
        tenants = [database.tenant() for _ in range(2)]
        answers: list[Added] = []

        async def add(number: int) -> None:
            tenant = tenants[number % 2]
            answers.append(await writer.add(EventDraft(tenant.id, "a.b", b"%d" % number)))

        async with running(writer) as nursery:
            nursery.start_soon(add, 1)
            await trio.sleep(0.05)
            nursery.start_soon(add, 2)
            with point:
                await writer.add(EventDraft(tenants[0].id, "a.b", b'"point"'))
            await until(lambda: len(answers) == 2)
            await trio.sleep(1)
            statistics = writer.statistics()
            assert (statistics.active, statistics.queued, statistics.crashes) == (0, 0, 0)
            await writer.add(EventDraft(tenants[0].id, "a.b", b"4"))
        payloads = [draft.payload for draft in database.events.kept.values()]
        assert len(payloads) == len(set(payloads))

    assert await sweep_cancellations(scenario) >= 1


async def test_writer_cancelled_anywhere_answers_everybody(autojump_clock: MockClock) -> None:
    """An event is committed and its sender told so, or its sender is told that it is not known."""

    async def scenario(point: CancellationPoint) -> None:
        database = a_database(0)
        writer = EventWriter(database.events, batch=2)
        answers: list[Added | Shed] = []

        async def add(number: int) -> None:
            draft = EventDraft(database.tenant().id, "a.b", b"%d" % number)
            try:
                answers.append(await writer.add(draft))
            except Shed as refusal:
                answers.append(refusal)

        async with trio.open_nursery() as nursery:

            async def senders() -> None:
                await trio.lowlevel.checkpoint()
                for number in range(5):
                    nursery.start_soon(add, number)

            nursery.start_soon(senders)
            with point, trio.move_on_after(1):
                await writer.run()
        assert len(answers) == 5
        kept = sum(isinstance(answer, Added) for answer in answers)
        assert kept == len(database.events.kept)
        statistics = writer.statistics()
        assert (statistics.active, statistics.queued) == (0, 0)

    assert await sweep_cancellations(scenario) >= 2


async def test_pipeline_cancelled_anywhere_holds_nothing(autojump_clock: MockClock) -> None:
    """With the database there, all that it had leased is given back or done."""

    async def scenario(point: CancellationPoint) -> None:
        database = a_database(6)
        receiver = Receiver(seconds=1.0)
        pipeline = pipeline_of(database, receiver, grace_seconds=0.5, parallel=2)
        with point, trio.move_on_after(2.2):
            await pipeline.run()
        assert not database.leased()
        statistics = pipeline.statistics()
        assert (statistics.held, statistics.active, statistics.waiting) == (0, 0, 0)
        await all_is_delivered_by_another(database)

    await sweep_cancellations(scenario)


async def test_pipeline_stopped_at_any_moment_holds_nothing(autojump_clock: MockClock) -> None:
    """Whatever its stages are at: in a claim, a send, a result or between."""
    for tenth in range(1, 60):
        database = a_database(6)
        receiver = Receiver(seconds=0.25)
        pipeline = pipeline_of(database, receiver, grace_seconds=0.1, parallel=2)
        with trio.move_on_after(tenth * 0.037):
            await pipeline.run()
        assert not database.leased()
        assert pipeline.statistics().held == 0
        assert receiver.running.total() == 0
        written = sum(len(item.tries) for item in database.items.values())
        assert written == len(receiver.ended)
