"""Tenants' endpoints for events, in PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import msgspec
import psycopg
from msgspec import UNSET

from bulkhead_trio.database._asking import asking, moment_of, place_of
from bulkhead_trio.database._cursor_rules import Cursor, Page, check_limit, uuid_in
from bulkhead_trio.database._keyset_rules import page_statement
from bulkhead_trio.database.connection import Connection
from bulkhead_trio.database.events import new_id
from bulkhead_trio.database.pool import Pool
from bulkhead_trio.database.webhook_records import (
    SigningSecret,
    WebhookChanges,
    WebhookDraft,
    WebhookRecord,
)
from bulkhead_trio.errors import Conflict, NotFound

__all__ = ["MOST_SECRETS", "MOST_WAITING_TO_ORDER", "MOST_WEBHOOKS", "WebhookStore", "new_id"]

MOST_WEBHOOKS: Final = 100
"""Of a tenant: what one event is multiplied by at most, and a bound on what a claim passes over."""

MOST_SECRETS: Final = 5
"""Of an endpoint, those that sign along included: each is a signature in every request."""

MOST_WAITING_TO_ORDER: Final = 10_000
"""Deliveries that may wait for an endpoint when it becomes FIFO, for all of them are put into one
line in one transaction."""

_WEBHOOK: Final = (
    "w.id, w.tenant_id, w.url, w.event_types, w.description, w.fifo, w.active, w.disabled_reason, "
    "w.secrets, w.secrets_until, w.failing_since, w.slow_until, w.version, w.created_at, "
    "w.updated_at"
)

# The tenant's lock makes one tenant's endpoints count one after the other.
_LOCK_TENANT: Final = b"SELECT 1 FROM tenants WHERE id = %s FOR NO KEY UPDATE"
_COUNT: Final = b"SELECT count(*) FROM webhooks WHERE tenant_id = %s"

_INSERT: Final = f"""
INSERT INTO webhooks AS w
    (id, tenant_id, url, event_types, description, fifo, secrets, secrets_until)
VALUES (%s, %s, %s, %s::text[], %s, %s, ARRAY[%s::bytea], ARRAY[NULL::timestamptz])
RETURNING {_WEBHOOK}
""".encode()  # noqa: S608  constants of our own

_GET: Final = (
    f"SELECT {_WEBHOOK} FROM webhooks AS w WHERE w.id = %s AND w.tenant_id = %s".encode()  # noqa: S608
)
_LOCK: Final = _GET + b" FOR NO KEY UPDATE"

_UPDATE: Final = f"""
UPDATE webhooks AS w SET url = %(url)s, url_version = url_version + (url <> %(url)s)::integer,
    event_types = %(event_types)s::text[], description = %(description)s, fifo = %(fifo)s,
    active = %(active)s, enabled_at = CASE WHEN %(active)s AND NOT active THEN now()
                                           ELSE enabled_at END,
    disabled_reason = %(disabled_reason)s, failing_since = %(failing_since)s,
    slow_until = %(slow_until)s, version = version + 1, updated_at = now()
WHERE id = %(id)s RETURNING {_WEBHOOK}
""".encode()  # noqa: S608

_PARK: Final = b"SELECT bulkhead_trio_park_heads(1::smallint, ARRAY[%s::uuid], ARRAY[%s::uuid])"
_UNPARK: Final = b"SELECT bulkhead_trio_unpark_heads(1::smallint, %s)"
_WAKE: Final = b"SELECT bulkhead_trio_wake_heads(1::smallint, ARRAY[%s::uuid])"
_TELL: Final = b"SELECT pg_notify('bulkhead_trio_work', 'webhooks')"

_DELETE: Final = b"DELETE FROM webhooks WHERE id = %s AND tenant_id = %s"

_COUNT_WAITING: Final = b"""
SELECT count(*) FROM (
    SELECT FROM work WHERE kind = 1 AND queue_id = %s AND lease_owner IS NULL LIMIT %s
) AS waiting
"""

_PUT_IN_LINE: Final = b"SELECT bulkhead_trio_put_in_line(%s, %s)"
_PUT_OUT_OF_LINE: Final = b"SELECT bulkhead_trio_put_out_of_line(%s, %s)"

_ADD_SECRET: Final = f"""
UPDATE webhooks AS w SET
    secrets = ARRAY[%(sealed)s::bytea] || ARRAY(
        SELECT old.sealed FROM kept AS old ORDER BY old.place LIMIT %(most)s - 1),
    secrets_until = ARRAY[NULL::timestamptz] || ARRAY(
        SELECT least(old.until, now() + make_interval(secs => %(grace)s))
        FROM kept AS old ORDER BY old.place LIMIT %(most)s - 1),
    version = version + 1, updated_at = now()
WHERE w.id = %(id)s RETURNING {_WEBHOOK}
"""  # noqa: S608

_KEPT: Final = """
WITH kept AS MATERIALIZED (
    SELECT s.sealed, s.until, s.place FROM webhooks AS w,
        unnest(w.secrets, w.secrets_until) WITH ORDINALITY AS s (sealed, until, place)
    WHERE w.id = %(id)s AND %(grace)s > 0 AND (s.until IS NULL OR s.until > now())
)
"""


class WebhookStore:
    """Keeps endpoints.

    Every method raises `bulkhead_trio.errors.DatabaseUnavailable` when the database is away, and
    every change `bulkhead_trio.errors.CallerError` for a value that cannot be kept.

    Args:
        pool: whose connections it uses, in autocommit mode.
    """

    def __init__(self, pool: Pool[Connection]) -> None:
        self._pool = pool

    async def create(self, draft: WebhookDraft) -> WebhookRecord:
        """Make an endpoint.

        Raises:
            NotFound: there is no such tenant.
            Conflict: it has `MOST_WEBHOOKS` already, or there is an endpoint with this id.
        """
        parameters = (draft.id, draft.tenant_id, draft.url, list(draft.event_types),
                      draft.description, draft.fifo, draft.sealed_secret)  # fmt: skip
        async with self._changing() as connection:
            if await _one(connection, _LOCK_TENANT, (draft.tenant_id,)) is None:
                raise NotFound("There is no tenant with this id.")
            (count,) = await _one(connection, _COUNT, (draft.tenant_id,))
            if count >= MOST_WEBHOOKS:
                raise Conflict(f"A tenant has at most {MOST_WEBHOOKS} webhooks.")
            try:
                row = await _one(connection, _INSERT, parameters)
            except psycopg.errors.UniqueViolation:
                raise Conflict("There is a webhook with this id.") from None
            return _webhook(row)

    async def get(self, tenant_id: UUID, webhook_id: UUID) -> WebhookRecord:
        """A tenant's endpoint of that id.

        Raises:
            NotFound: it has none.
        """
        async with asking(self._pool) as connection:
            row = await _one(connection, _GET, (webhook_id, tenant_id))
        if row is None:
            raise _no_webhook()
        return _webhook(row)

    async def page(
        self, tenant_id: UUID, *, limit: int, cursor: Cursor | None = None
    ) -> Page[WebhookRecord]:
        """A tenant's endpoints, newest first.

        Args:
            tenant_id: whose.
            limit: the most to answer with, 1 to 100.
            cursor: where an earlier page ended.

        Raises:
            CallerError: ``cursor`` is of another list.
            ValueError: ``limit`` is out of range.
        """
        check_limit(limit)
        statement = page_statement(
            f"SELECT {_WEBHOOK} FROM webhooks AS w",  # noqa: S608
            alias="w",
            continues=cursor is not None,
            newest_first=True,
            condition="w.tenant_id = %s",
        )
        place = () if cursor is None else (moment_of(cursor), uuid_in(cursor))
        async with asking(self._pool) as connection:
            found = await connection.execute(statement, (tenant_id, *place, limit + 1))
            records = [_webhook(row) for row in await found.fetchall()]
        items = records[:limit]
        more = len(records) > limit
        return Page(items, place_of(items[-1].created_at, str(items[-1].id)) if more else None)

    async def update(
        self,
        tenant_id: UUID,
        webhook_id: UUID,
        changes: WebhookChanges,
        expected_version: int | None = None,
    ) -> WebhookRecord:
        """Change an endpoint; as it is afterwards.

        Switching it off holds back what waits and what comes; switching it on lets all of that go
        out, however it was switched off. What was held against another URL is forgotten with it,
        and nothing that comes of tries at that one counts any more. What waits at the end of a FIFO
        line goes out at once when that is none any more; what failed, at its time.

        Args:
            tenant_id: whose.
            webhook_id: which.
            changes: what of it.
            expected_version: the one that the change was made for; ``None``: whichever it is.

        Raises:
            NotFound: the tenant has none of that id.
            Conflict: it has another version by now; or it is to be FIFO while more than
                `MOST_WAITING_TO_ORDER` deliveries wait for it.
        """
        async with self._changing() as connection:
            before = await _locked(connection, tenant_id, webhook_id)
            if expected_version is not None and before.version != expected_version:
                raise Conflict("The webhook has been changed meanwhile.")
            fields = {name: getattr(changes, name) for name in changes.__struct_fields__}
            wanted = msgspec.structs.replace(
                before, **{name: value for name, value in fields.items() if value is not UNSET}
            )
            if wanted.url != before.url:
                wanted = msgspec.structs.replace(wanted, failing_since=None, slow_until=None)
            if changes.active is not UNSET:
                wanted = _switched(wanted, is_new=wanted.active and not before.active)
            row = await _one(connection, _UPDATE, _values(wanted))
            await _move(connection, before, wanted)
            return _webhook(row)

    async def delete(
        self, tenant_id: UUID, webhook_id: UUID, expected_version: int | None = None
    ) -> None:
        """Delete an endpoint.

        What waits for it is not sent any more, and is ended as dead bit by bit, by
        `bulkhead_trio.database.pruning`. What has been made stays in the history.

        Args:
            tenant_id: whose.
            webhook_id: which.
            expected_version: the one that is meant; ``None``: whichever it is.

        Raises:
            NotFound: the tenant has none of that id.
            Conflict: it has another version by now.
        """
        async with self._changing() as connection:
            if expected_version is not None:
                before = await _locked(connection, tenant_id, webhook_id)
                if before.version != expected_version:
                    raise Conflict("The webhook has been changed meanwhile.")
            deleted = await connection.execute(_DELETE, (webhook_id, tenant_id))
            if not deleted.rowcount:
                raise _no_webhook()

    async def add_secret(
        self, tenant_id: UUID, webhook_id: UUID, sealed: bytes, grace_seconds: float
    ) -> WebhookRecord:
        """Give an endpoint a new secret; those before sign along for ``grace_seconds`` at most.

        None of them does so for longer than it would have; of all together `MOST_SECRETS` stay, and
        the new one alone where ``grace_seconds`` is 0.

        Raises:
            NotFound: the tenant has none of that id.
        """
        parameters = {"id": webhook_id, "sealed": sealed, "grace": grace_seconds,
                      "most": MOST_SECRETS}  # fmt: skip
        async with self._changing() as connection:
            await _locked(connection, tenant_id, webhook_id)
            return _webhook(await _one(connection, (_KEPT + _ADD_SECRET).encode(), parameters))

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[Connection]:
        async with asking(self._pool) as connection, connection.transaction():
            yield connection


async def _one(connection: Connection, statement: bytes, parameters: Any) -> Any:
    found = await connection.execute(statement, parameters)
    return await found.fetchone()


async def _locked(connection: Connection, tenant_id: UUID, webhook_id: UUID) -> WebhookRecord:
    """The endpoint as it is and will be until the transaction ends."""
    row = await _one(connection, _LOCK, (webhook_id, tenant_id))
    if row is None:
        raise _no_webhook()
    return _webhook(row)


def _switched(webhook: WebhookRecord, *, is_new: bool) -> WebhookRecord:
    """What its owner's word means for why it is off, and for what it is accused of."""
    if not webhook.active:
        return webhook
    wanted = msgspec.structs.replace(webhook, disabled_reason=None)
    if is_new:
        wanted = msgspec.structs.replace(wanted, failing_since=None, slow_until=None)
    return wanted


def _values(webhook: WebhookRecord) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "url": webhook.url,
        "event_types": list(webhook.event_types),
        "description": webhook.description,
        "fifo": webhook.fifo,
        "active": webhook.active,
        "disabled_reason": webhook.disabled_reason,
        "failing_since": webhook.failing_since,
        "slow_until": webhook.slow_until,
    }


async def _move(connection: Connection, before: WebhookRecord, webhook: WebhookRecord) -> None:
    """What a change means for what waits: work is put in its place first, then heads are."""
    if webhook.fifo and not before.fifo:
        await _put_in_line(connection, webhook)
    elif before.fifo and not webhook.fifo:
        await connection.execute(_PUT_OUT_OF_LINE, (webhook.id, webhook.tenant_id))
    if webhook.active != before.active:
        await _park(connection, webhook)
    elif webhook.url != before.url:
        await connection.execute(_WAKE, (webhook.id,))
    if (webhook.active, webhook.fifo, webhook.url) != (before.active, before.fifo, before.url):
        await connection.execute(_TELL)


async def _park(connection: Connection, webhook: WebhookRecord) -> None:
    if webhook.active:
        await connection.execute(_UNPARK, (webhook.id,))
    else:
        await connection.execute(_PARK, (webhook.id, webhook.tenant_id))


async def _put_in_line(connection: Connection, webhook: WebhookRecord) -> None:
    (waiting,) = await _one(connection, _COUNT_WAITING, (webhook.id, MOST_WAITING_TO_ORDER + 1))
    if waiting > MOST_WAITING_TO_ORDER:
        raise Conflict(
            f"More than {MOST_WAITING_TO_ORDER} deliveries wait for the webhook; it cannot become "
            "FIFO before there are fewer."
        )
    await connection.execute(_PUT_IN_LINE, (webhook.id, webhook.tenant_id))


def _webhook(row: tuple[Any, ...]) -> WebhookRecord:
    (id_, tenant_id, url, event_types, description, fifo, active, reason, sealed, until,
     *rest) = row  # fmt: skip
    return WebhookRecord(
        id_,
        tenant_id,
        url,
        tuple(event_types),
        description,
        fifo,
        active,
        reason,
        tuple(map(SigningSecret, sealed, until)),
        *rest,
    )


def _no_webhook() -> NotFound:
    return NotFound("There is no webhook with this id.")
