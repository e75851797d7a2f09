"""What everything stands on: the data directory, the secrets kept there, a migrated database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import attrs
import structlog
import trio

from bulkhead_trio.config import Settings
from bulkhead_trio.config.certificates import is_exposed
from bulkhead_trio.config.secret_files import kept_secret
from bulkhead_trio.database import open_connection
from bulkhead_trio.database.embedded import open_embedded_server
from bulkhead_trio.database.migrate import migrate, seed

Announce: TypeAlias = Callable[[str], None]
"""Told, in sentences for a person, what was done."""

CONNECT_SECONDS = 5
MIGRATION_SECONDS = 600.0
"""The longest that migrating at start may take: a large table takes minutes."""

_log = structlog.get_logger("bulkhead_trio.app")


@attrs.frozen
class Ground:
    """What an application is put upon.

    Attributes:
        conninfo: libpq's connection string of the database, migrated.
        admin_key: what opens the admin surface.
        secret_key: pepper of API keys.
    """

    conninfo: str = attrs.field(repr=False)
    admin_key: str = attrs.field(repr=False)
    secret_key: str = attrs.field(repr=False)


@asynccontextmanager
async def open_ground(settings: Settings, *, announce: Announce) -> AsyncIterator[Ground]:
    """Make the data directory and its secrets, start the database, bring it up to date.

    Raises:
        EmbeddedServerError: the embedded PostgreSQL cannot be started.
        psycopg.Error: the database cannot be reached or migrated.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    admin_key = kept_secret(
        settings.admin_api_key, settings.data_dir / "admin.key", "The admin key", announce
    )
    secret_key = kept_secret(
        settings.secret_key, settings.data_dir / "secret.key", "The secret key", announce
    )
    for variable in settings.short_secrets:
        _log.warning("secret_is_short", variable=variable)
    if settings.tls_key is not None and is_exposed(settings.tls_key):
        _log.warning("tls_key_is_readable_by_all", path=str(settings.tls_key))
    async with _database(settings, announce) as conninfo:
        await _prepare_database(conninfo, settings, announce)
        yield Ground(conninfo, admin_key, secret_key)


@asynccontextmanager
async def _database(settings: Settings, announce: Announce) -> AsyncIterator[str]:
    """The connection string of the configured server, or of the embedded one, kept running."""
    if settings.database_url is not None:
        announce("Using the PostgreSQL that DATABASE_URL names.")
        yield settings.database_url
        return
    directory = settings.data_dir / "postgres"
    announce(f"Starting the embedded PostgreSQL in {directory} ...")
    most = settings.embedded_connections
    async with (
        open_embedded_server(directory, max_connections=most) as server,
        trio.open_nursery() as nursery,
    ):
        if server.max_connections < most:
            # Whoever started it first decided; it may be too few for all of our tiers at once.
            _log.warning("postgres_allows_fewer", allows=server.max_connections, wanted=most)
        nursery.start_soon(server.supervise)
        yield server.conninfo
        nursery.cancel_scope.cancel()


async def _prepare_database(conninfo: str, settings: Settings, announce: Announce) -> None:
    opened = open_connection(
        conninfo, application_name="bulkhead-trio/migrate", connect_timeout=CONNECT_SECONDS
    )
    with trio.fail_after(MIGRATION_SECONDS):
        async with opened as connection:
            for migration in await migrate(connection):
                announce(f"Applied migration {migration.version} ({migration.name}).")
            if not settings.is_production:
                rows = await seed(connection, [tier.name for tier in settings.tiers])
                if rows:
                    announce(f"Seeded {rows} demonstration rows.")
