"""The audit: who changed what of tenants, keys and routes, and how it was before and after.

A row is written in the transaction of the change that it tells of: there is never one without the
other. What it says of keys is everything but their digests, and a route's secrets are masked.
"""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from bulkhead_trio.database._asking import asking, place_of
from bulkhead_trio.database._cursor_rules import Cursor, Page, check_limit, is_uuid, number_in
from bulkhead_trio.database.connection import Connection
from bulkhead_trio.database.pool import Pool
from bulkhead_trio.errors import NotFound

_INSERT: Final = """
INSERT INTO admin_audit (who, request_id, action, subject_id, tenant_id, before, after)
VALUES (%s, %s, %s, %s, %s, %s::json, %s::json)
"""

_PAGE: Final = """
SELECT id, at, who, request_id, action, subject_id, tenant_id::text, before, after
FROM admin_audit
WHERE (%(tenant)s::uuid IS NULL OR tenant_id = %(tenant)s::uuid)
  AND (%(before)s::bigint IS NULL OR id < %(before)s::bigint)
ORDER BY id DESC LIMIT %(limit)s
"""


class Author(msgspec.Struct, frozen=True):
    """On whose behalf something is changed: what every change is given for its audit row.

    Attributes:
        who: the administrator or the program, as an operator knows it.
        request_id: of the request that asked for it, if it was one.
    """

    who: str
    request_id: str | None = None


class AuditRecord(msgspec.Struct, frozen=True):
    """One change.

    Attributes:
        id: higher ones are of later changes.
        at: when its transaction began.
        action: such as ``tenant.update``.
        subject_id: of the tenant, the key or the route.
        tenant_id: whose it is.
        before: the record as it was, secrets masked; ``None`` where it was made.
        after: the record as it is since; ``None`` where it was deleted.
    """

    id: int
    at: datetime.datetime
    who: str
    request_id: str | None
    action: str
    subject_id: str
    tenant_id: str
    before: Any
    after: Any


class AuditStore:
    """Reads the audit.

    Args:
        pool: whose connections it uses, in autocommit mode.
    """

    def __init__(self, pool: Pool[Connection]) -> None:
        self._pool = pool

    async def page(
        self, *, limit: int, cursor: Cursor | None = None, tenant_id: str | None = None
    ) -> Page[AuditRecord]:
        """Changes, newest first.

        Args:
            limit: the most to answer with, 1 to 100.
            cursor: where an earlier page ended.
            tenant_id: only those of this tenant.

        Raises:
            DatabaseUnavailable: the database is away.
            CallerError: ``cursor`` is of another list.
            NotFound: ``tenant_id`` cannot be a tenant's.
            ValueError: ``limit`` is out of range.
        """
        check_limit(limit)
        before = None if cursor is None else number_in(cursor)
        if tenant_id is not None and not is_uuid(tenant_id):
            raise NotFound("There is no tenant with this id.")
        parameters = {"tenant": tenant_id, "before": before, "limit": limit + 1}
        async with asking(self._pool) as connection:
            result = await connection.execute(_PAGE, parameters)
            records = [AuditRecord(*row) for row in await result.fetchall()]
        items = records[:limit]
        last = place_of(items[-1].at, str(items[-1].id)) if len(records) > limit else None
        return Page(items, last)


class Change:
    """One change under way: what it found, and what it has made of that.

    Attributes:
        connection: in a transaction.
    """

    def __init__(self, connection: Connection, author: Author) -> None:
        self.connection = connection
        self._author = author

    async def record(
        self, action: str, subject_id: str, tenant_id: str, *, before: Any, after: Any
    ) -> None:
        """Write the audit row.

        Args:
            action: such as ``tenant.update``.
            subject_id: of what is changed.
            tenant_id: whose it is.
            before: how it was; nothing secret.
            after: how it is now; nothing secret.
        """
        parameters = (
            self._author.who,
            self._author.request_id,
            action,
            subject_id,
            tenant_id,
            _json(before),
            _json(after),
        )
        await self.connection.execute(_INSERT, parameters)


@asynccontextmanager
async def changing(pool: Pool[Connection], author: Author) -> AsyncIterator[Change]:
    """A transaction for one change and its audit row.

    Raises:
        DatabaseUnavailable: the database is away, or refuses.
        CallerError: a value cannot be kept.
    """
    async with asking(pool) as connection, connection.transaction():
        yield Change(connection, author)


def _json(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
