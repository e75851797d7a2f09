"""Notifications in PostgreSQL: accepted together with the work of sending them."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from bulkhead_trio.database._asking import asking, moment_of, place_of
from bulkhead_trio.database._cursor_rules import Cursor, Page, check_limit, uuid_in
from bulkhead_trio.database._filter_rules import notification_condition
from bulkhead_trio.database._keyset_rules import page_statement
from bulkhead_trio.database.connection import Connection
from bulkhead_trio.database.deliveries import MOST_REPLAYED, count_of, read_attempts
from bulkhead_trio.database.delivery_records import (
    AttemptRecord,
    NotificationDraft,
    NotificationFilter,
    NotificationRecord,
    Replayed,
)
from bulkhead_trio.database.pool import Pool
from bulkhead_trio.errors import Conflict, NotFound

_NOTIFICATION: Final = (
    "n.id, n.tenant_id, n.channel, n.recipient, n.subject, n.body, n.state, n.attempts, "
    "n.created_at, n.next_at, n.ended_at"
)

_COUNT: Final = "SELECT count(*) FROM notifications AS n"

_ADD: Final = b"""
SELECT new_id, is_conflict FROM bulkhead_trio_add_notification(%s, %s, %s, %s, %s, %s)
"""

_GET: Final = f"""
SELECT {_NOTIFICATION} FROM notifications AS n
WHERE n.id = %(id)s AND (%(tenant)s::uuid IS NULL OR n.tenant_id = %(tenant)s)
""".encode()  # noqa: S608  constants of our own

_REPLAY: Final = b"SELECT cardinality(bulkhead_trio_replay_notifications(%s::uuid[], %s::text[]))"

_HAS_TENANT: Final = b"SELECT 1 FROM tenants WHERE id = %s"


class NotificationStore:
    """Keeps notifications.

    Every method raises `bulkhead_trio.errors.DatabaseUnavailable` when the database is away. A
    tenant that is ``None`` stands for all of them: for operators.

    Args:
        pool: whose connections it uses, in autocommit mode.
    """

    def __init__(self, pool: Pool[Connection]) -> None:
        self._pool = pool

    async def add(self, draft: NotificationDraft) -> UUID:
        """Keep a notification and the work of sending it; its id. It is committed on return.

        Where the tenant has one of the same idempotency key already that says the same, that one is
        the answer.

        Raises:
            NotFound: there is no such tenant.
            Conflict: another notification has its idempotency key.
            CallerError: a value cannot be kept.
        """
        parameters = (draft.tenant_id, draft.channel, draft.recipient, draft.subject, draft.body,
                      draft.idempotency_key)  # fmt: skip
        async with asking(self._pool) as connection:
            found = await connection.execute(_ADD, parameters, prepare=True)
            row = await found.fetchone()
        assert row is not None  # noqa: S101  a function of one row
        id_, is_conflict = row
        if is_conflict:
            raise Conflict("Another notification has this idempotency key.")
        if id_ is None:
            raise NotFound("There is no tenant with this id.")
        found_id: UUID = id_
        return found_id

    async def get(self, tenant_id: UUID | None, notification_id: UUID) -> NotificationRecord:
        """A tenant's notification of that id.

        Raises:
            NotFound: it has none.
        """
        async with asking(self._pool) as connection:
            return await _get(connection, tenant_id, notification_id)

    async def attempts(self, tenant_id: UUID | None, notification_id: UUID) -> list[AttemptRecord]:
        """Every try of a notification, the first one first.

        Raises:
            NotFound: the tenant has no notification of that id.
        """
        async with asking(self._pool) as connection:
            await _get(connection, tenant_id, notification_id)
            return await read_attempts(connection, notification_id)

    async def page(
        self,
        tenant_id: UUID | None,
        wanted: NotificationFilter,
        *,
        limit: int,
        cursor: Cursor | None = None,
    ) -> Page[NotificationRecord]:
        """A tenant's notifications, newest first; those that are ``dead`` are the dead letters.

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

    async def count(self, tenant_id: UUID | None, wanted: NotificationFilter) -> int:
        """How many of a tenant's notifications there are; it looks at each of them."""
        condition, parameters = notification_condition(tenant_id, wanted)
        async with asking(self._pool) as connection:
            return await count_of(connection, _COUNT, condition, parameters)

    async def replay(self, tenant_id: UUID | None, notification_id: UUID) -> NotificationRecord:
        """Send a notification once more, as `DeliveryStore.replay` does; as it is afterwards.

        Raises:
            NotFound: the tenant has no notification of that id.
            Conflict: its tenant has been deleted.
        """
        async with asking(self._pool) as connection:
            notification = await _get(connection, tenant_id, notification_id)
            found = await connection.execute(_HAS_TENANT, (notification.tenant_id,))
            if await found.fetchone() is None:
                raise Conflict("The tenant of this notification has been deleted.")
            await connection.execute(_REPLAY, ([notification_id], None))
            return await _get(connection, tenant_id, notification_id)

    async def replay_matching(
        self,
        tenant_id: UUID | None,
        wanted: NotificationFilter,
        *,
        limit: int = MOST_REPLAYED,
        cursor: Cursor | None = None,
    ) -> Replayed:
        """Send notifications once more, as `DeliveryStore.replay_matching` does.

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


async def _page(
    connection: Connection,
    tenant_id: UUID | None,
    wanted: NotificationFilter,
    limit: int,
    cursor: Cursor | None,
) -> Page[NotificationRecord]:
    condition, parameters = notification_condition(tenant_id, wanted)
    statement = page_statement(
        f"SELECT {_NOTIFICATION} FROM notifications AS n",  # noqa: S608
        alias="n",
        continues=cursor is not None,
        newest_first=True,
        condition=condition,
    )
    place: tuple[Any, ...] = () if cursor is None else (moment_of(cursor), uuid_in(cursor))
    found = await connection.execute(statement, (*parameters, *place, limit + 1))
    records = [NotificationRecord(*row) for row in await found.fetchall()]
    items = records[:limit]
    more = len(records) > limit
    return Page(items, place_of(items[-1].created_at, str(items[-1].id)) if more else None)


async def _get(
    connection: Connection, tenant_id: UUID | None, notification_id: UUID
) -> NotificationRecord:
    found = await connection.execute(_GET, {"id": notification_id, "tenant": tenant_id})
    row = await found.fetchone()
    if row is None:
        raise NotFound("There is no notification with this id.")
    return NotificationRecord(*row)
