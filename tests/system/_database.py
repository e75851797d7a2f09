"""The tests' own look at PostgreSQL, beside the server's: locks, rows, who is running what."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import psycopg

CONNECT_SECONDS = 5
LOCK_MILLISECONDS = 5000


@contextmanager
def connected(conninfo: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection of the test, each statement its own transaction."""
    with psycopg.connect(conninfo, autocommit=True, connect_timeout=CONNECT_SECONDS) as connection:
        yield connection


@contextmanager
def locked_table(conninfo: str) -> Iterator[None]:
    """While inside, every query of ``tenant_data`` waits: a database that is slow."""
    with connected(conninfo) as connection:
        connection.execute(f"SET lock_timeout = {LOCK_MILLISECONDS}")
        with connection.transaction():
            connection.execute("LOCK TABLE tenant_data IN ACCESS EXCLUSIVE MODE")
            yield


def insert_rows(conninfo: str, tier: str, count: int, message: str = "row") -> None:
    """Add rows to a tier."""
    with connected(conninfo) as connection:
        connection.execute(
            "INSERT INTO tenant_data (tier, payload)"
            " SELECT %s, jsonb_build_object('message', %s || n) FROM generate_series(1, %s) AS n",
            (tier, message, count),
        )


@attrs.frozen
class Backend:
    """One connection of the server that runs a query of tenants' rows."""

    pid: int
    query: str


def running_queries(conninfo: str) -> list[Backend]:
    """Queries of tenants' rows that run or wait in this database now, the tests' own left out."""
    with connected(conninfo) as connection:
        rows = connection.execute(
            "SELECT pid, query FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND state = 'active' AND query ILIKE '%tenant_data%' AND query NOT ILIKE 'LOCK %'"
        ).fetchall()
    return [Backend(*row) for row in rows]


def terminate_backends(conninfo: str) -> int:
    """End every other connection to this database; says how many."""
    with connected(conninfo) as connection:
        rows = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchall()
    return len(rows)


@attrs.frozen
class Postmaster:
    """The embedded PostgreSQL of a data directory, as its pid file describes it."""

    pid: int
    conninfo: str

    @property
    def is_alive(self) -> bool:
        """Whether the process runs; a zombie does not."""
        return is_alive(self.pid)


def find_postmaster(data_dir: Path) -> Postmaster | None:
    """The embedded PostgreSQL of ``data_dir``, ``None`` when there is no pid file."""
    pid_file = data_dir / "postgres" / "postmaster.pid"
    if not pid_file.exists():
        return None
    lines = pid_file.read_text().splitlines()
    if len(lines) < 5:
        return None
    server = f"host={lines[4].strip()} port={lines[3].strip()} user=postgres"
    return Postmaster(int(lines[0]), server)


def find_rows_database(postmaster: Postmaster) -> str:
    """The conninfo of the embedded server's database that has tenants' rows."""
    with connected(f"{postmaster.conninfo} dbname=postgres") as connection:
        names = connection.execute("SELECT datname FROM pg_database WHERE datallowconn").fetchall()
    for (name,) in names:
        conninfo = f"{postmaster.conninfo} dbname={name}"
        with connected(conninfo) as connection:
            found = connection.execute("SELECT to_regclass('tenant_data')").fetchone()
        if found is not None and found[0] is not None:
            return conninfo
    raise AssertionError(f"no database with tenant_data among {names}")


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {"Z", "X"}


def kill_quietly(pid: int, signal_number: int) -> None:
    """Send a signal to a process that may be gone already."""
    try:
        os.kill(pid, signal_number)
    except ProcessLookupError:
        return
