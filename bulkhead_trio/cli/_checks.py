"""What `doctor` looks at: each check tries the real thing, and says what to do if it fails."""

from __future__ import annotations

import errno
import os
import platform
import resource
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Literal, TypeAlias

import attrs
import trio

from bulkhead_trio.cli._failures import expected_lines, one_line
from bulkhead_trio.cli._running import open_connection
from bulkhead_trio.config import Address, Settings
from bulkhead_trio.database.connection import Connection
from bulkhead_trio.database.migrate import migration_status

Outcome: TypeAlias = Literal["ok", "warn", "fail"]

OLDEST_PYTHON = (3, 11)

OWN_FILES = 128
"""Files beside those of requests: Trio's and PostgreSQL's sockets, logs, modules, listeners."""

DATABASE_SECONDS = 60.0
"""Starting an embedded server after a crash replays its log first; the rest takes milliseconds."""


@attrs.frozen
class Check:
    """What was looked at, how it is, and what to do about it."""

    subject: str
    outcome: Outcome
    finding: str
    advice: str = ""


def check_python() -> Check:
    """Whether this Python is new enough."""
    found = f"{platform.python_version()}, trio {version('trio')}"
    if sys.version_info < OLDEST_PYTHON:
        return Check("Python", "fail", found, "Use Python 3.11 or newer.")
    return Check("Python", "ok", found)


def check_data_dir(directory: Path) -> Check:
    """Whether DATA_DIR, or where it would be made, can be written."""
    subject = f"DATA_DIR {directory}"
    advice = "Choose another DATA_DIR, or give this user the right to write there."
    nearest = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not nearest.is_dir():
        return Check(subject, "fail", f"{nearest} is no directory", advice)
    try:
        if nearest == directory:
            with tempfile.TemporaryFile(dir=directory) as file:
                file.write(b"bulkhead-trio doctor")
    except OSError as error:
        return Check(subject, "fail", one_line(error), advice)
    if nearest == directory:
        return Check(subject, "ok", "can be written")
    if os.access(nearest, os.W_OK | os.X_OK):
        return Check(subject, "ok", "will be made at first start")
    return Check(subject, "fail", f"{nearest} cannot be written", advice)


def check_open_files(settings: Settings) -> Check:
    """Whether the limit on open files allows every tier to be full at once."""
    tiers = settings.tiers
    needed = OWN_FILES + sum(tier.workers + tier.queue + tier.connections for tier in tiers)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return Check("open files", "ok", f"unlimited; full tiers need {needed}")
    finding = f"{soft} allowed; full tiers need {needed}"
    if soft >= 2 * needed:
        return Check("open files", "ok", finding)
    raise_it = hard == resource.RLIM_INFINITY or hard >= 2 * needed
    advice = f"Raise it: ulimit -n {2 * needed}" + ("" if raise_it else ", as root or in systemd")
    if soft >= needed:
        return Check("open files", "warn", f"{finding}, idle clients come on top", advice)
    return Check("open files", "fail", finding, advice)


async def check_ports(settings: Settings) -> list[Check]:
    """Whether the server could listen where it should."""
    addresses = {"API_PORT": Address(settings.api_host, settings.api_port)}
    if settings.admin_bind is not None:
        addresses["ADMIN_BIND"] = settings.admin_bind
    return [await _check_port(variable, address) for variable, address in addresses.items()]


async def _check_port(variable: str, address: Address) -> Check:
    subject = f"{variable} {address}"
    try:
        listeners = await trio.open_tcp_listeners(address.port, host=address.host)
    except OSError as error:
        advice = "Choose an address of this machine, and a port above 1023."
        if error.errno == errno.EADDRINUSE:
            advice = f"Stop what listens there (this server, perhaps), or change {variable}."
        return Check(subject, "fail", one_line(error), advice)
    for listener in listeners:
        await listener.aclose()
    return Check(subject, "ok", "free" if address.port else "any free one")


async def check_database(settings: Settings) -> list[Check]:
    """Whether the database answers, is up to date, and has room for the tiers.

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
    except Exception as error:
        findings = expected_lines(error)
        if findings is None:
            raise
        advice = "Look into the log in DATA_DIR/postgres." if embedded else "Check DATABASE_URL."
        checks.extend(Check(subject, "fail", finding, advice) for finding in findings)
    return checks


async def _check_version(connection: Connection, subject: str) -> Check:
    cursor = await connection.execute("SHOW server_version")
    row = await cursor.fetchone()
    return Check(subject, "ok", f"PostgreSQL {row[0] if row else 'unknown'} answers")


async def _check_migrations(connection: Connection) -> Check:
    pending = [each for each in await migration_status(connection) if not each.is_applied]
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
    if allowed < needed:
        return Check("max_connections", "fail", finding, advice)
    if allowed < needed + others:
        return Check("max_connections", "warn", f"{finding}, others use {others}", advice)
    return Check("max_connections", "ok", finding)


async def check_all(settings: Settings) -> list[Check]:
    """Everything that a configuration which is right in itself may still lack."""
    return [
        check_data_dir(settings.data_dir),
        check_open_files(settings),
        *await check_ports(settings),
        *await check_database(settings),
    ]
