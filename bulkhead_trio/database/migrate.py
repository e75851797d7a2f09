"""The schema's history, applied: once each, in order, by whoever comes first.

A migration is a file ``migrations/NNNN_name.sql``. The table ``schema_migrations`` says which of
them the database has seen, with the SHA-256 of each as it was then.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from typing import Final

import attrs
import psycopg

from bulkhead_trio.database.connection import Connection
from bulkhead_trio.errors import BulkheadTrioError

ADVISORY_LOCK: Final = 0x62756C6B68656164
"""``bulkhead`` in ASCII: the number, one a database, under which its schema and seeds change."""

LOCK_SECONDS: Final = 60
"""The longest wait for another process's migration, and for a lock that a migration needs: while a
statement waits for a table, everybody else who wants the table waits behind it."""

_HISTORY: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    integer     PRIMARY KEY,
    name       text        NOT NULL,
    checksum   text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""

_SEED: Final = """
INSERT INTO tenant_data (tier, payload)
SELECT wanted.tier, jsonb_build_object('message', initcap(wanted.tier) || ' tier data point ' || n)
FROM unnest(%s::text[]) WITH ORDINALITY AS wanted (tier, place), generate_series(1, 10) AS n
WHERE NOT EXISTS (SELECT FROM tenant_data AS present WHERE present.tier = wanted.tier)
ORDER BY wanted.place, n
"""


class MigrationError(BulkheadTrioError):
    """The database's schema is not one that this code's migrations lead on from."""


@attrs.frozen
class Migration:
    """One step of the schema.

    Attributes:
        version: its place, from 1.
        name: what it is about, as in the file's name.
        sql: one or more statements, which run in one transaction.
    """

    version: int
    name: str
    sql: str = attrs.field(repr=False)

    @property
    def checksum(self) -> str:
        """SHA-256 of ``sql``, in hexadecimal."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@attrs.frozen
class MigrationStatus:
    """One migration, and when the database has seen it.

    Attributes:
        version: its place, from 1.
        name: what it is about.
        applied_at: when it was applied; ``None``: not yet.
    """

    version: int
    name: str
    applied_at: datetime.datetime | None

    @property
    def is_applied(self) -> bool:
        """Whether the database has seen it."""
        return self.applied_at is not None


@attrs.frozen
class AppliedMigration:
    """A row of ``schema_migrations``."""

    version: int
    name: str
    checksum: str
    applied_at: datetime.datetime


def known_migrations() -> tuple[Migration, ...]:
    """The migrations of this package, first to last."""
    directory = resources.files("bulkhead_trio.database") / "migrations"
    found = []
    for file in directory.iterdir():
        stem, dot, kind = file.name.rpartition(".")
        if dot and kind == "sql":
            version, _, name = stem.partition("_")
            found.append(Migration(int(version), name, file.read_text(encoding="utf-8")))
    return tuple(sorted(found, key=lambda migration: migration.version))


def pending_migrations(
    shipped: Sequence[Migration], applied: Sequence[AppliedMigration]
) -> tuple[Migration, ...]:
    """Those of ``shipped`` that are still to be applied; both are in the order of their versions.

    Raises:
        MigrationError: what was applied is not how ``shipped`` begins.
    """
    known = {migration.version: migration for migration in shipped}
    done = {row.version for row in applied}
    for row in applied:
        migration = known.get(row.version)
        if migration is None:
            raise MigrationError(
                f"the database is newer than this code: it has migration {row.version} "
                f"({row.name}), which is unknown here. Run the release that made it."
            )
        if migration.checksum != row.checksum:
            raise MigrationError(
                f"migration {row.version} ({row.name}) has changed since it was applied. Restore "
                "it, and make the change in a new one."
            )
    missing = [each for each in shipped[: len(applied)] if each.version not in done]
    if missing:
        raise MigrationError(
            f"migration {applied[-1].version} was applied before migration {missing[0].version} "
            f"({missing[0].name}), which it may build on"
        )
    return tuple(shipped[len(applied) :])


async def migrate(
    connection: Connection, migrations: Sequence[Migration] | None = None
) -> tuple[Migration, ...]:
    """Apply what is not applied yet, each migration in a transaction of its own.

    Any number of processes may do so at once: one applies a migration, the others wait for it. When
    there is nothing to apply, nothing is locked or written.

    Args:
        connection: in autocommit mode, of a user who may change the schema.
        migrations: in the order of their versions; those of this package when not given.

    Returns:
        The migrations that were applied now, by this call.

    Raises:
        MigrationError: the database is newer than the migrations, or an applied one was changed.
        psycopg.Error: the database refuses; the migrations before stay applied.
    """
    shipped = known_migrations() if migrations is None else tuple(migrations)
    done: list[Migration] = []
    while pending_migrations(shipped, await _read_history(connection)):
        async with _locked(connection):
            await connection.execute(_HISTORY)
            pending = pending_migrations(shipped, await _read_history(connection))
            if not pending:
                break  # another process was first
            await _apply(connection, pending[0])
        done.append(pending[0])
    return tuple(done)


async def migration_status(
    connection: Connection, migrations: Sequence[Migration] | None = None
) -> tuple[MigrationStatus, ...]:
    """Every migration and whether it is applied; those of this package when none are given.

    Raises:
        MigrationError: as from `migrate`.
        psycopg.Error: the database refuses.
    """
    shipped = known_migrations() if migrations is None else tuple(migrations)
    applied = await _read_history(connection)
    pending_migrations(shipped, applied)
    moments = {row.version: row.applied_at for row in applied}
    return tuple(
        MigrationStatus(each.version, each.name, moments.get(each.version)) for each in shipped
    )


async def seed(connection: Connection, tiers: Iterable[str]) -> int:
    """Add ten demonstration rows for each of ``tiers`` that has no row at all.

    Returns:
        How many rows were added.

    Raises:
        psycopg.Error: the database refuses.
    """
    async with _locked(connection):
        cursor = await connection.execute(_SEED, (list(dict.fromkeys(tiers)),))
    return cursor.rowcount


async def _apply(connection: Connection, migration: Migration) -> None:
    # As bytes and without parameters, so that it may be several statements and contain '%'.
    await connection.execute(migration.sql.encode())
    await connection.execute(
        "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, %s)",
        (migration.version, migration.name, migration.checksum),
    )


async def _read_history(connection: Connection) -> list[AppliedMigration]:
    try:
        cursor = await connection.execute(
            "SELECT version, name, checksum, applied_at FROM schema_migrations ORDER BY version"
        )
    except psycopg.errors.UndefinedTable:
        return []
    return [AppliedMigration(*row) for row in await cursor.fetchall()]


@asynccontextmanager
async def _locked(connection: Connection) -> AsyncIterator[None]:
    """A transaction in which no other process migrates or seeds the same database."""
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'".encode())
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (ADVISORY_LOCK,))
        yield
