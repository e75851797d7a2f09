"""Migrations: numbered SQL files, each applied once, in order, in a transaction of its own.

Any number of processes may start at the same time: a PostgreSQL advisory lock lets one of them
migrate while the others wait, and those find nothing left to do.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files

import attrs

from bulkhead_trio.database.connection import Connection
from bulkhead_trio.errors import BulkheadTrioError

ADVISORY_LOCK = 0x62756C6B68656164
"""``bulkhead`` in ASCII: one lock for all of this project's processes in a database."""

DEMONSTRATION_ROWS = 10

_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")

_CREATE_LEDGER = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    integer     PRIMARY KEY,
    name       text        NOT NULL,
    checksum   text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""

_SEED = """
INSERT INTO tenant_data (tier, payload)
SELECT %(tier)s, jsonb_build_object('message', initcap(%(tier)s) || ' tier data point ' || number)
FROM generate_series(1, %(rows)s) AS number
WHERE NOT EXISTS (SELECT 1 FROM tenant_data WHERE tier = %(tier)s)
"""


class MigrationError(BulkheadTrioError):
    """The database's history and the code's do not fit together; nothing was changed."""


@attrs.frozen
class Migration:
    """One file.

    Attributes:
        version: from its name; the order.
        name: from its name.
        sql: what it does.
    """

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the SQL: an applied migration must never change."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@attrs.frozen
class MigrationStatus:
    """A migration, and when it was applied to a database; ``None``: not yet."""

    version: int
    name: str
    applied_at: datetime.datetime | None

    @property
    def is_applied(self) -> bool:
        """Whether the database has it."""
        return self.applied_at is not None


def known_migrations() -> tuple[Migration, ...]:
    """Those that this version of the code ships, in order.

    Raises:
        MigrationError: their numbers are not 1, 2, 3 and so on.
    """
    found = []
    for file in files("bulkhead_trio.database").joinpath("migrations").iterdir():
        if match := _FILE_NAME.fullmatch(file.name):
            found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    found.sort(key=lambda migration: migration.version)
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError("the migrations shipped are not numbered 1, 2, 3 and so on")
    return tuple(found)


async def migrate(connection: Connection) -> tuple[Migration, ...]:
    """Apply what the database does not have yet.

    Args:
        connection: in autocommit mode; used by nobody else meanwhile.

    Returns:
        those that were applied now, in order.

    Raises:
        MigrationError: an applied migration has changed since, or the database is newer.
        psycopg.Error: a migration failed; those before it are applied, it is not.
    """
    await connection.execute("SELECT pg_advisory_lock(%s)", (ADVISORY_LOCK,))
    try:
        await connection.execute(_CREATE_LEDGER)
        known = known_migrations()
        done = await _applied(connection)
        _check_history(known, done)
        missing = tuple(migration for migration in known if migration.version not in done)
        for migration in missing:
            await _apply(connection, migration)
    finally:
        # A session's advisory locks end with it: after a failure or a cancellation the connection
        # cannot be asked any more, and the caller closes it.
        if connection.is_reusable:
            await connection.execute("SELECT pg_advisory_unlock(%s)", (ADVISORY_LOCK,))
    return missing


async def migration_status(connection: Connection) -> tuple[MigrationStatus, ...]:
    """Every known migration, and whether the database has it; changes nothing.

    Raises:
        MigrationError: an applied migration has changed since, or the database is newer.
    """
    cursor = await connection.execute("SELECT to_regclass('schema_migrations') IS NOT NULL")
    has_ledger = await cursor.fetchall() == [(True,)]
    done = await _applied(connection) if has_ledger else {}
    known = known_migrations()
    _check_history(known, done)
    return tuple(
        MigrationStatus(
            migration.version,
            migration.name,
            done[migration.version][1] if migration.version in done else None,
        )
        for migration in known
    )


async def seed(connection: Connection, tiers: Sequence[str]) -> int:
    """Give each tier that has no rows its demonstration rows.

    Returns:
        how many rows were inserted.
    """
    inserted = 0
    for tier in tiers:
        cursor = await connection.execute(_SEED, {"tier": tier, "rows": DEMONSTRATION_ROWS})
        inserted += cursor.rowcount
    return inserted


async def _applied(connection: Connection) -> dict[int, tuple[str, datetime.datetime]]:
    cursor = await connection.execute("SELECT version, checksum, applied_at FROM schema_migrations")
    return {version: (checksum, at) for version, checksum, at in await cursor.fetchall()}


def _check_history(
    known: Sequence[Migration], done: dict[int, tuple[str, datetime.datetime]]
) -> None:
    by_version = {migration.version: migration for migration in known}
    for version, (checksum, _) in sorted(done.items()):
        if version not in by_version:
            raise MigrationError(
                f"the database has migration {version}, which this version of the code does not "
                "know: it was migrated by a newer one"
            )
        if by_version[version].checksum != checksum:
            raise MigrationError(
                f"migration {version} has changed since it was applied to this database"
            )


async def _apply(connection: Connection, migration: Migration) -> None:
    async with connection.transaction():
        # A file has several statements; they come from this package, not from a caller.
        await connection.execute(migration.sql.encode())
        await connection.execute(
            "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, %s)",
            (migration.version, migration.name, migration.checksum),
        )
