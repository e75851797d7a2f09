"""Asking again where PostgreSQL has ended a statement because several waited for each other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import psycopg

from bulkhead_trio.database._asking import asking
from bulkhead_trio.database.connection import Connection
from bulkhead_trio.database.pool import Pool

R = TypeVar("R")

MOST_TRIES: Final = 3
"""The order of locks in ``migrations/0004_delivery.sql`` leaves few deadlocks; for those."""


async def ask_through_deadlocks(
    pool: Pool[Connection], ask: Callable[[Connection], Awaitable[R]]
) -> R:
    """What ``ask`` answers, called anew where it was a deadlock's victim.

    Args:
        pool: whose connections it uses, in autocommit mode.
        ask: one transaction, with nothing of it done when it raises.

    Raises:
        DatabaseUnavailable: the database is away, or refuses what does not depend on the values.
        CallerError: a value is one that PostgreSQL cannot keep.
    """
    for left in reversed(range(MOST_TRIES)):
        async with asking(pool) as connection:
            try:
                return await ask(connection)
            except psycopg.errors.DeadlockDetected:
                if not left:
                    raise
    raise AssertionError("the last try returns or raises")
