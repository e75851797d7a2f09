"""The connection against a real PostgreSQL: waiting, cancelling, breaking, recovering."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest
import trio
import trio.testing

from bulkhead_trio.database import Connection
from bulkhead_trio.testing import CancellationPoint, sweep_cancellations


@asynccontextmanager
async def connected(conninfo: str, name: str = "tests") -> AsyncIterator[Connection]:
    connection = await Connection.connect(conninfo, autocommit=True, application_name=name)
    try:
        yield connection
    finally:
        connection.abandon()


async def running_queries(conninfo: str, name: str) -> int:
    """How many queries PostgreSQL is working on for connections of that name."""
    async with connected(conninfo, "observer") as observer:
        cursor = await observer.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE application_name = %s AND state = 'active'",
            (name,),
        )
        (count,) = await cursor.fetchone()
        return int(count)


async def test_connection_queries_and_adapts(database: str) -> None:
    """Parameters go in and Python values come out, JSON included."""
    async with connected(database) as connection:
        cursor = await connection.execute(
            "SELECT %s::int + 1, '{\"a\": [1, null]}'::jsonb", (41,), prepare=True
        )
        assert await cursor.fetchall() == [(42, {"a": [1, None]})]


async def test_connection_moves_more_than_socket_buffers_hold(database: str) -> None:
    """Megabytes pass both ways, though the socket takes only a part at a time."""
    text = "x" * 5_000_000
    async with connected(database) as connection:
        cursor = await connection.execute("SELECT %s::text || 'y'", (text,))
        (answer,) = await cursor.fetchone()
    assert answer == text + "y"


async def test_connection_two_tasks_take_turns(database: str) -> None:
    """Two tasks on one connection are served one after the other, and both right."""
    answers: set[int] = set()

    async def ask(connection: Connection, number: int) -> None:
        cursor = await connection.execute("SELECT %s::int", (number,))
        answers.update(*await cursor.fetchall())

    async with connected(database) as connection, trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(ask, connection, number)
    assert answers == set(range(20))


async def test_connection_cancelled_query_is_gone_from_the_server(database: str) -> None:
    """After recovery PostgreSQL no longer runs the query, and the connection is as new."""
    async with connected(database, "victim") as connection:
        with trio.move_on_after(0.05) as scope:
            await connection.execute("SELECT pg_sleep(60)")
        assert scope.cancelled_caught
        assert connection.is_interrupted
        assert not connection.is_reusable
        assert await running_queries(database, "victim") == 1
        with pytest.raises(psycopg.OperationalError, match="awaits recovery"):
            await connection.execute("SELECT 1")
        assert await connection.recover(timeout=5)
        assert await running_queries(database, "victim") == 0
        cursor = await connection.execute("SELECT 7")
        assert await cursor.fetchall() == [(7,)]


async def test_connection_cancelled_in_a_transaction_rolls_back(database: str) -> None:
    """A transaction whose block was cancelled leaves nothing behind, and the connection clean."""
    async with connected(database) as connection:
        await connection.execute("CREATE TABLE marks (number int)")
        with trio.move_on_after(0.05):
            async with connection.transaction():
                await connection.execute("INSERT INTO marks VALUES (1)")
                await connection.execute("SELECT pg_sleep(60)")
        assert await connection.recover(timeout=5)
        cursor = await connection.execute("SELECT count(*) FROM marks")
        assert await cursor.fetchall() == [(0,)]
        async with connection.transaction():
            await connection.execute("INSERT INTO marks VALUES (2)")
        cursor = await connection.execute("SELECT number FROM marks")
        assert await cursor.fetchall() == [(2,)]


async def test_connection_cancelled_at_every_checkpoint(database: str) -> None:
    """Wherever a sequence of queries is cancelled, recovery makes the connection usable."""

    async def scenario(point: CancellationPoint) -> None:
        async with connected(database) as connection:
            with point:
                await connection.execute("SELECT generate_series(1, 100)", prepare=True)
                async with connection.transaction():
                    await connection.execute("SELECT 1")
            assert await connection.recover(timeout=5)
            assert connection.is_reusable
            cursor = await connection.execute("SELECT 2")
            assert await cursor.fetchall() == [(2,)]

    assert await sweep_cancellations(scenario) >= 4


async def test_connection_cancelled_while_connecting(database: str) -> None:
    """However far connecting has come, cancelling it leaves no connection in the server."""

    async def scenario(point: CancellationPoint) -> None:
        connection = None
        with point:
            connection = await Connection.connect(database, application_name="half-open")
        if connection is not None:
            connection.abandon()

    assert await sweep_cancellations(scenario) >= 1
    with trio.fail_after(5):
        while True:
            async with connected(database) as observer:
                cursor = await observer.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'half-open'"
                )
                if await cursor.fetchall() == [(0,)]:
                    return


async def test_connection_terminated_in_mid_query(database: str) -> None:
    """A backend that is killed under a query is an `OperationalError`, and the connection done."""
    async with connected(database) as connection, connected(database) as executioner:

        async def execute_it() -> None:
            await trio.testing.wait_all_tasks_blocked(0.05)
            await executioner.execute(
                "SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,)
            )

        async with trio.open_nursery() as nursery:
            nursery.start_soon(execute_it)
            with pytest.raises(psycopg.OperationalError):
                await connection.execute("SELECT pg_sleep(60)")
        assert connection.has_gone()
        assert not connection.is_reusable


async def test_connection_terminated_while_idle_is_noticed(database: str) -> None:
    """An idle connection that the server closed says so before anybody uses it."""
    async with connected(database) as connection, connected(database) as executioner:
        assert not connection.has_gone()
        pid = connection.info.backend_pid
        await executioner.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert connection.has_gone()


async def test_connection_server_error_keeps_it_usable(database: str) -> None:
    """A mistake in SQL is that statement's alone."""
    async with connected(database) as connection:
        with pytest.raises(psycopg.errors.UndefinedTable):
            await connection.execute("SELECT * FROM nowhere")
        assert connection.is_reusable


async def test_connection_statement_timeout_is_a_query_cancelled(database: str) -> None:
    """PostgreSQL's own limit ends a query and leaves the connection clean."""
    connection = await Connection.connect(
        database, autocommit=True, options="-c statement_timeout=50"
    )
    with pytest.raises(psycopg.errors.QueryCanceled):
        await connection.execute("SELECT pg_sleep(60)")
    assert connection.is_reusable
    connection.abandon()


async def test_connection_notifications_arrive(database: str) -> None:
    """LISTEN and NOTIFY work from task to task."""
    async with connected(database) as listener, connected(database) as speaker:
        await listener.execute("LISTEN news")
        await speaker.execute("SELECT pg_notify('news', 'hello')")
        with trio.fail_after(5):
            (notify,) = await listener.wait_notifications()
        assert (notify.channel, notify.payload) == ("news", "hello")


@pytest.mark.parametrize(
    "conninfo", ["host=127.0.0.1 port=1", "host=/nowhere", "host=name.invalid", "host=::1 port=1"]
)
async def test_connection_refused_is_an_operational_error(conninfo: str) -> None:
    """A database that is not there raises, quickly and with psycopg's own type."""
    with trio.fail_after(10), pytest.raises(psycopg.OperationalError):
        await Connection.connect(conninfo, connect_timeout=2)


async def test_connection_to_a_silent_server_gives_up() -> None:
    """A server that accepts and says nothing is given up after `connect_timeout`."""
    listener = trio.socket.socket()
    with listener:
        await listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with trio.fail_after(5), pytest.raises(psycopg.OperationalError, match="no answer"):
            await Connection.connect(f"host=127.0.0.1 port={port}", connect_timeout=1)


async def test_connection_recovers_whenever_it_was_interrupted(database: str) -> None:
    """Cancelled at any instant, the cancel request overtaking the query included, it recovers."""
    rng = random.Random(5)

    async def one() -> None:
        async with connected(database, "victim") as connection:
            for _ in range(15):
                with trio.move_on_after(rng.uniform(0, 0.004)):
                    await connection.execute("SELECT pg_sleep(60), %s", ("x",), prepare=True)
                began = trio.current_time()
                assert await connection.recover(timeout=5)
                assert trio.current_time() - began < 3

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(one)
    assert await running_queries(database, "victim") == 0
