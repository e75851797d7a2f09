"""The pool on virtual time: limits, order, recovery and every way out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest
import trio
import trio.testing

from bulkhead_trio.database.pool import CONNECTING_AT_ONCE, RECOVERY_SECONDS, Pool
from bulkhead_trio.errors import DatabaseUnavailable
from bulkhead_trio.testing import (
    CancellationPoint,
    ScriptedConnection,
    ScriptedDatabase,
    sweep_cancellations,
)


@asynccontextmanager
async def running(
    database: ScriptedDatabase, *, max_size: int = 3
) -> AsyncIterator[Pool[ScriptedConnection]]:
    """A pool for the length of a block; afterwards no connection and no query may be left."""
    pool = Pool("test", database.connect, max_size=max_size, uniform=lambda: 0.5)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        yield pool
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    statistics = pool.statistics()
    assert (statistics.active, statistics.idle, statistics.pending) == (0, 0, 0)
    assert (database.open_connections, database.running_queries) == (0, 0)


async def query(pool: Pool[ScriptedConnection]) -> None:
    async with pool.acquire() as connection:
        await connection.execute("SELECT 1")


async def test_pool_opens_lazily_and_reuses_the_latest(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Nothing is opened before it is needed; the connection used last is used next."""
    database = ScriptedDatabase()
    async with running(database) as pool:
        assert database.attempts == 0
        async with pool.acquire() as first, pool.acquire() as second:
            assert first is not second
        async with pool.acquire() as again:
            assert again is first  # the inner block gave `second` back first
        assert database.attempts == 2
        assert (pool.statistics().active, pool.statistics().idle) == (0, 2)


async def test_pool_limit_is_hard_and_waiting_is_in_order(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Never more than the limit are open, and whoever waits longest is served next."""
    database = ScriptedDatabase(query_seconds=1.0)
    served: list[int] = []

    async def user(pool: Pool[ScriptedConnection], number: int) -> None:
        await query(pool)
        served.append(number)

    async with running(database, max_size=2) as pool:
        async with trio.open_nursery() as nursery:
            for number in range(7):
                nursery.start_soon(user, pool, number)
                await trio.testing.wait_all_tasks_blocked()
            assert pool.statistics().pending == 5
        assert sorted(served) == list(range(7))
        assert [sorted(served[i : i + 2]) for i in (0, 2, 4)] == [[0, 1], [2, 3], [4, 5]]
    assert database.most_connections == 2


async def test_pool_exhausted_acquire_obeys_the_deadline(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Waiting for a connection ends when the caller's deadline says so, leaving nobody in line."""
    database = ScriptedDatabase(query_seconds=60.0)
    async with running(database, max_size=1) as pool:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(query, pool)
            await trio.testing.wait_all_tasks_blocked()
            with trio.move_on_after(2) as scope:
                await query(pool)
            assert scope.cancelled_caught
            assert trio.current_time() == pytest.approx(scope.deadline)
            assert pool.statistics().pending == 0


async def test_pool_gives_nothing_to_who_is_cancelled_already(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A caller whose deadline has passed gets no connection, though one is idle."""
    async with running(ScriptedDatabase()) as pool:
        await query(pool)
        with trio.CancelScope() as scope:
            scope.cancel()
            async with pool.acquire():
                pytest.fail("lent to a cancelled caller")
        assert scope.cancelled_caught
        assert (pool.statistics().active, pool.statistics().idle) == (0, 1)


async def test_pool_idle_connection_is_not_taken_from_who_waits_longer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A connection that comes back goes to the one who waits, not to the next who asks."""
    order: list[str] = []
    async with running(ScriptedDatabase(), max_size=1) as pool:

        async def waiter() -> None:
            async with pool.acquire():
                order.append("waited")

        async with trio.open_nursery() as nursery:
            async with pool.acquire():
                nursery.start_soon(waiter)
                await trio.testing.wait_all_tasks_blocked()
            async with pool.acquire():
                order.append("came later")
    assert order == ["waited", "came later"]


async def test_pool_cancelled_at_every_await_point(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Wherever its user is cancelled, a pool that was contended for is whole a moment later."""

    async def scenario(point: CancellationPoint) -> None:
        database = ScriptedDatabase(query_seconds=1.0)
        database.connect_seconds = 0.5
        async with running(database, max_size=1) as pool:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(query, pool)
                await trio.testing.wait_all_tasks_blocked()
                with point:
                    await query(pool)
                    await query(pool)
            await query(pool)
            await trio.sleep(1)
            assert (pool.statistics().active, pool.statistics().idle) == (0, 1)

    assert await sweep_cancellations(scenario) >= 4


async def test_pool_cancelled_while_connecting(autojump_clock: trio.testing.MockClock) -> None:
    """A cancelled attempt to connect gives its places back, and the next one succeeds."""

    async def scenario(point: CancellationPoint) -> None:
        database = ScriptedDatabase()
        database.connect_seconds = 0.5
        async with running(database, max_size=1) as pool:
            with point:
                await query(pool)
            await trio.sleep(1)
            await query(pool)

    assert await sweep_cancellations(scenario) >= 3


async def test_pool_interrupted_connection_is_cleaned_behind_the_users_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The user goes on at its deadline; the pool cancels the query and keeps the connection."""
    database = ScriptedDatabase(query_seconds=60.0)
    async with running(database) as pool:
        with trio.move_on_after(1) as scope:
            await query(pool)
        assert trio.current_time() == pytest.approx(scope.deadline)
        assert pool.statistics().active == 1
        assert database.running_queries == 1
        await trio.sleep(0.1)
        assert (pool.statistics().active, pool.statistics().idle) == (0, 1)
        assert database.running_queries == 0
        assert database.attempts == 1


async def test_pool_gives_up_a_connection_whose_server_hangs(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A server that leaves even the cancel request unanswered costs one connection, not more."""
    database = ScriptedDatabase(query_seconds=1.0)
    async with running(database) as pool:
        await query(pool)
        database.is_hanging = True
        with trio.move_on_after(2) as scope:
            await query(pool)
        assert trio.current_time() == pytest.approx(scope.deadline)
        await trio.sleep(RECOVERY_SECONDS + 0.1)
        assert (pool.statistics().active, pool.statistics().idle) == (0, 0)
        assert pool.statistics().broken == 1
        database.is_hanging = False
        await query(pool)


async def test_pool_replaces_connections_that_went_while_idle(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """After the server was restarted its dead connections are dropped, not handed out."""
    database = ScriptedDatabase()
    async with running(database) as pool:
        async with pool.acquire(), pool.acquire():
            pass
        database.is_away = True
        with pytest.raises(DatabaseUnavailable):
            await query(pool)
        assert pool.statistics().idle == 0
        database.is_away = False
        await trio.sleep(10)
        await query(pool)
        assert pool.statistics().broken == 2


async def test_pool_connection_that_breaks_in_use_is_replaced(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A connection that breaks is the database's failure for its user and is never handed out."""
    database = ScriptedDatabase()
    async with running(database) as pool:
        with pytest.raises(DatabaseUnavailable) as caught:
            async with pool.acquire() as connection:
                connection.is_doomed = True
                await connection.execute("SELECT 1")
        assert isinstance(caught.value.__cause__, psycopg.OperationalError)
        assert "scripted" not in caught.value.message
        await query(pool)
        assert database.attempts == 2


async def test_pool_users_own_error_keeps_the_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What goes wrong outside the database passes as it is and costs no connection."""
    database = ScriptedDatabase()
    async with running(database) as pool:
        with pytest.raises(KeyError):
            async with pool.acquire():
                raise KeyError
        assert pool.statistics().idle == 1


async def test_pool_does_not_stampede_a_database_that_comes_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """While it is away few attempts are made; when it is back all connect, a few at a time."""
    database = ScriptedDatabase(query_seconds=0.01)
    database.connect_seconds = 0.05
    database.is_away = True
    done = 0

    async def insistent(pool: Pool[ScriptedConnection]) -> None:
        nonlocal done
        while True:
            try:
                await query(pool)
            except DatabaseUnavailable:
                await trio.sleep(0.05)
            else:
                done += 1
                return

    async with running(database, max_size=50) as pool:
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(insistent, pool)
            await trio.sleep(60)
            # Four at once before the first failure is known, then one at a time, further and
            # further apart: 0.15, 0.3, ... 3.75 s.
            assert database.attempts <= CONNECTING_AT_ONCE + 25
            database.is_away = False
            returned = trio.current_time()
        assert done == 50
        assert trio.current_time() - returned < 10
        assert database.most_connecting <= CONNECTING_AT_ONCE


async def test_pool_waits_for_what_there_is_when_no_more_can_be_had(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A server that allows fewer connections than the pool wants still serves everybody."""
    database = ScriptedDatabase(query_seconds=0.1)
    database.connect_seconds = 0.01
    database.connections_allowed = 3
    async with running(database, max_size=10) as pool:
        async with trio.open_nursery() as nursery:
            for _ in range(40):
                nursery.start_soon(query, pool)
        assert database.most_connections == 3


async def test_pool_that_waited_is_told_when_the_last_connection_is_lost(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Whoever waits for others' connections does not wait for those that broke."""
    database = ScriptedDatabase(query_seconds=1.0)
    database.connections_allowed = 1
    async with running(database, max_size=5) as pool:
        outcomes: list[str] = []

        async def user() -> None:
            try:
                await query(pool)
            except DatabaseUnavailable:
                outcomes.append("unavailable")

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(user)
            await trio.sleep(0.5)
            database.is_away = True
        assert outcomes == ["unavailable"] * 5
        database.is_away = False
        await trio.sleep(10)
        await query(pool)


async def test_pool_closed_refuses(autojump_clock: trio.testing.MockClock) -> None:
    """A pool that does not run makes no connections that nobody would close."""
    database = ScriptedDatabase()
    pool = Pool("test", database.connect, max_size=1)
    with pytest.raises(DatabaseUnavailable, match="closed"):
        await query(pool)
    assert database.attempts == 0


async def test_pool_closing_waits_for_recoveries(autojump_clock: trio.testing.MockClock) -> None:
    """Closed right after a cancelled query, the pool still asks the server to cancel it."""
    database = ScriptedDatabase(query_seconds=60.0)
    async with running(database) as pool:
        with trio.move_on_after(1):
            await query(pool)
        # `running` closes the pool now, and checks that no query is left.


async def test_pool_mistake_in_one_recovery_ends_nothing_else(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A recovery that raises what nobody expected costs its connection, not the pool."""

    class Careless(ScriptedConnection):
        async def recover(self, **_: object) -> bool:
            raise RuntimeError("a mistake in recovering")

    database = ScriptedDatabase(query_seconds=60.0)

    async def connect() -> ScriptedConnection:
        await database.connect()
        return Careless(database)

    pool = Pool("test", connect, max_size=1)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        with trio.move_on_after(1):
            await query(pool)
        await trio.sleep(1)
        assert (pool.statistics().active, pool.statistics().broken) == (0, 1)
        database.query_seconds = 0.0
        await query(pool)
        nursery.cancel_scope.cancel()


async def test_pool_loss_inside_a_nursery_is_seen(autojump_clock: trio.testing.MockClock) -> None:
    """A connection lost by a task of its user's nursery comes out as what it is."""
    database = ScriptedDatabase()
    async with running(database) as pool:
        with pytest.raises(DatabaseUnavailable):
            async with pool.acquire() as connection, trio.open_nursery() as nursery:
                connection.is_doomed = True
                nursery.start_soon(connection.execute, "SELECT 1")


def test_pool_nonsense_size_is_refused() -> None:
    """A pool that could never lend anything is refused when it is made."""
    with pytest.raises(ValueError, match="max_size"):
        Pool("test", ScriptedDatabase().connect, max_size=0)
