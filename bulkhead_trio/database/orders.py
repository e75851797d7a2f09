"""Orders in PostgreSQL: accepted once, completed once, whatever happens to the process between."""

from __future__ import annotations

import datetime
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal

import attrs
import psycopg

from bulkhead_trio.database.connection import Connection
from bulkhead_trio.database.pool import Pool
from bulkhead_trio.errors import DatabaseUnavailable

_log = logging.getLogger("bulkhead_trio.orders")

_INSERT = """
INSERT INTO orders (order_id, user_id, amount, priority) VALUES (%s, %s, %s, %s)
ON CONFLICT (order_id) DO NOTHING
"""

_FIND = """
SELECT order_id, user_id, amount, priority, status, attempts, created_at, updated_at
FROM orders WHERE order_id = %s
"""

_OPEN = """
SELECT order_id, priority FROM orders
WHERE status IN ('queued', 'processing') AND order_id <> ALL (%s::text[])
  AND updated_at <= now() - make_interval(secs => %s)
ORDER BY priority, created_at, order_id LIMIT %s
"""

_COUNT_OPEN = """
SELECT count(*) FROM orders
WHERE status IN ('queued', 'processing') AND order_id <> ALL (%s::text[])
"""

_BEGIN = """
UPDATE orders SET status = 'processing', attempts = attempts + 1, updated_at = now()
WHERE order_id = %s AND status IN ('queued', 'processing') RETURNING attempts
"""

# An order of a tenant's has the tenant's id and a space before its user; whose has not, or whose
# tenant is no more, is nobody's event. The amount is JSON's number with all its digits.
_RAISE = """
raised AS (
    INSERT INTO events (tenant_id, type, payload)
    SELECT t.id, 'order.' || done.status, ('{"orderId":' || to_json(done.order_id)
        || ',"amount":' || to_json(done.amount) || ',"status":"' || done.status || '"}')::json
    FROM done JOIN tenants AS t ON t.id = CASE
        WHEN done.user_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12} '
        THEN left(done.user_id, 36)::uuid END
    WHERE done.status IN ('completed', 'failed')
    RETURNING id
), queued AS (
    INSERT INTO event_outbox (event_id) SELECT id FROM raised RETURNING seq
), told AS (
    SELECT pg_notify('bulkhead_trio_work', 'events') FROM queued
)"""

# Whoever moves the row is the one who completes the order: the row's lock makes a second one wait,
# and then find nothing left to move. The ledger's entry and the event commit together with that, or
# not at all.
_COMPLETE = f"""
WITH done AS (
    UPDATE orders SET status = 'completed', updated_at = now()
    WHERE order_id = %s AND status = 'processing' RETURNING order_id, user_id, amount, status
), booked AS (
    INSERT INTO order_ledger (order_id, amount) SELECT order_id, amount FROM done
), {_RAISE}
SELECT done.order_id FROM done LEFT JOIN told ON true
""".encode()  # noqa: S608  constants of our own

_OF_THE_ORDER = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.RaiseException)
"""What completing an order fails with when the order itself is to blame: a value that does not fit,
a constraint, a trigger that objects."""

_END_ATTEMPT = f"""
WITH done AS (
    UPDATE orders SET failures = failures + 1, updated_at = now(),
        status = CASE WHEN failures + 1 >= %s THEN 'failed' ELSE 'queued' END
    WHERE order_id = %s AND status = 'processing'
    RETURNING order_id, user_id, amount, status, failures
), {_RAISE}
SELECT done.failures, done.status = 'failed' FROM done LEFT JOIN told ON true
""".encode()  # noqa: S608


@attrs.frozen
class Order:
    """What a user asks for.

    Attributes:
        order_id: the user's own name for it, unique among all orders.
        user_id: whose it is.
        amount: above 0.
        priority: lower numbers are done first.
    """

    order_id: str
    user_id: str
    amount: Decimal
    priority: int


@attrs.frozen
class OrderRecord:
    """An order as it is kept.

    Attributes:
        status: ``queued``, ``processing``, ``completed`` or ``failed``.
        attempts: how often its processing has begun.
    """

    order: Order
    status: str
    attempts: int
    created_at: datetime.datetime
    updated_at: datetime.datetime


@attrs.frozen
class OpenOrder:
    """An order that is still to be done."""

    order_id: str
    priority: int


@attrs.frozen
class EndedAttempt:
    """What has come of an attempt that failed.

    Attributes:
        failures: how many have by now.
        is_last: whether the order has been given up.
    """

    failures: int
    is_last: bool


class PostgresOrderStore:
    """Keeps orders in PostgreSQL.

    Every method raises `bulkhead_trio.errors.DatabaseUnavailable` when the database is away.

    Args:
        pool: whose connections it uses, in autocommit mode.
    """

    def __init__(self, pool: Pool[Connection]) -> None:
        self._pool = pool

    async def insert(self, order: Order) -> OrderRecord | None:
        """Keep a new order; the one that is there already under its id, if there is one.

        It is committed when this returns.
        """
        parameters = (order.order_id, order.user_id, order.amount, order.priority)
        async with self._asking() as connection:
            cursor = await connection.execute(_INSERT, parameters, prepare=True)
            if cursor.rowcount:
                return None
            # Orders are never deleted, so what stood in the way is still there.
            return await _find(connection, order.order_id)

    async def find(self, order_id: str) -> OrderRecord | None:
        """The order of that id."""
        async with self._asking() as connection:
            return await _find(connection, order_id)

    async def open_orders(
        self, *, limit: int, idle_seconds: float, excluding: Sequence[str]
    ) -> list[OpenOrder]:
        """What is still to be done, most urgent first.

        Args:
            limit: the most to answer with.
            idle_seconds: only those that nothing has happened to for so long.
            excluding: ids to leave out.
        """
        async with self._asking() as connection:
            parameters = (list(excluding), idle_seconds, limit)
            cursor = await connection.execute(_OPEN, parameters, prepare=True)
            return [OpenOrder(*row) for row in await cursor.fetchall()]

    async def count_open(self, *, excluding: Sequence[str]) -> int:
        """How many are still to be done, besides those ``excluding`` names."""
        async with self._asking() as connection:
            cursor = await connection.execute(_COUNT_OPEN, (list(excluding),), prepare=True)
            row = await cursor.fetchone()
        return int(row[0]) if row else 0

    async def begin(self, order_id: str) -> int | None:
        """Say that an attempt begins; its number, or ``None`` where the order is done already."""
        async with self._asking() as connection:
            cursor = await connection.execute(_BEGIN, (order_id,), prepare=True)
            row = await cursor.fetchone()
        return None if row is None else int(row[0])

    async def complete(self, order_id: str) -> bool:
        """Book the order and mark it completed, both or neither; whether this call did it.

        Raises:
            psycopg.Error: the order cannot be booked as it is.
        """
        async with self._asking(blames=_OF_THE_ORDER) as connection:
            cursor = await connection.execute(_COMPLETE, (order_id,), prepare=True)
            return cursor.rowcount == 1

    async def end_attempt(self, order_id: str, *, most_failures: int) -> EndedAttempt | None:
        """Put an order whose attempt failed back among the queued, or give it up.

        Args:
            order_id: which.
            most_failures: with so many it is given up.

        Returns:
            What has come of it; ``None`` where the order is done already.
        """
        async with self._asking() as connection:
            parameters = (most_failures, order_id)
            cursor = await connection.execute(_END_ATTEMPT, parameters, prepare=True)
            row = await cursor.fetchone()
        return None if row is None else EndedAttempt(*row)

    @asynccontextmanager
    async def _asking(
        self, *, blames: tuple[type[psycopg.Error], ...] = ()
    ) -> AsyncIterator[Connection]:
        """A connection for statements that fail by the database's own fault.

        A table that is not there, a right that is missing, a server that has become read-only: for
        whoever wants an order processed, the database is as good as away.

        Args:
            blames: errors that say something of the order instead, and pass as they are.
        """
        passing: tuple[type[psycopg.Error], ...] = (
            psycopg.OperationalError,  # the pool has to see these two
            psycopg.InterfaceError,
            *blames,
        )
        async with self._pool.acquire() as connection:
            try:
                yield connection
            except passing:
                raise
            except psycopg.Error as error:
                words = " ".join(str(error).split())
                _log.warning("the orders' database refuses a statement: %s", words)
                raise DatabaseUnavailable("the database refuses what orders need") from error


async def _find(connection: Connection, order_id: str) -> OrderRecord | None:
    cursor = await connection.execute(_FIND, (order_id,), prepare=True)
    row = await cursor.fetchone()
    if row is None:
        return None
    id_, user_id, amount, priority, *rest = row
    return OrderRecord(Order(id_, user_id, amount, priority), *rest)
