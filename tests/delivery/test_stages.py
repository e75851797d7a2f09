"""The smaller stages: fan-out, pruning, counting, waking, and what supervises them."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.database.event_records import EventDraft
from bulkhead_trio.database.work_records import Backlog
from bulkhead_trio.delivery._schedule_rules import RetrySchedule
from bulkhead_trio.delivery.backlog import UNKNOWN, BacklogWatch
from bulkhead_trio.delivery.fan_out import FanOut
from bulkhead_trio.delivery.prune import Pruner
from bulkhead_trio.delivery.settings import DeliverySettings
from bulkhead_trio.delivery.supervision import Supervisor
from bulkhead_trio.delivery.waking import Waking
from bulkhead_trio.testing import CancellationPoint, sweep_cancellations

from ._memory_store import MemoryDatabase
from ._world import Receiver, pipeline_of, running, until


def even() -> float:
    return 0.5


# --- fan-out -------------------------------------------------------------------------------------


async def events(database: MemoryDatabase, count: int) -> None:
    tenant = next(iter(database.tenants))
    await database.events.add([EventDraft(tenant, "order.completed", b"{}")] * count)


def outbox() -> MemoryDatabase:
    database = MemoryDatabase()
    tenant = database.tenant()
    database.endpoint(tenant)
    database.endpoint(tenant, event_types=("order.*",))
    database.endpoint(tenant, event_types=("user.*",))
    return database


async def test_fan_out_makes_deliveries_batch_by_batch(autojump_clock: MockClock) -> None:
    """Without a pause while there is more; and it says when there is work."""
    database, rings = outbox(), list[float]()
    await events(database, 250)
    fan_out = FanOut(
        database.events, on_made=lambda: rings.append(trio.current_time()), uniform=even
    )
    async with running(fan_out):
        await trio.sleep(0.5)
        assert len(database.items) == 500
        statistics = fan_out.statistics()
        assert (statistics.events, statistics.deliveries, statistics.batches) == (250, 500, 3)
        assert rings == [0.0] * 3


async def test_fan_out_is_woken_and_looks_by_itself(autojump_clock: MockClock) -> None:
    """As all stages do."""
    database = outbox()
    async with running(fan_out := FanOut(database.events, uniform=even)):
        await trio.sleep(10.5)
        await events(database, 1)
        fan_out.wake()
        await trio.sleep(0.01)
        assert len(database.items) == 2
        await events(database, 1)
        await trio.sleep(1.0)
        assert len(database.items) == 4
        assert database.calls["fan_out"] <= 15


async def test_fan_out_outlives_an_outage_and_a_mistake(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The one is waited for, the other is a crash that everybody can see."""
    database = outbox()
    database.is_away = True
    async with running(fan_out := FanOut(database.events, uniform=even)):
        await trio.sleep(30)
        assert fan_out.statistics().is_database_away
        assert fan_out.statistics().crashes == 0
        assert database.calls["fan_out"] < 20
        database.is_away = False
        await trio.sleep(6)
        assert not fan_out.statistics().is_database_away
        database.bug = KeyError("scripted")
        await trio.sleep(3)
        assert fan_out.statistics().crashes >= 1
        database.bug = None
        await events(database, 1)
        await trio.sleep(12)
        assert len(database.items) == 2
    assert "fan-out crashed" in caplog.text


async def test_fan_out_that_hangs_is_cut_off(autojump_clock: MockClock) -> None:
    """Every statement has its limit, after which the database counts as away."""
    database = outbox()
    await events(database, 1)
    database.seconds = 1e6
    async with running(fan_out := FanOut(database.events, uniform=even)):
        await trio.sleep(11)
        assert fan_out.statistics().is_database_away
        database.seconds = 0.0
        await trio.sleep(11)
        assert len(database.items) == 2


async def test_fan_out_cancelled_anywhere_has_made_all_or_nothing(
    autojump_clock: MockClock,
) -> None:
    """Whoever comes next makes what is not made yet."""

    async def scenario(point: CancellationPoint) -> None:
        database = outbox()
        await events(database, 25)
        database.seconds = 0.1
        fan_out = FanOut(database.events, batch=10, uniform=even)
        with point, trio.move_on_after(2):
            await fan_out.run()
        assert not fan_out.statistics().active
        async with running(FanOut(database.events, uniform=even)):
            await until(lambda: not database.events.outbox, within=5)
        assert len(database.items) == 50

    assert await sweep_cancellations(scenario) >= 4


# --- pruning -------------------------------------------------------------------------------------


async def test_pruning_forgets_what_ended_long_ago(autojump_clock: MockClock) -> None:
    """In small transactions; what has not ended, or lately, stays."""
    database, receiver = MemoryDatabase(), Receiver(seconds=0.0)
    endpoint = database.endpoint(database.tenant())
    for _ in range(25):
        database.delivery(endpoint)
    async with running(pipeline_of(database, receiver)):
        await until(lambda: len(receiver.ended) == 25)
        await trio.sleep(1)
    receiver.fails.add(endpoint.id)
    waiting = database.delivery(endpoint)
    pruner = Pruner(
        database.history, retention_seconds=3600.0, every_seconds=600.0, batch=10, uniform=even
    )
    async with running(pruner):
        await trio.sleep(3500)
        assert len(database.items) == 26
        await trio.sleep(1000)
        assert list(database.items.values()) == [waiting]
        assert pruner.statistics().pruned == 25
        assert pruner.statistics().rounds == 7


async def test_work_of_an_endpoint_that_is_gone_is_ended(autojump_clock: MockClock) -> None:
    """However much there is of it, batch by batch, within a minute or two."""
    database = MemoryDatabase()
    endpoint = database.endpoint(database.tenant())
    for _ in range(25):
        database.delivery(endpoint)
    del database.endpoints[endpoint.id]
    pruner = Pruner(database.history, retention_seconds=3600.0, batch=10, uniform=even)
    async with running(pruner):
        await trio.sleep(61)
        assert all(item.state == "dead" for item in database.items.values())
        assert pruner.statistics().orphans == 25


async def test_pruning_waits_for_the_database(autojump_clock: MockClock) -> None:
    """And asks it no more often than it would otherwise."""
    database = MemoryDatabase()
    database.is_away = True
    pruner = Pruner(database.history, retention_seconds=1.0, every_seconds=60.0, uniform=even)
    async with running(pruner):
        await trio.sleep(200)
        assert database.calls["end_orphans"] == 3
        assert pruner.statistics().is_database_away
        database.is_away = False
        await trio.sleep(100)
        assert not pruner.statistics().is_database_away
        assert pruner.statistics().crashes == 0


# --- counting ------------------------------------------------------------------------------------


async def test_backlog_is_looked_at_now_and_then(autojump_clock: MockClock) -> None:
    """Less often where looking is dear; while the database is away, what was seen last stands."""
    database = MemoryDatabase()
    endpoint = database.endpoint(database.tenant())
    watch = BacklogWatch({"webhooks": database.webhooks.backlog}, uniform=even)
    assert watch["webhooks"] == UNKNOWN
    async with running(watch):
        await trio.sleep(1)
        database.delivery(endpoint)
        await trio.sleep(2)
        seen = Backlog(pending=1, retrying=0, dead=0, leased=0)
        assert watch["webhooks"] == seen
        database.is_away = True
        await trio.sleep(30)
        assert watch["webhooks"] == seen
        database.is_away = False
        database.seconds = 1.0
        await trio.sleep(6)
        calls = database.calls["backlog"]
        await trio.sleep(100)
        assert database.calls["backlog"] - calls <= 6


# --- waking --------------------------------------------------------------------------------------


def test_word_wakes_the_stage_that_is_meant() -> None:
    """And no other."""
    rings = list[str]()
    waking = Waking(
        {
            "events": lambda: rings.append("fan-out"),
            "webhooks": lambda: rings.append("webhooks"),
        }
    )
    waking("webhooks")
    waking("events")
    waking("notifications")
    assert rings == ["webhooks", "fan-out"]
    assert waking.heard == 3


# --- supervising ---------------------------------------------------------------------------------


async def test_stage_that_crashes_is_started_again_later_each_time(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Up to ten seconds; one that was steady for a minute begins with the shortest pause."""
    supervisor, births = Supervisor("a stage"), list[float]()

    async def stage() -> None:
        births.append(trio.current_time())
        await trio.sleep(100 if len(births) == 10 else 0)
        if len(births) == 12:
            return
        raise KeyError("scripted")

    await supervisor.run(stage)
    waits = [round(b - a, 3) for a, b in pairwise(births)]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 100.1, 0.2]
    assert supervisor.crashes == 11
    assert caplog.text.count("a stage crashed") == 11


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("webhooks_parallel", 0),
        ("webhooks_parallel", 101),
        ("notifications_parallel", 101),
        ("lease_seconds", 15.0),
        ("lease_seconds", 0.0),
        ("retention_seconds", float("nan")),
        ("grace_seconds", -1.0),
        ("event_places", 0),
    ],
)
def test_settings_refuse_nonsense(name: str, value: float) -> None:
    """By name; a lease that a try could outlast among it."""
    with pytest.raises(ValueError, match=name):
        DeliverySettings(**{"grace_seconds": 30.0, name: value})  # type: ignore[arg-type]


def test_settings_have_the_contracts_defaults() -> None:
    """Twenty and eight at once, and Standard Webhooks' schedule."""
    settings = DeliverySettings(grace_seconds=30.0)
    assert (settings.webhooks_parallel, settings.notifications_parallel) == (20, 8)
    assert settings.schedule == RetrySchedule()
