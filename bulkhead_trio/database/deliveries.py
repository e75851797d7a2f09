"""What has become of events at endpoints: the history, dead letters, and doing it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from bulkhead_trio.database._asking import asking, moment_of, place_of
from bulkhead_trio.database._cursor_rules import Cursor, Page, check_limit, uuid_in
from bulkhead_trio.database._filter_rules import delivery_condition
from bulkhead_trio.database._keyset_rules import page_statement
from bulkhead_trio.database.connection import Connection
from bulkhead_trio.database.delivery_records import (
    AttemptRecord,
    DeliveryFilter,
    DeliveryRecord,
    Replayed,
)
from bulkhead_trio.database.pool import Pool
from bulkhead_trio.errors import Conflict, NotFound

__all__ = ["MOST_ATTEMPTS", "MOST_REPLAYED", "DeliveryStore"]

MOST_ATTEMPTS: Final = 200
"""That are shown of one delivery: ten schedules of ten, and as many replays."""

MOST_REPLAYED: Final = 1000
"""In one transaction."""

_SELECT: Final = (
    "SELECT d.id, d.event_id, d.webhook_id, d.tenant_id, e.type, d.state, d.attempts, "
    "d.created_at, d.next_at, d.ended_at FROM deliveries AS d JOIN events AS e ON e.id = d.event_id"
)

_COUNT: Final = "SELECT count(*) FROM deliveries AS d JOIN events AS e ON e.id = d.event_id"

_GET: Final = (
    _SELECT + " WHERE d.id = %(id)s AND (%(tenant)s::uuid IS NULL OR d.tenant_id = %(tenant)s)"
).encode()

_ATTEMPTS: Final = f"""
SELECT number, at, status, error, duration_ms, response FROM delivery_attempts
WHERE item_id = %s ORDER BY number DESC LIMIT {MOST_ATTEMPTS}
""".encode()  # noqa: S608  a constant of our own

_HAS_WEBHOOK: Final = b"SELECT 1 FROM webhooks WHERE id = %s"

_REPLAY: Final = b"SELECT cardinality(bulkhead_trio_replay_deliveries(%s::uuid[], %s::text[]))"


class DeliveryStore:
    """Reads deliveries, and has them made again.

    Every method raises `bulkhead_trio.errors.DatabaseUnavailable` when the database is away. A
    tenant that is ``None`` stands for all of them: for operators.

    Args:
        pool: whose connections it uses, in autocommit mode.
    """

    def __init__(self, pool: Pool[Connection]) -> None:
        self._pool = pool

    async def get(self, tenant_id: UUID | None, delivery_id: UUID) -> DeliveryRecord:
        """A tenant's delivery of that id.

        Raises:
            NotFound: it has none.
        """
        async with asking(self._pool) as connection:
            return await _get(connection, tenant_id, delivery_id)

    async def attempts(self, tenant_id: UUID | None, delivery_id: UUID) -> list[AttemptRecord]:
        """Every try of a delivery, the first one first; of very many the last `MOST_ATTEMPTS`.

        Raises:
            NotFound: the tenant has no delivery of that id.
        """
        async with asking(self._pool) as connection:
            await _get(connection, tenant_id, delivery_id)
            return await read_attempts(connection, delivery_id)

    async def page(
        self,
        tenant_id: UUID | None,
        wanted: DeliveryFilter,
        *,
        limit: int,
        cursor: Cursor | None = None,
    ) -> Page[DeliveryRecord]:
        """A tenant's deliveries, newest first; those that are ``dead`` are the dead letters.

        Args:
            tenant_id: whose.
            wanted: which.
            limit: the most to answer with, 1 to 100.
            cursor: where an earlier page ended.

        Raises:
            CallerError: ``cursor`` is of another list.
            ValueError: ``limit`` is out of range.
        """
        check_limit(limit)
        async with asking(self._pool) as connection:
            return await _page(connection, tenant_id, wanted, limit, cursor)

    async def count(self, tenant_id: UUID | None, wanted: DeliveryFilter) -> int:
        """How many of a tenant's deliveries there are; it looks at each of them."""
        condition, parameters = delivery_condition(tenant_id, wanted)
        async with asking(self._pool) as connection:
            return await count_of(connection, _COUNT, condition, parameters)

    async def replay(self, tenant_id: UUID | None, delivery_id: UUID) -> DeliveryRecord:
        """Make a delivery once more, with the schedule of a new one; as it is afterwards.

        What was delivered is delivered again, under the same ``webhook-id``. One that waits to be
        retried is due at once, and so is one of an endpoint that is being left alone; one that was
        never tried, or is under way, stays as it is. For an endpoint that is switched off it waits
        until that is on.

        Raises:
            NotFound: the tenant has no delivery of that id.
            Conflict: its endpoint has been deleted.
        """
        async with asking(self._pool) as connection:
            delivery = await _get(connection, tenant_id, delivery_id)
            found = await connection.execute(_HAS_WEBHOOK, (delivery.webhook_id,))
            if await found.fetchone() is None:
                raise Conflict("The webhook of this delivery has been deleted.")
            await connection.execute(_REPLAY, ([delivery_id], None))
            return await _get(connection, tenant_id, delivery_id)

    async def replay_matching(
        self,
        tenant_id: UUID | None,
        wanted: DeliveryFilter,
        *,
        limit: int = MOST_REPLAYED,
        cursor: Cursor | None = None,
    ) -> Replayed:
        """Make deliveries once more, a part of them in each call, the newest first.

        Each is passed once, whatever becomes of it meanwhile. Those whose endpoint has been deleted
        stay as they are, and those whose state changes just when they are looked at. An endpoint
        that is being left alone is not tried any sooner for these: they may be many.

        Args:
            tenant_id: whose.
            wanted: which; ``delivered`` ones are among them unless it says otherwise.
            limit: the most to look at, 1 to `MOST_REPLAYED`.
            cursor: where an earlier part ended.

        Raises:
            CallerError: ``cursor`` is of another list.
            ValueError: ``limit`` is out of range.
        """
        if not 1 <= limit <= MOST_REPLAYED:
            raise ValueError(f"limit must be from 1 to {MOST_REPLAYED}, not {limit}")
        async with asking(self._pool) as connection:
            part = await _page(connection, tenant_id, wanted, limit, cursor)
            seen = ([each.id for each in part.items], [each.state for each in part.items])
            found = await connection.execute(_REPLAY, seen)
            row = await found.fetchone()
        assert row is not None  # noqa: S101  a function of one value
        return Replayed(row[0], part.next_cursor)


async def read_attempts(connection: Connection, item_id: UUID) -> list[AttemptRecord]:
    """Every try of a delivery or a notification, the first one first."""
    found = await connection.execute(_ATTEMPTS, (item_id,))
    return [AttemptRecord(*row) for row in reversed(await found.fetchall())]


async def count_of(
    connection: Connection, selection: str, condition: str, parameters: Sequence[Any]
) -> int:
    """The number that ``selection`` counts where ``condition`` holds."""
    statement = f"{selection} WHERE {condition}" if condition else selection
    found = await connection.execute(statement.encode(), parameters)
    row = await found.fetchone()
    assert row is not None  # noqa: S101  count(*) always has a row
    return int(row[0])


async def _get(connection: Connection, tenant_id: UUID | None, delivery_id: UUID) -> DeliveryRecord:
    found = await connection.execute(_GET, {"id": delivery_id, "tenant": tenant_id})
    row = await found.fetchone()
    if row is None:
        raise NotFound("There is no delivery with this id.")
    return DeliveryRecord(*row)


async def _page(
    connection: Connection,
    tenant_id: UUID | None,
    wanted: DeliveryFilter,
    limit: int,
    cursor: Cursor | None,
) -> Page[DeliveryRecord]:
    condition, parameters = delivery_condition(tenant_id, wanted)
    statement = page_statement(
        _SELECT,
        alias="d",
        continues=cursor is not None,
        newest_first=True,
        condition=condition,
    )
    place: tuple[Any, ...] = () if cursor is None else (moment_of(cursor), uuid_in(cursor))
    found = await connection.execute(statement, (*parameters, *place, limit + 1))
    records = [DeliveryRecord(*row) for row in await found.fetchall()]
    items = records[:limit]
    more = len(records) > limit
    return Page(items, place_of(items[-1].created_at, str(items[-1].id)) if more else None)
