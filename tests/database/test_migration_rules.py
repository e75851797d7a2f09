"""Which migrations are applied, which are refused, and what a failing one leaves behind."""

from __future__ import annotations

import datetime

import psycopg
import pytest

from bulkhead_trio.database import Connection
from bulkhead_trio.database.migrate import (
    AppliedMigration,
    Migration,
    MigrationError,
    known_migrations,
    migrate,
    migration_status,
    pending_migrations,
)

FIRST = Migration(1, "first", "SELECT 1")
SECOND = Migration(2, "second", "SELECT 2")
THIRD = Migration(3, "third", "SELECT 3")
ALL = (FIRST, SECOND, THIRD)


def applied(*migrations: Migration) -> list[AppliedMigration]:
    moment = datetime.datetime(2026, 2, 11, tzinfo=datetime.UTC)
    return [AppliedMigration(each.version, each.name, each.checksum, moment) for each in migrations]


def test_pending_is_what_follows_the_applied() -> None:
    """All of them at first, none at last, and always in order."""
    for count in range(4):
        assert pending_migrations(ALL, applied(*ALL[:count])) == ALL[count:]


def test_pending_refuses_a_gap() -> None:
    """A migration may build on all those before it, so none may come late."""
    with pytest.raises(MigrationError, match="before migration 2"):
        pending_migrations(ALL, applied(FIRST, THIRD))


def test_pending_refuses_what_is_unknown() -> None:
    """A database that newer code has migrated is not touched."""
    with pytest.raises(MigrationError, match=r"migration 3 \(third\), which is unknown"):
        pending_migrations(ALL[:2], applied(*ALL))


def test_pending_refuses_another_text() -> None:
    """One character is enough."""
    with pytest.raises(MigrationError, match=r"migration 1 \(first\) has changed"):
        pending_migrations((Migration(1, "first", "SELECT 1 "), SECOND), applied(FIRST))


def test_known_migrations_are_numbered_without_gaps() -> None:
    """The files of the package, from 1."""
    migrations = known_migrations()
    assert [each.version for each in migrations] == list(range(1, len(migrations) + 1))
    assert migrations[0].name == "tenant_data"


async def test_migrate_that_fails_leaves_nothing_of_itself(database: str) -> None:
    """Those before it stay; of itself neither its statements nor its row do; a retry works."""
    ours = known_migrations()
    number = len(ours) + 1
    good = Migration(number, "good", "CREATE TABLE good (); SELECT '100%'")
    bad = Migration(number + 1, "bad", "CREATE TABLE bad (); SELECT 1 / 0")
    mended = Migration(number + 1, "bad", "CREATE TABLE bad ()")
    async with await Connection.connect(database, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            await migrate(connection, (*ours, good, bad))
        states = await migration_status(connection, (*ours, good, bad))
        assert [each.is_applied for each in states] == [True] * number + [False]
        cursor = await connection.execute("SELECT to_regclass('good'), to_regclass('bad')")
        assert await cursor.fetchone() == ("good", None)
        assert await migrate(connection, (*ours, good, mended)) == (mended,)


async def test_migrate_up_to_date_needs_no_right_to_write(database: str) -> None:
    """A server whose user may only read starts on a database that somebody else has migrated."""
    async with await Connection.connect(
        database, autocommit=True, options="-c default_transaction_read_only=on"
    ) as connection:
        assert await migrate(connection) == ()
