"""Test events: for one endpoint, whatever types it takes, without the detour of the outbox."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from bulkhead_trio.database._asking import asking
from bulkhead_trio.database.connection import Connection
from bulkhead_trio.database.delivery_records import DeliveryRecord
from bulkhead_trio.database.pool import Pool
from bulkhead_trio.errors import Conflict, NotFound

_LOCK: Final = b"SELECT active, fifo FROM webhooks WHERE id = %s AND tenant_id = %s FOR KEY SHARE"

_ADD: Final = b"""
WITH event AS (
    INSERT INTO events (tenant_id, type, payload)
    VALUES (%(tenant)s, %(type)s, %(payload)s::json) RETURNING id
), made AS (
    INSERT INTO deliveries (event_id, webhook_id, tenant_id)
    SELECT id, %(webhook)s, %(tenant)s FROM event RETURNING id, event_id, created_at
), queued AS (
    INSERT INTO work (item_id, kind, lane, tenant_id, queue_id, due_at)
    SELECT id, 1, 0, %(tenant)s, %(webhook)s,
        CASE WHEN %(fifo)s THEN '-infinity'::timestamptz ELSE now() END
    FROM made
)
SELECT id, event_id, created_at FROM made
"""

_PUT_HEAD: Final = b"""
SELECT bulkhead_trio_put_heads(1::smallint, ARRAY[%s::uuid], ARRAY[0::smallint], ARRAY[%s::uuid],
    ARRAY[now()], ARRAY[%s::text])
"""

_LEAVE_ALONE_NO_MORE: Final = b"SELECT bulkhead_trio_leave_alone_no_more(%s)"

_TELL: Final = b"SELECT pg_notify('bulkhead_trio_work', 'webhooks')"


class WebhookTests:
    """Sends test events.

    Args:
        pool: whose connections it uses, in autocommit mode.
    """

    def __init__(self, pool: Pool[Connection]) -> None:
        self._pool = pool

    async def send(
        self, tenant_id: UUID, webhook_id: UUID, event_type: str, payload: str
    ) -> DeliveryRecord:
        """An event, its one delivery and the work of that, all of them or none.

        An endpoint that is being left alone is tried at once; a FIFO one when all before is done.

        Args:
            tenant_id: whose the endpoint is.
            webhook_id: which.
            event_type: of the event.
            payload: JSON.

        Raises:
            NotFound: the tenant has no endpoint of that id.
            Conflict: it is switched off, so that nothing would be seen of a test.
            DatabaseUnavailable: the database is away.
        """
        async with asking(self._pool) as connection, connection.transaction():
            found = await connection.execute(_LOCK, (webhook_id, tenant_id))
            endpoint = await found.fetchone()
            if endpoint is None:
                raise NotFound("There is no webhook with this id.")
            is_active, is_fifo = endpoint
            if not is_active:
                raise Conflict("The webhook is not active: nothing is sent to it.")
            await connection.execute(_LEAVE_ALONE_NO_MORE, (webhook_id,))
            parameters = {"tenant": tenant_id, "webhook": webhook_id, "type": event_type,
                          "payload": payload, "fifo": is_fifo}  # fmt: skip
            added = await connection.execute(_ADD, parameters)
            row = await added.fetchone()
            assert row is not None  # noqa: S101  what is inserted is returned
            rule = "stay" if is_fifo else "sooner"
            await connection.execute(_PUT_HEAD, (webhook_id, tenant_id, rule))
            await connection.execute(_TELL)
        id_, event_id, created_at = row
        return DeliveryRecord(
            id=id_,
            event_id=event_id,
            webhook_id=webhook_id,
            tenant_id=tenant_id,
            event_type=event_type,
            state="pending",
            attempts=0,
            created_at=created_at,
            next_at=None,
            ended_at=None,
        )
