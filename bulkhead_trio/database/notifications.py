"""Notifications in PostgreSQL: accepted together with the work of sending them."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from bulkhead_trio.database._asking import asking
from bulkhead_trio.database._filter_rules import notification_condition
from bulkhead_trio.database.connection import Connection
from bulkhead_trio.database.delivery_records import (
    NotificationDraft,
    NotificationFilter,
    NotificationRecord,
)
from bulkhead_trio.database.history import History, Table
from bulkhead_trio.database.pool import Pool
from bulkhead_trio.errors import Conflict, NotFound

_ADD: Final = b"""
SELECT new_id, is_conflict FROM bulkhead_trio_add_notification(%s, %s, %s, %s, %s, %s)
"""


_NOTIFICATIONS: Final = Table(
    noun="notification",
    make=NotificationRecord,
    columns="n.id, n.tenant_id, n.channel, n.recipient, n.subject, n.body, n.state, "
    "n.attempts, n.created_at, n.next_at, n.ended_at",
    source="notifications AS n",
    alias="n",
    condition=notification_condition,
    replay="bulkhead_trio_replay_notifications",
    owners="tenants",
    owner=lambda notification: notification.tenant_id,
    ownerless="The tenant of this notification has been deleted.",
)


class NotificationStore(History[NotificationRecord, NotificationFilter]):
    """Keeps notifications, and has them sent again; see `History`.

    Args:
        pool: whose connections it uses, in autocommit mode.
    """

    def __init__(self, pool: Pool[Connection]) -> None:
        super().__init__(pool, _NOTIFICATIONS)

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
