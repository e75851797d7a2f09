"""A pipeline over a database in memory: what it claims, sends and writes, and how it ends."""

from __future__ import annotations

import logging

import pytest
import trio
from trio.testing import MockClock

from ._memory_store import MemoryDatabase
from ._world import Receiver, pipeline_of, running, states, until, world

# --- the way through -----------------------------------------------------------------------------


async def test_pipeline_delivers_what_there_is(autojump_clock: MockClock) -> None:
    """Each once; and nothing of it is left, in the database's work or in memory."""
    database, receiver = world(100)
    async with running(pipeline := pipeline_of(database, receiver)):
        await until(lambda: states(database.items.values())["delivered"] == 100)
        await until(lambda: pipeline.statistics().held == 0)
    assert len(receiver.begun) == len(set(receiver.begun)) == 100
    assert not database.leased()
    statistics = pipeline.statistics()
    assert (statistics.written, statistics.outcomes) == (100, {"delivered": 100})
    assert (statistics.active, statistics.waiting, statistics.unwritten) == (0, 0, 0)


async def test_pipeline_sends_at_most_so_many_at_once(autojump_clock: MockClock) -> None:
    """However much there is; and it does send that many."""
    database, receiver = MemoryDatabase(), Receiver(seconds=1.0)
    for _ in range(10):
        endpoint = database.endpoint(database.tenant())
        for _ in range(20):
            database.delivery(endpoint)
    async with running(pipeline := pipeline_of(database, receiver, parallel=7)):
        await until(lambda: states(database.items.values())["delivered"] == 200)
    assert receiver.most_running == pipeline.statistics().most_active == 7


async def test_pipeline_claims_no_more_than_it_soon_sends(autojump_clock: MockClock) -> None:
    """What it cannot begin within moments is left to others, and to those that come later."""
    database, receiver = MemoryDatabase(), Receiver(seconds=2.0)
    for _ in range(20):
        endpoint = database.endpoint(database.tenant())
        for _ in range(10):
            database.delivery(endpoint)
    async with running(pipeline := pipeline_of(database, receiver, parallel=10)):
        await until(lambda: states(database.items.values())["delivered"] >= 50)
        for _ in range(100):
            assert len(database.leased()) <= 10
            assert pipeline.statistics().held <= 10
            await trio.sleep(0.037)


async def test_pipeline_that_is_quick_claims_many_at_once(autojump_clock: MockClock) -> None:
    """A claim costs the database about the same whatever it brings."""
    database, receiver = MemoryDatabase(), Receiver(seconds=0.002)
    database.seconds = 0.001
    database.webhooks.most_per_endpoint = 1000
    for _ in range(20):
        endpoint = database.endpoint(database.tenant())
        for _ in range(10):
            database.delivery(endpoint)
    async with running(pipeline := pipeline_of(database, receiver, parallel=4)):
        await until(lambda: states(database.items.values())["delivered"] == 200)
        statistics = pipeline.statistics()
    assert receiver.most_running == 4
    assert statistics.claimed == 200
    assert max(database.webhooks.claim_limits) <= 12
    assert statistics.claims < 100


async def test_pipeline_is_woken_at_once_and_looks_by_itself(autojump_clock: MockClock) -> None:
    """A word saves a second; without one, nothing waits for longer than that."""
    database, receiver = world()
    (endpoint,) = database.endpoints.values()
    async with running(pipeline := pipeline_of(database, receiver)):
        await trio.sleep(10.0)
        database.delivery(endpoint)
        began = trio.current_time()
        pipeline.wake()
        await until(lambda: len(receiver.begun) == 1)
        assert trio.current_time() - began < 0.02
        await trio.sleep(9.4)
        database.delivery(endpoint)
        began = trio.current_time()
        await until(lambda: len(receiver.begun) == 2)
        assert trio.current_time() - began <= 1.01


async def test_pipeline_without_work_asks_seldom(autojump_clock: MockClock) -> None:
    """About once a second, and only the claims and sweeps."""
    database, receiver = world()
    async with running(pipeline_of(database, receiver)):
        await trio.sleep(100)
    assert 90 <= database.calls["claim"] <= 110
    assert 18 <= database.calls["sweep"] <= 22
    assert set(database.calls) == {"claim", "sweep"}


async def test_pipeline_retries_and_gives_up_by_what_the_sender_says(
    autojump_clock: MockClock,
) -> None:
    """The pipeline has no opinion of its own on what failed."""
    database, receiver = world(1)
    (endpoint,) = database.endpoints.values()
    (item,) = database.items.values()
    receiver.fails.add(endpoint.id)
    async with running(pipeline_of(database, receiver)):
        await until(lambda: item.state == "dead", within=400, every=1)
    assert [attempt.number for attempt in item.tries] == [1, 2, 3]
    waits = [receiver.at[1] - receiver.at[0], receiver.at[2] - receiver.at[1]]
    assert waits == [pytest.approx(5.0, abs=1.1), pytest.approx(300.0, abs=1.1)]


async def test_pipeline_defers_without_an_attempt(autojump_clock: MockClock) -> None:
    """What was not tried is had again later, as it was."""
    database, receiver = world(1)
    (endpoint,) = database.endpoints.values()
    (item,) = database.items.values()
    receiver.defers[endpoint.id] = 30.0
    async with running(pipeline := pipeline_of(database, receiver)):
        await trio.sleep(61)
        assert (item.attempts, item.state, item.tries) == (0, "pending", [])
        assert len(database.webhooks.claimed) in {2, 3}
        del receiver.defers[endpoint.id]
        await until(lambda: item.state == "delivered")
    assert item.attempts == 1
    assert pipeline.statistics().outcomes["deferred"] >= 2


async def test_deferrals_do_not_pass_for_quick_sends(autojump_clock: MockClock) -> None:
    """They take no time, and say nothing of how soon a worker is free again."""
    database, receiver = MemoryDatabase(), Receiver()
    for _ in range(6):
        endpoint = database.endpoint(database.tenant())
        receiver.defers[endpoint.id] = 5.0
        for _ in range(6):
            database.delivery(endpoint)
    async with running(pipeline := pipeline_of(database, receiver, parallel=4)):
        await trio.sleep(20)
        assert pipeline.statistics().outcomes["deferred"] > 100
    assert max(database.webhooks.claim_limits) == 4
    assert pipeline.statistics().tries.seconds == 0


# --- what goes wrong in a send -------------------------------------------------------------------


async def test_send_that_raises_is_tried_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A mistake of ours costs one attempt of one delivery, is logged, and harms no other."""
    database, receiver = world(5)
    bad = next(iter(database.items.values()))
    receiver.raises[bad.draft.item_id] = KeyError("scripted")
    async with running(pipeline := pipeline_of(database, receiver)):
        await until(lambda: states(database.items.values())["delivered"] == 4)
        await until(lambda: bad.state == "retrying")
        receiver.raises.clear()
        await until(lambda: bad.state == "delivered")
    assert [attempt.error is None for attempt in bad.tries] == [False, True]
    assert pipeline.statistics().mistakes == 1
    assert "scripted" in caplog.text
    assert "scripted" not in str(bad.tries)


async def test_send_that_always_raises_is_given_up(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """By the schedule, as if the receiver had failed."""
    caplog.set_level(logging.CRITICAL)
    database, receiver = world(1)
    (item,) = database.items.values()
    receiver.raises[item.draft.item_id] = ExceptionGroup("several", [KeyError("scripted")])
    async with running(pipeline_of(database, receiver)):
        await until(lambda: item.state == "dead", within=400, every=1)
    assert len(item.tries) == 3


async def test_send_that_never_ends_is_cut_off(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Its lease is renewed until then, and its worker is free again after."""
    database, receiver = world(1)
    (endpoint,) = database.endpoints.values()
    (item,) = database.items.values()
    receiver.stuck.add(endpoint.id)
    pipeline = pipeline_of(database, receiver, limit_seconds=150.0, lease_seconds=20.0)
    async with running(pipeline):
        await trio.sleep(149)
        assert item.owner is not None
        await until(lambda: item.state == "retrying", within=2)
        assert pipeline.statistics().leases_lost == 0
    assert item.tries[0].error == "it took too long"
    assert "cut off" in caplog.text


# --- mistakes in the stages ----------------------------------------------------------------------


async def test_mistake_in_a_claim_is_counted_and_contained(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The claimer is started again, at growing distances; it does not end the pipeline."""
    database, receiver = world(3)
    database.bug = KeyError("scripted")
    async with running(pipeline := pipeline_of(database, receiver)):
        await trio.sleep(60)
        crashes = pipeline.statistics().crashes
        assert 6 <= crashes <= 40
        database.bug = None
        await until(lambda: states(database.items.values())["delivered"] == 3, within=15)
    assert "the claimer of webhooks crashed" in caplog.text


async def test_pipeline_runs_once_at_a_time_and_again_later(autojump_clock: MockClock) -> None:
    """A second run beside the first would send at twice the width."""
    database, receiver = world(1)
    pipeline = pipeline_of(database, receiver)
    async with running(pipeline):
        await until(lambda: len(receiver.ended) == 1)
        with pytest.raises(RuntimeError, match="running already"):
            await pipeline.run()
    (endpoint,) = database.endpoints.values()
    database.delivery(endpoint)
    async with running(pipeline):
        await until(lambda: len(receiver.ended) == 2)


@pytest.mark.parametrize(
    "options",
    [{"parallel": 0}, {"parallel": 101}, {"lease_seconds": 0.0}, {"grace_seconds": -1.0}],
)
def test_pipeline_refuses_nonsense(options: dict[str, float]) -> None:
    """By name."""
    with pytest.raises(ValueError, match=next(iter(options))):
        pipeline_of(MemoryDatabase(), Receiver(), **options)
