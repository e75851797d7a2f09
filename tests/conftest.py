"""A real PostgreSQL for the whole run, and a fresh, migrated database for each test that asks."""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings
from psycopg.conninfo import make_conninfo

# How long an example takes is no property of ours: one of 20 ms takes 370 ms while ten processes
# want the same two cores, and Hypothesis would call that a failure. Slowness has tests of its own.
settings.register_profile("bulkhead_trio", deadline=None)
settings.load_profile("bulkhead_trio")

_HOLDER = """
import sys, trio
from pathlib import Path
from bulkhead_trio.database.connection import Connection
from bulkhead_trio.database.embedded import open_embedded_server
from bulkhead_trio.database.migrate import migrate

async def main():
    async with open_embedded_server(Path(sys.argv[1]), max_connections=400) as server:
        async with await Connection.connect(server.conninfo, autocommit=True) as connection:
            await connection.execute("CREATE DATABASE template_migrated")
        async with await Connection.connect(
            server.conninfo, dbname="template_migrated", autocommit=True
        ) as connection:
            await migrate(connection)
        print(server.conninfo, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)  # until the tests have gone

trio.run(main)
"""

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_conninfo() -> Iterator[str]:
    """The embedded server, run by a process of its own, since Trio's loop lasts for a test only.

    Not in pytest's own directory, which the next run of pytest closes to other users again.
    """
    with tempfile.TemporaryDirectory(prefix="bulkhead-", ignore_cleanup_errors=True) as parent:
        holder = subprocess.Popen(
            [sys.executable, "-c", _HOLDER, f"{parent}/postgres"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert holder.stdin is not None
        assert holder.stdout is not None
        with holder, holder.stdin:
            conninfo = holder.stdout.readline().strip()
            assert conninfo, "the embedded PostgreSQL did not start"
            yield conninfo


@pytest.fixture
def database(postgres_conninfo: str) -> Iterator[str]:
    """The connection string of a fresh, migrated and seeded database; dropped after the test."""
    yield from _fresh_database(postgres_conninfo)


@pytest.fixture(scope="module")
def module_database(postgres_conninfo: str) -> Iterator[str]:
    """Like `database`, for all tests of a module together."""
    yield from _fresh_database(postgres_conninfo)


def _fresh_database(conninfo: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template_migrated")
    yield make_conninfo(conninfo, dbname=name)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The top of the source tree."""
    return Path(__file__).resolve().parent.parent
