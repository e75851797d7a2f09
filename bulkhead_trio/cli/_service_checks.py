"""What `doctor` finds by asking: the address to listen on, the database, the mail server."""

from __future__ import annotations

import errno

import trio

from bulkhead_trio.app.opening import listen_address
from bulkhead_trio.cli._checks import Check
from bulkhead_trio.cli._delivery_checks import check_mail, check_secrets
from bulkhead_trio.cli._failures import expected_lines, one_line
from bulkhead_trio.cli._running import open_connection
from bulkhead_trio.config import Address, Bind, PassedDescriptor, Settings, SocketPath
from bulkhead_trio.database.connection import Connection
from bulkhead_trio.database.migrate import MigrationError, migration_status
from bulkhead_trio.http.listeners import open_sockets

DATABASE_SECONDS = 60.0
"""Starting an embedded server after a crash replays its log first; the rest takes milliseconds."""


async def check_services(settings: Settings) -> list[Check]:
    """Every check of this module."""
    return [
        *await check_ports(settings),
        *await check_database(settings),
        *await check_mail(settings),
    ]


async def check_ports(settings: Settings) -> list[Check]:
    """Whether the server could listen where it should."""
    addresses: list[tuple[str, Bind]] = [("BIND", bind) for bind in settings.bind]
    if not addresses:
        addresses = [("API_PORT", Address(settings.api_host, settings.api_port))]
    if settings.admin_bind is not None:
        addresses.append(("ADMIN_BIND", settings.admin_bind))
    return [await _check_address(variable, bind) for variable, bind in addresses]


async def _check_address(variable: str, bind: Bind) -> Check:
    subject = f"{variable} {bind}"
    if isinstance(bind, PassedDescriptor):
        return Check(subject, "ok", "whoever starts the server has to pass it")
    try:
        async with open_sockets([listen_address(bind)]):
            pass
    except OSError as error:
        advice = "Choose an address of this machine, and a port above 1023."
        if isinstance(bind, SocketPath):
            advice = "Choose a path where this user may make a socket, and where nothing is."
        if error.errno == errno.EADDRINUSE:
            advice = f"Stop what listens there (this server, perhaps), or change {variable}."
        return Check(subject, "fail", one_line(error), advice)
    is_any = isinstance(bind, Address) and not bind.port
    return Check(subject, "ok", "any free one" if is_any else "free")


async def check_database(settings: Settings) -> list[Check]:
    """Whether the database answers, is up to date, has room, and what is sealed in it opens.

    The embedded server is started for this, and stopped again unless somebody else uses it.
    """
    embedded = settings.database_url is None
    subject = "database (embedded)" if embedded else f"database {settings.shown('database_url')}"
    checks: list[Check] = []
    try:
        with trio.fail_after(DATABASE_SECONDS):
            async with open_connection(settings) as connection:
                checks.append(await _check_version(connection, subject))
                checks.append(await _check_migrations(connection))
                checks.append(await _check_room(connection, settings))
                if checks[1].outcome == "ok":  # the tables are there
                    checks.append(await check_secrets(connection, settings))
    except Exception as error:
        findings = expected_lines(error)
        if findings is None:
            raise
        log = settings.data_dir / "postgres" / "server.log"
        advice = f"Look into {log}, if there is one." if embedded else "Check DATABASE_URL."
        checks.extend(Check(subject, "fail", finding, advice) for finding in findings)
    return checks


async def _check_version(connection: Connection, subject: str) -> Check:
    cursor = await connection.execute("SHOW server_version")
    row = await cursor.fetchone()
    return Check(subject, "ok", f"PostgreSQL {row[0] if row else 'unknown'} answers")


async def _check_migrations(connection: Connection) -> Check:
    try:
        migrations = await migration_status(connection)
    except MigrationError as error:
        advice = "Run the version that migrated this database, or use another database."
        return Check("migrations", "fail", one_line(error), advice)
    pending = [migration for migration in migrations if not migration.is_applied]
    if not pending:
        return Check("migrations", "ok", "up to date")
    return Check(
        "migrations",
        "warn",
        f"{len(pending)} to apply",
        "Apply them with: bulkhead-trio db migrate (serve does so too).",
    )


async def _check_room(connection: Connection, settings: Settings) -> Check:
    cursor = await connection.execute(
        "SELECT current_setting('max_connections')::int, count(*) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND application_name NOT LIKE 'bulkhead-trio/%'"
    )
    allowed, others = await cursor.fetchone() or (0, 0)
    needed = settings.connections_needed
    finding = f"{allowed} allowed; this configuration needs {needed}"
    advice = f"Set max_connections to {needed + others} or more, or give tiers fewer connections."
    if settings.database_url is None:
        advice = "Another process started it with less: end all that use this DATA_DIR."
    if allowed < needed:
        return Check("max_connections", "fail", finding, advice)
    if allowed < needed + others:
        return Check("max_connections", "warn", f"{finding}, others use {others}", advice)
    return Check("max_connections", "ok", finding)
