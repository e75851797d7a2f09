"""Ending what nobody will do any more, and forgetting what is old; in short transactions."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from bulkhead_trio.database._asking import asking
from bulkhead_trio.database.connection import Connection
from bulkhead_trio.database.delivery_records import Pruned
from bulkhead_trio.database.pool import Pool

_END_QUEUES: Final = b"SELECT bulkhead_trio_end_queues(%s)"

_GIVE_UP: Final = b"SELECT bulkhead_trio_give_up(now() - make_interval(secs => %s), %s)"

_PRUNE: Final = """
WITH old AS MATERIALIZED (
    SELECT id FROM {table} WHERE ended_at < now() - make_interval(secs => %s)
    ORDER BY ended_at LIMIT %s FOR UPDATE SKIP LOCKED
), attempts AS (
    DELETE FROM delivery_attempts AS a USING old WHERE a.item_id = old.id
), gone AS (
    DELETE FROM {table} AS d USING old WHERE d.id = old.id RETURNING d.id
)
SELECT count(*) FROM gone
"""

# Ids are in the order of time: what is old is at one end of the primary key.
_PRUNE_EVENTS: Final = b"""
WITH looked AS MATERIALIZED (
    SELECT e.id FROM events AS e WHERE e.id > %s
    ORDER BY e.id LIMIT %s
), old AS MATERIALIZED (
    SELECT e.id FROM looked JOIN events AS e ON e.id = looked.id
    WHERE e.created_at < now() - make_interval(secs => %s)
), gone AS (
    DELETE FROM events AS e USING old WHERE e.id = old.id
      AND NOT EXISTS (SELECT FROM deliveries AS d WHERE d.event_id = old.id)
      AND NOT EXISTS (SELECT FROM event_outbox AS o WHERE o.event_id = old.id)
    RETURNING e.id
)
SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM old),
    (SELECT id FROM old ORDER BY id DESC LIMIT 1)
"""

_FIRST: Final = UUID(int=0)


class Pruning:
    """Takes away what is no longer needed.

    Any number of instances may do so at once. Every method raises
    `bulkhead_trio.errors.DatabaseUnavailable` when the database is away.

    Args:
        pool: whose connections it uses, in autocommit mode.
    """

    def __init__(self, pool: Pool[Connection]) -> None:
        self._pool = pool
        # Events that have deliveries still are passed over, once in each walk.
        self._events_after = _FIRST

    async def end_orphans(self, limit: int) -> int:
        """End up to ``limit`` pieces of work of endpoints and tenants that have been deleted.

        Returns:
            How many; as many as ``limit``: there may be more.
        """
        async with asking(self._pool) as connection:
            return int(await _value(connection, _END_QUEUES, (limit,)))

    async def prune(self, retention_seconds: float, limit: int) -> Pruned:
        """One round: of each kind up to ``limit`` of what is older than ``retention_seconds``.

        Deliveries and notifications by when they ended; events that have no delivery left. What has
        waited so long for an endpoint that is switched off is given up, and is kept as dead for as
        long again.
        """
        async with asking(self._pool) as connection:
            given_up = await _value(connection, _GIVE_UP, (retention_seconds, limit))
            ended = {
                table: await _value(
                    connection, _PRUNE.format(table=table).encode(), (retention_seconds, limit)
                )
                for table in ("deliveries", "notifications")
            }
            parameters = (self._events_after, limit, retention_seconds)
            found = await connection.execute(_PRUNE_EVENTS, parameters)
            row = await found.fetchone()
        assert row is not None  # noqa: S101  aggregates
        events, seen, last = row
        self._events_after = last if seen == limit else _FIRST
        has_more = limit in (given_up, *ended.values(), seen)
        return Pruned(ended["deliveries"], ended["notifications"], events, given_up, has_more)


async def _value(connection: Connection, statement: bytes, parameters: tuple[Any, ...]) -> Any:
    found = await connection.execute(statement, parameters)
    row = await found.fetchone()
    assert row is not None  # noqa: S101  an aggregate, or a function of one value
    return row[0]
