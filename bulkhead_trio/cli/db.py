"""``bulkhead-trio db``: the schema and the demonstration rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bulkhead_trio.cli._options import Read, configured

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bulkhead_trio.config import Settings
    from bulkhead_trio.database.migrate import Migration, MigrationStatus


@click.group()
def db() -> None:
    """Look after the database.

    Works on DATABASE_URL, or on the embedded PostgreSQL in DATA_DIR: that is started for the
    command and stopped again, unless a running server uses it.
    """


@db.command()
@configured("data_dir", "database_url")
def migrate(read: Read) -> None:
    """Apply what migrations are not applied yet.

    `serve` does so too; this is for doing it before, or by another database user.

    \b
    Examples:
      bulkhead-trio db migrate
      DATABASE_URL=postgresql://owner:...@db/app bulkhead-trio db migrate
    """
    settings = read().settings
    from bulkhead_trio.cli._running import run

    applied = run(_migrate, settings)
    for migration in applied:
        click.echo(f"Applied migration {migration.version} ({migration.name}).")
    if not applied:
        click.echo("Nothing to apply: the database is up to date.")


@db.command()
@configured("data_dir", "database_url")
def seed(read: Read) -> None:
    """Add the demonstration rows, for each tier that has none.

    Applies migrations first. `serve` does both, unless ENVIRONMENT=production.

    \b
    Examples:
      bulkhead-trio db seed
      bulkhead-trio db seed --config bulkhead.toml
    """
    settings = read().settings
    from bulkhead_trio.cli._running import run

    rows = run(_seed, settings)
    click.echo(f"Added {rows} rows." if rows else "Nothing to add: every tier has rows.")


@db.command()
@configured("data_dir", "database_url")
def status(read: Read) -> None:
    """List the migrations, and which of them are applied.

    \b
    Examples:
      bulkhead-trio db status
      bulkhead-trio db status --data-dir /var/lib/bulkhead
    """
    settings = read().settings
    from bulkhead_trio.cli._running import run

    where = settings.shown("database_url") or f"the embedded PostgreSQL in {settings.data_dir}"
    click.echo(f"Database: {where}")
    _print(run(_status, settings))


async def _migrate(settings: Settings) -> Sequence[Migration]:
    from bulkhead_trio.cli._running import open_connection
    from bulkhead_trio.database.migrate import migrate

    async with open_connection(settings) as connection:
        return await migrate(connection)


async def _seed(settings: Settings) -> int:
    from bulkhead_trio.cli._running import open_connection
    from bulkhead_trio.database.migrate import migrate, seed

    async with open_connection(settings) as connection:
        await migrate(connection)
        return await seed(connection, [tier.name for tier in settings.tiers])


async def _status(settings: Settings) -> Sequence[MigrationStatus]:
    from bulkhead_trio.cli._running import open_connection
    from bulkhead_trio.database.migrate import migration_status

    async with open_connection(settings) as connection:
        return await migration_status(connection)


def _print(migrations: Sequence[MigrationStatus]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("version", "migration", "applied", show_edge=False)
    for migration in migrations:
        at = migration.applied_at
        applied = "not yet" if at is None else at.isoformat(sep=" ", timespec="seconds")
        table.add_row(str(migration.version), migration.name, applied)
    Console().print(table)
