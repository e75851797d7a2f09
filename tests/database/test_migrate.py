"""Migrations against a real PostgreSQL, and the one source of their SQL."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
import trio
from psycopg.conninfo import make_conninfo

from bulkhead_trio.database import Connection
from bulkhead_trio.database.migrate import (
    MigrationError,
    known_migrations,
    migrate,
    migration_status,
    seed,
)


@pytest.fixture
def empty_database(database: str) -> str:
    """A database in which nothing has been done yet."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return database


async def connect(conninfo: str) -> Connection:
    return await Connection.connect(conninfo, autocommit=True)


async def rows_by_tier(connection: Connection) -> dict[str, int]:
    cursor = await connection.execute("SELECT tier, count(*) FROM tenant_data GROUP BY tier")
    return dict(await cursor.fetchall())


async def test_migrate_from_nothing_and_again(empty_database: str) -> None:
    """The first time everything is applied and seeded, the second time nothing."""
    async with await connect(empty_database) as connection:
        assert not any(status.is_applied for status in await migration_status(connection))
        assert await migrate(connection) == known_migrations()
        assert all(status.is_applied for status in await migration_status(connection))
        assert await migrate(connection) == ()
        assert await rows_by_tier(connection) == {"free": 10, "pro": 10, "enterprise": 10}
        cursor = await connection.execute(
            "SELECT payload->>'message' FROM tenant_data WHERE tier = 'free' ORDER BY id LIMIT 2"
        )
        assert await cursor.fetchall() == [
            ("Free tier data point 1",),
            ("Free tier data point 2",),
        ]


async def test_migrate_by_many_at_once(empty_database: str) -> None:
    """Any number of processes may start together: one migrates, the rest find it done."""
    applied: list[int] = []

    async def one() -> None:
        async with await connect(empty_database) as connection:
            applied.append(len(await migrate(connection)))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(one)
    assert sum(applied) == len(known_migrations())


async def test_migrate_after_a_container_ran_the_file(empty_database: str) -> None:
    """What a database image ran on its own first start is recognised and not repeated."""
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(known_migrations()[0].sql.encode())
    async with await connect(empty_database) as connection:
        assert await migrate(connection) == known_migrations()
        assert sum((await rows_by_tier(connection)).values()) == 30


async def test_migrate_refuses_a_changed_history(database: str) -> None:
    """A migration that is not what was applied stops everything and changes nothing."""
    async with await connect(database) as connection:
        await connection.execute("UPDATE schema_migrations SET checksum = 'another'")
        with pytest.raises(MigrationError, match="has changed"):
            await migrate(connection)
        with pytest.raises(MigrationError, match="has changed"):
            await migration_status(connection)


async def test_migrate_refuses_a_newer_database(database: str) -> None:
    """Old code does not touch what newer code has migrated."""
    async with await connect(database) as connection:
        await connection.execute(
            "INSERT INTO schema_migrations (version, name, checksum) VALUES (999, 'later', 'x')"
        )
        with pytest.raises(MigrationError, match="newer"):
            await migrate(connection)


async def test_migrate_cancelled_leaves_the_lock_free(empty_database: str) -> None:
    """A migration that is cut off leaves the next one a free lock and a clean start."""
    async with await connect(empty_database) as connection:
        with trio.move_on_after(0):
            await migrate(connection)
    async with await connect(empty_database) as connection:
        with trio.fail_after(10):
            assert await migrate(connection) == known_migrations()


async def test_seed_gives_rows_only_to_tiers_without(database: str) -> None:
    """Seeding twice, or over existing rows, adds nothing."""
    async with await connect(database) as connection:
        assert await seed(connection, ["free", "gold"]) == 10
        assert await seed(connection, ["free", "gold"]) == 0
        assert (await rows_by_tier(connection))["gold"] == 10


def test_init_db_is_the_first_migration(repository: Path, database: str) -> None:
    """The file that containers are given and the first migration are one file."""
    top = repository / "init-db.sql"
    migration = repository / "bulkhead_trio/database/migrations/0001_tenant_data.sql"
    assert migration.is_symlink()
    assert migration.resolve() == top.resolve()
    with psycopg.connect(make_conninfo(database), autocommit=True) as connection:
        connection.execute(top.read_bytes())
        row = connection.execute("SELECT count(*) FROM tenant_data").fetchone()
    assert row == (30,)
