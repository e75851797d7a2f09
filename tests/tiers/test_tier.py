"""The tier: what its deadline and its breaker make of odd moments."""

from __future__ import annotations

from collections.abc import Hashable

import pytest
import trio
import trio.testing

from bulkhead_trio.database import Pool
from bulkhead_trio.errors import DatabaseTooSlow, DeadlineExceeded
from bulkhead_trio.policies.breaker import CircuitBreaker
from bulkhead_trio.policies.compartment import Compartment, Slot
from bulkhead_trio.testing import ScriptedConnection, ScriptedDatabase
from bulkhead_trio.tiers import RequestEnded, Tier, says_nothing_of_the_database


class SlowDoor(Compartment):
    """A compartment at whose door time passes, without anybody having to wait there."""

    def __init__(self, clock: trio.testing.MockClock, seconds: float) -> None:
        super().__init__("test", workers=1, queue=0)
        self._clock = clock
        self._seconds = seconds

    def acquire_nowait(self) -> Slot:
        raise trio.WouldBlock

    async def acquire(self, *, priority: int | None = None, key: Hashable = None) -> Slot:
        slot = await super().acquire(priority=priority, key=key)
        self._clock.jump(self._seconds)
        return slot


def make(compartment: Compartment, database: ScriptedDatabase) -> Tier[ScriptedConnection]:
    return Tier(
        "test",
        timeout=10.0,
        limiter=None,
        compartment=compartment,
        breaker=CircuitBreaker("test", ignore=says_nothing_of_the_database),
        pool=Pool("test", database.connect, max_size=1),
    )


async def query(connection: ScriptedConnection) -> None:
    await connection.execute("SELECT 1")


async def test_tier_deadline_that_passes_at_the_door_costs_no_worker(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A caller let in at the very end of its deadline is answered, and its worker is free."""
    tier = make(SlowDoor(autojump_clock, 2.0), ScriptedDatabase())
    async with trio.open_nursery() as nursery:
        await nursery.start(tier.run)
        for _ in range(3):
            with pytest.raises(DeadlineExceeded):
                await tier.query(query, timeout=1.0)
            assert tier.statistics().compartment.active == 0
        await tier.query(query, timeout=3.0)
        assert tier.statistics().breaker.failures == 0
        nursery.cancel_scope.cancel()


async def test_tier_answer_that_comes_too_late_is_none(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Work that ends after the deadline without having noticed is exceeded all the same."""
    tier = make(Compartment("test", workers=1, queue=0), ScriptedDatabase())

    async def oblivious(connection: ScriptedConnection) -> None:
        await connection.execute("SELECT 1")
        autojump_clock.jump(9.5)

    async with trio.open_nursery() as nursery:
        await nursery.start(tier.run)
        with pytest.raises(DatabaseTooSlow):
            await tier.query(oblivious, timeout=1.0)
        assert tier.statistics().compartment.active == 0
        assert tier.statistics().pool.idle == 1
        nursery.cancel_scope.cancel()


async def test_tier_listener_that_raises_harms_nobody(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A request is answered, and its worker free, whatever its listener makes of it."""

    def broken(ended: RequestEnded) -> None:
        raise OSError("no space left on device")

    database = ScriptedDatabase()
    tier = Tier(
        "test",
        timeout=10.0,
        limiter=None,
        compartment=Compartment("test", workers=1, queue=0),
        breaker=CircuitBreaker("test"),
        pool=Pool("test", database.connect, max_size=1),
        listeners=(broken,),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(tier.run)
        await tier.query(query)
        assert tier.statistics().compartment.active == 0
        nursery.cancel_scope.cancel()
