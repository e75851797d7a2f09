"""The short way to one value, against a real PostgreSQL: prepared, cancelled, lost, broken."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
import trio
import trio.testing

from bulkhead_trio.database import Connection, Pool
from bulkhead_trio.database._statement_rules import MOST_LOSSES, Statement
from bulkhead_trio.errors import DatabaseUnavailable
from bulkhead_trio.testing import CancellationPoint, sweep_cancellations

ECHO = Statement(b"SELECT $1::text")
SLEEP = Statement(b"SELECT pg_sleep($1)::text")


@asynccontextmanager
async def connected(conninfo: str, **options: Any) -> AsyncIterator[Connection]:
    connection = await Connection.connect(conninfo, autocommit=True, **options)
    try:
        yield connection
    finally:
        connection.abandon()


async def prepared(connection: Connection) -> list[bytes]:
    """The names of this module's statements that the session has prepared."""
    cursor = await connection.execute(
        "SELECT name FROM pg_prepared_statements WHERE name LIKE 'bulkhead%' ORDER BY 1",
        prepare=False,
    )
    return [name.encode() for (name,) in await cursor.fetchall()]


async def test_value_comes_as_the_bytes_that_postgresql_wrote(database: str) -> None:
    """Text form, in UTF-8; NULL is None; megabytes pass both ways."""
    large = "ü".encode() * 2_000_000
    async with connected(database) as connection:
        for value in (b"", b"x", "ü😀".encode(), b"'\\", large):
            assert await connection.fetch_value(ECHO, (value,)) == value
        assert await connection.fetch_value(Statement(b"SELECT NULL"), ()) is None
        assert await connection.fetch_value(Statement(b"SELECT $1::int + 1"), (b"41",)) == b"42"


async def test_value_is_prepared_once(database: str) -> None:
    """The first call prepares, the others use it; another statement is another's."""
    async with connected(database) as connection:
        for _ in range(3):
            assert await connection.fetch_value(ECHO, (b"a",)) == b"a"
        assert await prepared(connection) == [ECHO.name + b"_0"]
        await connection.fetch_value(Statement(b"SELECT 2"), ())
        assert len(await prepared(connection)) == 2


async def test_value_without_preparing_where_that_is_not_wanted(database: str) -> None:
    """Through a pooler that swaps sessions, ``prepare_threshold=None`` leaves nothing behind."""
    async with connected(database, prepare_threshold=None) as connection:
        for _ in range(3):
            assert await connection.fetch_value(ECHO, (b"a",)) == b"a"
        assert await prepared(connection) == []


async def test_value_after_the_session_was_reset(database: str) -> None:
    """A statement that is gone is asked unprepared, and prepared anew the next time."""
    async with connected(database) as connection:
        await connection.fetch_value(ECHO, (b"a",))
        await connection.execute("DISCARD ALL")
        assert await connection.fetch_value(ECHO, (b"b",)) == b"b"
        assert await prepared(connection) == []
        assert await connection.fetch_value(ECHO, (b"c",)) == b"c"
        assert await prepared(connection) == [ECHO.name + b"_1"]


async def test_value_of_a_session_that_forgets_for_ever(database: str) -> None:
    """Behind what behaves like a pooler, every call is answered, and preparing ends."""
    async with connected(database) as connection:
        for number in range(3 * MOST_LOSSES):
            value = b"%d" % number
            assert await connection.fetch_value(ECHO, (value,)) == value
            was_prepared = bool(await prepared(connection))
            await connection.execute("DEALLOCATE ALL", prepare=False)
        assert not was_prepared


async def test_value_after_a_migration_changed_what_it_answers(database: str) -> None:
    """ "Cached plan must not change result type" is not the caller's business."""
    statement = Statement(b"SELECT * FROM changing WHERE $1 <> ''")
    async with connected(database) as connection:
        await connection.execute("CREATE TABLE changing AS SELECT 7 AS number")
        assert await connection.fetch_value(statement, (b"x",)) == b"7"
        async with connected(database) as migrator:
            await migrator.execute("ALTER TABLE changing ALTER COLUMN number TYPE text USING 'new'")
        for _ in range(3):
            assert await connection.fetch_value(statement, (b"x",)) == b"new"
        assert await prepared(connection) == [statement.name + b"_0", statement.name + b"_1"]


async def test_value_of_a_statement_that_is_there_already(database: str) -> None:
    """What a cancelled call prepared without learning of it is used, not complained about."""
    async with connected(database) as connection:
        connection.pgconn.prepare(ECHO.name + b"_0", ECHO.sql)
        assert await connection.fetch_value(ECHO, (b"a",)) == b"a"
        assert await connection.fetch_value(ECHO, (b"b",)) == b"b"


async def test_value_lost_in_a_transaction_is_an_error(database: str) -> None:
    """PostgreSQL has ended the transaction: asking again is its owner's to decide."""
    async with connected(database) as connection:
        await connection.fetch_value(ECHO, (b"a",))
        with pytest.raises(psycopg.errors.InvalidSqlStatementName):
            async with connection.transaction():
                await connection.execute("DEALLOCATE ALL")
                await connection.fetch_value(ECHO, (b"b",))
        assert connection.is_reusable
        assert await connection.fetch_value(ECHO, (b"c",)) == b"c"


async def test_value_in_a_transaction_sees_it(database: str) -> None:
    """Within an open transaction it is a part of it."""
    count = Statement(b"SELECT count(*) FROM tenant_data")
    async with connected(database) as connection:
        async with connection.transaction(force_rollback=True):
            await connection.execute("DELETE FROM tenant_data")
            assert await connection.fetch_value(count, ()) == b"0"
        assert await connection.fetch_value(count, ()) != b"0"


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        (Statement(b"SELECT 1 / $1::int"), psycopg.errors.DivisionByZero),
        (Statement(b"SELECT $1 FROM nowhere"), psycopg.errors.UndefinedTable),
        (Statement(b"CREATE INDEX CONCURRENTLY"), psycopg.errors.SyntaxError),
    ],
)
async def test_value_that_fails_is_that_statements_alone(
    database: str, statement: Statement, error: type[psycopg.Error]
) -> None:
    """Errors are psycopg's, as for a cursor; the connection is as before."""
    async with connected(database) as connection:
        for _ in range(2):
            with pytest.raises(error) as caught:
                await connection.fetch_value(statement, (b"0",) if b"$1" in statement.sql else ())
            assert caught.value.diag.severity_nonlocalized == "ERROR"
            assert connection.is_reusable
        assert await connection.fetch_value(ECHO, (b"a",)) == b"a"


async def test_value_parameter_with_a_nul_is_refused(database: str) -> None:
    """libpq would send what is before it, and PostgreSQL answer another question."""
    async with connected(database) as connection:
        with pytest.raises(psycopg.DataError, match="NUL"):
            await connection.fetch_value(ECHO, (b"free\0pro",))
        assert connection.is_reusable


async def test_value_statement_timeout_is_a_query_cancelled(database: str) -> None:
    """PostgreSQL's own limit ends it and leaves the connection clean."""
    async with connected(database, options="-c statement_timeout=50") as connection:
        with pytest.raises(psycopg.errors.QueryCanceled):
            await connection.fetch_value(SLEEP, (b"60",))
        assert connection.is_reusable


async def test_value_notices_reach_their_handler(database: str) -> None:
    """What a function says on the side is heard as with a cursor."""
    heard: list[str | None] = []
    async with connected(database) as connection:
        await connection.execute(
            "CREATE FUNCTION talk() RETURNS text LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE NOTICE 'hello'; RETURN 'x'; END $$"
        )
        connection.add_notice_handler(lambda notice: heard.append(notice.message_primary))
        assert await connection.fetch_value(Statement(b"SELECT talk()"), ()) == b"x"
    assert heard == ["hello"]


async def test_value_two_tasks_take_turns(database: str) -> None:
    """Many tasks on one connection, half of them with cursors: each gets its own answer."""
    answers: set[bytes] = set()

    async def ask(connection: Connection, number: int) -> None:
        value = b"%d" % number
        if number % 2:
            cursor = await connection.execute("SELECT %s::text", (value.decode(),))
            ((text,),) = await cursor.fetchall()
            assert text.encode() == value
        else:
            assert await connection.fetch_value(ECHO, (value,)) == value
        answers.add(value)

    async with connected(database) as connection, trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(ask, connection, number)
    assert len(answers) == 20


async def test_value_cancelled_in_mid_query_awaits_recovery(database: str) -> None:
    """The connection refuses work until it is recovered, and then has no query left."""
    async with connected(database) as connection:
        with trio.move_on_after(0.05) as scope:
            await connection.fetch_value(SLEEP, (b"60",))
        assert scope.cancelled_caught
        assert connection.is_interrupted
        with pytest.raises(psycopg.OperationalError, match="awaits recovery"):
            await connection.fetch_value(ECHO, (b"a",))
        assert not connection.lock.locked()
        assert await connection.recover(timeout=5)
        assert await connection.fetch_value(ECHO, (b"a",)) == b"a"
        assert await connection.fetch_value(SLEEP, (b"0",)) == b""


async def test_value_cancelled_before_it_begins_sends_nothing(database: str) -> None:
    """A caller that has been cancelled costs the server no query, and the connection nothing."""
    async with connected(database) as connection:
        with trio.CancelScope() as scope:
            scope.cancel()
            await connection.fetch_value(SLEEP, (b"60",))
        assert scope.cancelled_caught
        assert connection.is_reusable


async def test_value_cancelled_at_every_checkpoint(database: str) -> None:
    """Wherever it is cancelled, preparing included, recovery makes the connection usable."""

    async def scenario(point: CancellationPoint) -> None:
        async with connected(database) as connection:
            with point:
                await connection.fetch_value(ECHO, (b"a",))
                await connection.fetch_value(ECHO, (b"b",))
                await connection.execute("DISCARD ALL")
                await connection.fetch_value(ECHO, (b"c",))
                await connection.fetch_value(ECHO, (b"d",))
            assert await connection.recover(timeout=5)
            for value in (b"x", b"y"):
                assert await connection.fetch_value(ECHO, (value,)) == value

    assert await sweep_cancellations(scenario) >= 8


async def test_value_is_right_after_any_interruption(database: str) -> None:
    """Cancelled at any instant, no later call gets an earlier one's answer."""
    rng = random.Random(7)

    async def one() -> None:
        async with connected(database) as connection:
            for number in range(40):
                value = b"%d" % number
                with trio.move_on_after(rng.uniform(0, 0.002)):
                    assert await connection.fetch_value(ECHO, (value,)) == value
                    await connection.fetch_value(SLEEP, (b"0.001",))
                assert await connection.recover(timeout=5)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(one)


async def test_value_of_a_terminated_backend_is_the_pools_failure(database: str) -> None:
    """A backend that is killed under it is what the pool calls the database's failure."""

    async def connect() -> Connection:
        return await Connection.connect(database, autocommit=True)

    pool = Pool("test", connect, max_size=1)

    async def victim(*, task_status: trio.TaskStatus[int]) -> None:
        with pytest.raises(DatabaseUnavailable):
            async with pool.acquire() as connection:
                task_status.started(connection.info.backend_pid)
                await connection.fetch_value(SLEEP, (b"60",))

    async with trio.open_nursery() as nursery, connected(database) as executioner:
        await nursery.start(pool.run)
        pid = await nursery.start(victim)
        await trio.testing.wait_all_tasks_blocked(0.05)
        await executioner.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        async with pool.acquire() as connection:
            assert await connection.fetch_value(ECHO, (b"a",)) == b"a"
        assert pool.statistics().broken == 1
        nursery.cancel_scope.cancel()


async def test_value_on_a_closed_connection_is_an_operational_error(database: str) -> None:
    """Closed by us or by the server: psycopg's error for it."""
    async with connected(database) as connection, connected(database) as executioner:
        pid = connection.info.backend_pid
        await executioner.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        with pytest.raises(psycopg.OperationalError):
            await connection.fetch_value(ECHO, (b"a",))
        connection.abandon()
        with pytest.raises(psycopg.OperationalError):
            await connection.fetch_value(ECHO, (b"a",))
