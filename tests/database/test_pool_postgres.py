"""The pool against a real PostgreSQL."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest
import trio
import trio.testing

from bulkhead_trio.database import Connection, Pool
from bulkhead_trio.errors import DatabaseUnavailable


@asynccontextmanager
async def running(conninfo: str, *, max_size: int = 3) -> AsyncIterator[Pool[Connection]]:
    """A pool for the length of a block; afterwards PostgreSQL has no connection of it left."""

    async def connect() -> Connection:
        return await Connection.connect(
            conninfo, autocommit=True, application_name="pool under test"
        )

    pool = Pool("test", connect, max_size=max_size)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        yield pool
        nursery.cancel_scope.cancel()
    statistics = pool.statistics()
    assert (statistics.active, statistics.idle, statistics.pending) == (0, 0, 0)
    await wait_for(conninfo, "application_name = 'pool under test'", 0)


async def wait_for(conninfo: str, condition: str, count: int) -> None:
    """Until PostgreSQL has ``count`` backends of that kind."""
    with trio.fail_after(10):
        async with await Connection.connect(conninfo, autocommit=True) as observer:
            while True:
                cursor = await observer.execute(
                    f"SELECT count(*) FROM pg_stat_activity WHERE {condition} "
                    "AND pid <> pg_backend_pid() AND datname = current_database()"
                )
                if await cursor.fetchall() == [(count,)]:
                    return
                await trio.testing.wait_all_tasks_blocked(0.02)


async def test_pool_cancelled_query_is_gone_and_its_connection_kept(database: str) -> None:
    """A query whose caller left is cancelled in PostgreSQL, and the connection serves again."""
    async with running(database) as pool:
        with trio.move_on_after(0.05) as scope:
            async with pool.acquire() as connection:
                pid = connection.info.backend_pid
                await connection.execute("SELECT pg_sleep(60)")
        assert scope.cancelled_caught
        await wait_for(database, "state = 'active'", 0)
        await trio.testing.wait_all_tasks_blocked(0.02)
        async with pool.acquire() as connection:
            assert connection.info.backend_pid == pid
            await connection.execute("SELECT 1")


async def test_pool_backend_terminated_in_mid_query(database: str) -> None:
    """Its user is told that the database is unavailable; the next one gets a fresh connection."""
    async with running(database) as pool:

        async def victim() -> None:
            with pytest.raises(DatabaseUnavailable):
                async with pool.acquire() as connection:
                    await connection.execute("SELECT pg_sleep(60)")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(victim)
            await wait_for(database, "query = 'SELECT pg_sleep(60)' AND state = 'active'", 1)
            async with await Connection.connect(database, autocommit=True) as executioner:
                await executioner.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE query = 'SELECT pg_sleep(60)'"
                )
        async with pool.acquire() as connection:
            await connection.execute("SELECT 1")
        assert pool.statistics().broken == 1


async def test_pool_user_that_leaves_a_transaction_open(database: str) -> None:
    """A transaction that its user left open is rolled back before anybody else is served."""
    async with running(database, max_size=1) as pool:
        async with pool.acquire() as connection:
            await connection.execute("CREATE TABLE marks (number int)")
        async with pool.acquire() as connection:
            await connection.execute("BEGIN")
            await connection.execute("INSERT INTO marks VALUES (1)")
        async with pool.acquire() as connection:
            cursor = await connection.execute("SELECT count(*) FROM marks")
            assert await cursor.fetchall() == [(0,)]


async def test_pool_mistake_in_sql_is_the_callers(database: str) -> None:
    """A programming error passes as psycopg raised it and costs no connection."""
    async with running(database) as pool:
        with pytest.raises(psycopg.errors.UndefinedColumn):
            async with pool.acquire() as connection:
                await connection.execute("SELECT nothing")
        assert pool.statistics().idle == 1


async def test_pool_storm_with_cancellations_ends_clean(database: str) -> None:
    """Hundreds of users, a third of them cancelled anywhere: right answers, and all at rest."""
    rng = random.Random(3)
    outcomes: Counter[str] = Counter()

    async def user(pool: Pool[Connection], number: int) -> None:
        patience = rng.uniform(0, 0.03) if number % 3 == 0 else 60.0
        with trio.move_on_after(patience):
            async with pool.acquire() as connection:
                cursor = await connection.execute(
                    "SELECT %s::int, pg_sleep(0.005)", (number,), prepare=True
                )
                ((answer, _),) = await cursor.fetchall()
                outcomes["right" if answer == number else "wrong"] += 1

    async with running(database, max_size=8) as pool:
        async with trio.open_nursery() as nursery:
            for number in range(600):
                nursery.start_soon(user, pool, number)
        assert outcomes["wrong"] == 0
        assert outcomes["right"] >= 400
        assert pool.statistics().opened - pool.statistics().broken <= 8
        await wait_for(database, "state = 'active'", 0)
