"""What tests want to know of a server, asked from outside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import trio

from bulkhead_trio.database.embedded._processes import ServerProcess

SOON_SECONDS = 10.0
LOOK_SECONDS = 0.002
"""Short, since some tests want to strike in the middle of something that takes milliseconds."""

KEEP = "DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT 42 AS value"
KEPT = "SELECT value FROM kept"
"""Commit something, and find it again."""


def ask(conninfo: str, query: str) -> Any:
    """The first value of the first row, on a connection of its own."""
    with psycopg.connect(conninfo, autocommit=True, connect_timeout=5) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def tell(conninfo: str, statement: str) -> None:
    """Run and commit a statement."""
    with psycopg.connect(conninfo, autocommit=True, connect_timeout=5) as connection:
        connection.execute(statement.encode())


def is_running(directory: Path) -> bool:
    """Whether any process of PostgreSQL lives in the cluster."""
    found = ServerProcess.find_all(directory)
    for process in found:
        process.close()
    return bool(found)


async def wait_until(holds: Callable[[], object]) -> None:
    """Look again and again until it holds.

    Raises:
        AssertionError: it still does not after `SOON_SECONDS`.
    """
    deadline = trio.current_time() + SOON_SECONDS
    while not holds():
        assert trio.current_time() < deadline, f"not within {SOON_SECONDS} s"
        await trio.sleep(LOOK_SECONDS)
