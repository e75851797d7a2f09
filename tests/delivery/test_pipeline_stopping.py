"""How a pipeline ends: what runs has its time, and the rest is anybody's."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from ._memory_store import MemoryDatabase
from ._world import Receiver, pipeline_of, running, states, until, world


async def test_stopped_pipeline_ends_what_runs_and_gives_back_the_rest(
    autojump_clock: MockClock,
) -> None:
    """What was sent is written; what had not begun is anybody's at once."""
    database, receiver = MemoryDatabase(), Receiver(seconds=0.001)
    for _ in range(10):
        endpoint = database.endpoint(database.tenant())
        for _ in range(8):
            database.delivery(endpoint)
    pipeline = pipeline_of(database, receiver, parallel=4, grace_seconds=30.0)
    async with running(pipeline):
        await until(lambda: len(receiver.ended) >= 8)
        receiver.seconds = 10.0
        await trio.sleep(0.05)
        assert pipeline.statistics().waiting > 0
        assert receiver.running.total() == 4
        began = trio.current_time()
    assert trio.current_time() - began == pytest.approx(10, abs=0.1)
    assert not receiver.cut_off
    assert not database.leased()
    assert pipeline.statistics().held == 0
    assert states(database.items.values())["delivered"] == len(receiver.ended)


async def test_stopped_pipeline_gives_back_what_outlasts_its_grace(
    autojump_clock: MockClock,
) -> None:
    """It is cut off, counts as no attempt, and another may begin it at once."""
    database, receiver = world(2)
    receiver.stuck |= set(database.endpoints)
    pipeline = pipeline_of(database, receiver, grace_seconds=7.0)
    async with running(pipeline):
        await until(lambda: len(receiver.begun) == 2)
        began = trio.current_time()
    assert trio.current_time() - began == pytest.approx(7, abs=0.1)
    assert len(receiver.cut_off) == 2
    assert not database.leased()
    assert all(not item.tries for item in database.items.values())


async def test_stopped_pipeline_ends_a_claim_and_gives_back_what_it_brings(
    autojump_clock: MockClock,
) -> None:
    """A claim that is cut off would leave leases behind that nobody knows of."""
    database, receiver = world(4)
    database.seconds = 0.5
    async with running(pipeline_of(database, receiver)):
        await trio.sleep(0.25)
    assert database.webhooks.claimed
    assert not receiver.begun
    assert not database.leased()


async def test_stopped_pipeline_does_not_wait_for_a_database_that_is_away(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be written or given back has leases, and those end by themselves."""
    database, receiver = world(2)
    receiver.seconds = 1.0
    pipeline = pipeline_of(database, receiver, grace_seconds=10.0)
    async with running(pipeline):
        await until(lambda: len(receiver.begun) == 2)
        database.is_away = True
        began = trio.current_time()
    assert trio.current_time() - began <= 1 + 5 + 0.1
    assert "leases have to run out" in caplog.text


async def test_stopped_pipeline_does_not_wait_for_a_database_that_hangs(
    autojump_clock: MockClock,
) -> None:
    """Every wait at the end has its limit."""
    database, receiver = world(2)
    pipeline = pipeline_of(database, receiver, grace_seconds=2.0)
    async with running(pipeline):
        await until(lambda: len(receiver.begun) == 2)
        database.seconds = 1e6
        began = trio.current_time()
    assert trio.current_time() - began <= 2 + 5 + 5 + 0.1
