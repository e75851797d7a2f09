"""Commands that are interrupted while they work on the database."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from bulkhead_trio.database.migrate import ADVISORY_LOCK

from ._server import command_environment

SECONDS = 15.0


def others(connection: psycopg.Connection[Any]) -> list[str | None]:
    """What every other connection to this database waits for."""
    rows = connection.execute(
        "SELECT wait_event FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'"
    ).fetchall()
    return [row[0] for row in rows]


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_migration_is_exit_130(database: str, number: signal.Signals) -> None:
    """It gives up at once, says so in a word, and leaves no connection behind."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP TABLE schema_migrations")  # so that there is something to do
        connection.execute("SELECT pg_advisory_lock(%s)", (ADVISORY_LOCK,))
        with subprocess.Popen(
            [sys.executable, "-m", "bulkhead_trio", "db", "migrate"],
            env=command_environment({"DATABASE_URL": database}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            wait_until(lambda: others(connection) == ["advisory"], "it never waits for the lock")
            process.send_signal(number)
            output, errors = process.communicate(timeout=SECONDS)
        assert process.returncode == 130
        assert (output, errors) == ("", "Interrupted.\n")
        wait_until(lambda: others(connection) == [], "its connection is still there")
