"""Leases that are lost, and a database that is away: nothing is, and nothing is sent too late."""

from __future__ import annotations

import logging

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.errors import DatabaseUnavailable

from ._memory_store import MemoryDatabase
from ._world import Receiver, pipeline_of, running, states, until, world

# --- leases --------------------------------------------------------------------------------------


async def test_lease_is_renewed_while_a_send_lasts(autojump_clock: MockClock) -> None:
    """However long that is: nobody else begins it meanwhile."""
    database, receiver = world(1, seconds=100.0)
    other = Receiver()
    first = pipeline_of(database, receiver, lease_seconds=10.0)
    second = pipeline_of(database, other, lease_seconds=10.0)
    async with running(first):
        await until(lambda: len(receiver.begun) == 1)
        async with running(second):
            await until(
                lambda: states(database.items.values())["delivered"] == 1, within=110, every=1
            )
    assert not other.begun
    assert not receiver.cut_off


async def test_lost_lease_cancels_its_send(autojump_clock: MockClock) -> None:
    """Somebody else has it; and the worker goes on with something else."""
    database, receiver = world(1)
    (endpoint,) = database.endpoints.values()
    (item,) = database.items.values()
    receiver.stuck.add(endpoint.id)
    async with running(pipeline := pipeline_of(database, receiver, lease_seconds=30.0)):
        await until(lambda: len(receiver.begun) == 1)
        assert item.owner is not None
        item.owner = database.tenant().id  # an operator's hand, or a clock that jumped
        await until(lambda: len(receiver.cut_off) == 1, within=10.2)
        assert pipeline.statistics().held == 0
        assert pipeline.statistics().leases_lost == 1
        assert not item.tries


async def test_lease_that_cannot_be_renewed_ends_its_send_in_time(
    autojump_clock: MockClock,
) -> None:
    """Before another instance, which still reaches the database, may begin the same."""
    database, receiver = world(1)
    (endpoint,) = database.endpoints.values()
    (item,) = database.items.values()
    receiver.stuck.add(endpoint.id)
    async with running(pipeline := pipeline_of(database, receiver, lease_seconds=30.0)):
        await until(lambda: len(receiver.begun) == 1)
        database.is_away = True
        await trio.sleep(15.0)
        assert not receiver.cut_off
        await until(lambda: len(receiver.cut_off) == 1, within=30)
        assert receiver.cut_off_at == [item.lease_until]
        assert pipeline.statistics().held == 0


async def test_renewal_that_fails_is_tried_again_soon(autojump_clock: MockClock) -> None:
    """An outage that ends before the lease does costs nothing."""
    database, receiver = world(1)
    receiver.stuck |= set(database.endpoints)
    async with running(pipeline := pipeline_of(database, receiver, lease_seconds=30.0)):
        await trio.sleep(9)
        database.is_away = True
        await trio.sleep(15)
        database.is_away = False
        await trio.sleep(50)
        assert not receiver.cut_off
        assert pipeline.statistics().leases_lost == 0


async def test_killed_instance_leaves_nothing_stuck(autojump_clock: MockClock) -> None:
    """What it had is done by another after one lease, under the same event."""
    database, receiver = world(4)
    (endpoint,) = database.endpoints.values()
    receiver.stuck.add(endpoint.id)
    other = Receiver()
    killed = pipeline_of(database, receiver, lease_seconds=60.0, grace_seconds=0.0)
    async with running(killed):
        await until(lambda: len(receiver.begun) == 4)
        database.is_away = True  # nothing that it does from now on reaches the database
    database.is_away = False
    died = trio.current_time()
    assert len(database.leased()) == 4
    async with running(pipeline := pipeline_of(database, other, poll_seconds=1e6)):
        await until(lambda: states(database.items.values())["delivered"] == 4, within=70, every=0.5)
        assert pipeline.statistics().leases_swept == 4
    assert trio.current_time() - died <= 60 + 8
    assert sorted(other.begun) == sorted(receiver.begun)


# --- the database is away ------------------------------------------------------------------------


async def test_claims_back_off_while_the_database_is_away(autojump_clock: MockClock) -> None:
    """It is asked now and then, and everything goes on when it is back."""
    database, receiver = world()
    (endpoint,) = database.endpoints.values()
    async with running(pipeline := pipeline_of(database, receiver)):
        await trio.sleep(1)
        database.is_away = True
        before = database.calls["claim"]
        for _ in range(60):
            pipeline.wake()  # nobody's word makes it ask sooner
            await trio.sleep(1)
        assert database.calls["claim"] - before < 25
        assert pipeline.statistics().is_database_away
        database.is_away = False
        database.delivery(endpoint)
        await until(lambda: len(receiver.ended) == 1, within=6)
        assert not pipeline.statistics().is_database_away
        assert pipeline.statistics().crashes == 0


async def test_claim_that_hangs_is_cut_off(autojump_clock: MockClock) -> None:
    """Every statement has its limit; after it the database counts as away."""
    database, receiver = world(1)
    database.seconds = 1e6
    async with running(pipeline := pipeline_of(database, receiver)):
        await trio.sleep(11)
        assert pipeline.statistics().is_database_away
        database.seconds = 0.0
        await until(lambda: len(receiver.ended) == 1, within=12)


async def test_stopped_pipeline_does_not_wait_out_its_patience(autojump_clock: MockClock) -> None:
    """Nor for the next look: with nothing to do it ends at once."""
    database, receiver = world()
    database.is_away = True
    async with running(pipeline_of(database, receiver)):
        await trio.sleep(60)
        began = trio.current_time()
    assert trio.current_time() == began


async def test_results_wait_for_the_database(autojump_clock: MockClock) -> None:
    """What was delivered while it was away is written when it is back, and not sent again."""
    database, receiver = world(4, seconds=1.0)
    async with running(pipeline := pipeline_of(database, receiver)):
        await until(lambda: len(receiver.begun) == 4)
        database.is_away = True
        await trio.sleep(30)
        assert pipeline.statistics().unwritten == 4
        database.is_away = False
        await until(lambda: states(database.items.values())["delivered"] == 4, within=6)
        await trio.sleep(100)
    assert len(receiver.begun) == 4


async def test_results_that_come_too_late_do_not_count(autojump_clock: MockClock) -> None:
    """Another has the work by then: its result counts, and ours is dropped."""
    database, receiver = world(1, seconds=1.0)
    (item,) = database.items.values()
    async with running(pipeline := pipeline_of(database, receiver, lease_seconds=20.0)):
        await until(lambda: len(receiver.begun) == 1)
        database.is_away = True
        await trio.sleep(40)
        item.owner = other = database.tenant().id
        database.is_away = False
        await until(lambda: pipeline.statistics().outdated == 1, within=6)
        assert (item.owner, item.state, item.tries) == (other, "pending", [])
        assert pipeline.statistics().held == 0


async def test_memory_is_bounded_while_results_cannot_be_written(
    autojump_clock: MockClock,
) -> None:
    """Results hold the places of what they are about: nothing new is claimed."""
    database, receiver = MemoryDatabase(), Receiver(seconds=0.001)
    for _ in range(50):
        endpoint = database.endpoint(database.tenant())
        for _ in range(4):
            database.delivery(endpoint)
    finish = database.webhooks.finish

    async def refused(*_: object) -> int:
        raise DatabaseUnavailable("scripted: only results cannot be written")

    database.webhooks.finish = refused  # type: ignore[method-assign,assignment]
    async with running(pipeline := pipeline_of(database, receiver, parallel=4)):
        await trio.sleep(50)
        assert pipeline.statistics().held == pipeline.statistics().unwritten <= 12
        assert len(receiver.begun) <= 12
        database.webhooks.finish = finish  # type: ignore[method-assign]
        await until(lambda: states(database.items.values())["delivered"] == 200)
    assert len(receiver.begun) == 200


async def test_result_that_cannot_be_written_holds_up_no_other(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is written without the words that the database refuses."""
    database, receiver = world(4)
    bad = next(iter(database.items.values()))
    receiver.responses[bad.draft.item_id] = "\0"
    database.webhooks.refused_responses.add("\0")
    async with running(pipeline := pipeline_of(database, receiver)):
        await until(lambda: states(database.items.values())["delivered"] == 4)
        assert pipeline.statistics().crashes == 0
    assert bad.tries[0].error == "what came back could not be written down"
    assert bad.tries[0].status == 204
    assert "could not be written" in caplog.text


async def test_result_that_cannot_be_written_at_all_comes_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Better twice than lost: its lease runs out, and it is delivered again."""
    caplog.set_level(logging.CRITICAL)
    database, receiver = world(1)
    (item,) = database.items.values()
    database.webhooks.refused_responses |= {None}
    async with running(pipeline := pipeline_of(database, receiver, lease_seconds=20.0)):
        await until(lambda: len(receiver.begun) == 2, within=40)
        assert pipeline.statistics().unwritable >= 1
        database.webhooks.refused_responses.clear()
        await until(lambda: item.state == "delivered", within=40)
