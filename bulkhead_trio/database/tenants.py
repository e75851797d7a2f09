"""Tenants and their API keys in PostgreSQL.

Every change is one transaction together with its audit row, and tells all instances by the
triggers of the tables; `bulkhead_trio.database.changes` listens.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET

from bulkhead_trio.database._asking import asking, moment_of, place_of
from bulkhead_trio.database._cursor_rules import Cursor, Page, check_limit, is_uuid, uuid_in
from bulkhead_trio.database._keyset_rules import page_statement
from bulkhead_trio.database.audit import Author, Change, changing
from bulkhead_trio.database.connection import Connection
from bulkhead_trio.database.pool import Pool
from bulkhead_trio.database.tenant_records import (
    FoundKey,
    KeyRecord,
    NewKey,
    RateLimitRecord,
    TenantChanges,
    TenantDraft,
    TenantRecord,
)
from bulkhead_trio.errors import CallerError, Conflict, NotFound

__all__ = [
    "MOST_ACTIVE_KEYS",
    "FoundKey",
    "KeyRecord",
    "NewKey",
    "RateLimitRecord",
    "TenantChanges",
    "TenantDraft",
    "TenantRecord",
    "TenantStore",
]

MOST_ACTIVE_KEYS: Final = 100
"""Of one tenant: far more than any rotation has at once, and a bound on what lists can be."""

MOST_KEYS_LISTED: Final = 1000

_TENANT: Final = (
    "t.id::text, t.name, t.tier, t.active, t.rate_limit, t.rate_window, t.weight, t.version, "
    "t.created_at, t.updated_at"
)
_KEY: Final = "k.id, k.tenant_id::text, k.digest, k.created_at, k.last_used_at, k.revoked_at"

_INSERT: Final = f"""
INSERT INTO tenants AS t (id, name, tier, active, rate_limit, rate_window, weight)
VALUES (coalesce(%s::uuid, gen_random_uuid()), %s, %s, %s, %s, %s, %s)
ON CONFLICT (id) DO NOTHING RETURNING {_TENANT}
"""  # noqa: S608  constants of our own

_GET: Final = f"SELECT {_TENANT} FROM tenants AS t WHERE t.id = %s"  # noqa: S608
_LOCK: Final = _GET + " FOR NO KEY UPDATE"
_LOCK_TO_DELETE: Final = _GET + " FOR UPDATE"

_UPDATE: Final = f"""
UPDATE tenants AS t SET name = %s, tier = %s, active = %s, rate_limit = %s, rate_window = %s,
    weight = %s, version = version + 1, updated_at = now()
WHERE id = %s RETURNING {_TENANT}
"""  # noqa: S608

_INSERT_KEY: Final = f"""
INSERT INTO api_keys AS k (id, tenant_id, digest) VALUES (%s, %s, %s)
ON CONFLICT (id) DO NOTHING RETURNING {_KEY}
"""  # noqa: S608

_COUNT_KEYS: Final = "SELECT count(*) FROM api_keys WHERE tenant_id = %s AND revoked_at IS NULL"

_LOCK_KEY: Final = f"""
SELECT {_KEY} FROM api_keys AS k WHERE k.id = %s AND k.tenant_id = %s FOR NO KEY UPDATE
"""  # noqa: S608

_REVOKE: Final = f"""
UPDATE api_keys AS k SET revoked_at = now() WHERE id = %s RETURNING {_KEY}
"""  # noqa: S608

_KEYS_OF: Final = f"""
SELECT {_KEY} FROM api_keys AS k WHERE k.tenant_id = %s
ORDER BY k.revoked_at IS NOT NULL, k.created_at DESC, k.id LIMIT {MOST_KEYS_LISTED}
"""  # noqa: S608

_FIND_KEY: Final = f"""
SELECT {_KEY}, {_TENANT}, extract(epoch FROM clock_timestamp())::float8
FROM api_keys AS k JOIN tenants AS t ON t.id = k.tenant_id WHERE k.id = %s
"""  # noqa: S608

# Two instances may flush uses of the same keys at once. A row that somebody is changing is left
# out: waiting for it could be a deadlock, and the next use says it again.
_TOUCH: Final = """
WITH used AS (
    SELECT k.id, u.at FROM api_keys AS k
    JOIN unnest(%s::text[], %s::timestamptz[]) AS u (id, at) ON u.id = k.id
    WHERE k.last_used_at IS NULL OR k.last_used_at < u.at
    ORDER BY k.id FOR NO KEY UPDATE OF k SKIP LOCKED
)
UPDATE api_keys AS k SET last_used_at = used.at FROM used WHERE k.id = used.id
"""


class TenantStore:
    """Keeps tenants and their keys.

    Every method raises `bulkhead_trio.errors.DatabaseUnavailable` when the database is away, and
    every change `bulkhead_trio.errors.CallerError` for a value that cannot be kept.

    Args:
        pool: whose connections it uses, in autocommit mode.
    """

    def __init__(self, pool: Pool[Connection]) -> None:
        self._pool = pool

    async def create(
        self, draft: TenantDraft, key: NewKey | None, author: Author
    ) -> tuple[TenantRecord, KeyRecord | None]:
        """Make a tenant, with a first key if one is given; both or neither.

        Raises:
            Conflict: there is a tenant, or a key, with this id.
            CallerError: the draft's id is no UUID.
        """
        if draft.id is not None and not is_uuid(draft.id):
            raise CallerError("A tenant's id must be a UUID.")
        parameters = (draft.id, draft.name, draft.tier, draft.active, *_limit_of(draft.rate_limit),
                      draft.weight)  # fmt: skip
        async with changing(self._pool, author) as change:
            row = await _one(change.connection, _INSERT, parameters)
            if row is None:
                raise Conflict("There is a tenant with this id.")
            tenant = _tenant(row)
            await change.record(
                "tenant.create", tenant.id, tenant.id, before=None, after=_told(tenant)
            )
            return tenant, None if key is None else await _insert_key(change, tenant.id, key)

    async def get(self, tenant_id: str) -> TenantRecord:
        """The tenant of that id.

        Raises:
            NotFound: there is none.
        """
        if not is_uuid(tenant_id):
            raise _no_tenant()
        async with asking(self._pool) as connection:
            row = await _one(connection, _GET, (tenant_id,))
        if row is None:
            raise _no_tenant()
        return _tenant(row)

    async def page(
        self, *, limit: int, cursor: Cursor | None = None, newest_first: bool = True
    ) -> Page[TenantRecord]:
        """Tenants in the order in which they were made.

        Args:
            limit: the most to answer with, 1 to 100.
            cursor: where an earlier page, of the same order, ended.
            newest_first: otherwise oldest first.

        Raises:
            CallerError: ``cursor`` is of another list.
            ValueError: ``limit`` is out of range.
        """
        check_limit(limit)
        statement = page_statement(
            f"SELECT {_TENANT} FROM tenants AS t",  # noqa: S608
            alias="t",
            continues=cursor is not None,
            newest_first=newest_first,
        )
        place = () if cursor is None else (moment_of(cursor), uuid_in(cursor))
        async with asking(self._pool) as connection:
            found = await connection.execute(statement, (*place, limit + 1))
            records = [_tenant(row) for row in await found.fetchall()]
        items = records[:limit]
        more = len(records) > limit
        return Page(items, place_of(items[-1].created_at, items[-1].id) if more else None)

    async def update(
        self, tenant_id: str, changes: TenantChanges, expected_version: int | None, author: Author
    ) -> TenantRecord:
        """Change a tenant; as it is afterwards.

        Args:
            tenant_id: which.
            changes: what of it.
            expected_version: the one that the change was made for; ``None``: whichever it is.
            author: on whose behalf.

        Raises:
            NotFound: there is none of that id.
            Conflict: it has another version by now.
        """
        async with changing(self._pool, author) as change:
            before = await _locked(change, tenant_id, expected_version, _LOCK)
            fields = {name: getattr(changes, name) for name in changes.__struct_fields__}
            wanted = msgspec.structs.replace(
                before, **{name: value for name, value in fields.items() if value is not UNSET}
            )
            parameters = (wanted.name, wanted.tier, wanted.active, *_limit_of(wanted.rate_limit),
                          wanted.weight, tenant_id)  # fmt: skip
            row = await _one(change.connection, _UPDATE, parameters)
            after = _tenant(_present(row))
            await change.record(
                "tenant.update", tenant_id, tenant_id, before=_told(before), after=_told(after)
            )
        return after

    async def delete(self, tenant_id: str, expected_version: int | None, author: Author) -> None:
        """Delete a tenant with its keys and routes; the audit keeps what it was.

        Raises:
            NotFound: there is none of that id.
            Conflict: it has another version than ``expected_version``, if that is given.
        """
        async with changing(self._pool, author) as change:
            before = await _locked(change, tenant_id, expected_version, _LOCK_TO_DELETE)
            await change.connection.execute("DELETE FROM tenants WHERE id = %s", (tenant_id,))
            await change.record(
                "tenant.delete", tenant_id, tenant_id, before=_told(before), after=None
            )

    async def add_key(self, tenant_id: str, key: NewKey, author: Author) -> KeyRecord:
        """Give a tenant one more key; those it has stay good.

        Raises:
            NotFound: there is no such tenant.
            Conflict: it has `MOST_ACTIVE_KEYS` already, or there is a key with this id.
        """
        async with changing(self._pool, author) as change:
            await _locked(change, tenant_id, None, _LOCK)
            row = await _one(change.connection, _COUNT_KEYS, (tenant_id,))
            if _present(row)[0] >= MOST_ACTIVE_KEYS:
                raise Conflict(f"A tenant has at most {MOST_ACTIVE_KEYS} active keys.")
            return await _insert_key(change, tenant_id, key)

    async def revoke_key(self, tenant_id: str, key_id: str, author: Author) -> KeyRecord:
        """Make a key good for nothing from now on; what is revoked already stays as it is.

        Raises:
            NotFound: the tenant has no such key.
        """
        if not is_uuid(tenant_id):
            raise _no_key()
        async with changing(self._pool, author) as change:
            row = await _one(change.connection, _LOCK_KEY, (key_id, tenant_id))
            if row is None:
                raise _no_key()
            before = KeyRecord(*row)
            if before.revoked_at is not None:
                return before
            after = KeyRecord(*_present(await _one(change.connection, _REVOKE, (key_id,))))
            await change.record(
                "key.revoke", key_id, tenant_id, before=_told_key(before), after=_told_key(after)
            )
        return after

    async def keys_of(self, tenant_id: str) -> list[KeyRecord]:
        """A tenant's keys: the good ones first, then the revoked, each newest first.

        At most `MOST_KEYS_LISTED`.

        Raises:
            NotFound: there is no such tenant.
        """
        await self.get(tenant_id)
        async with asking(self._pool) as connection:
            found = await connection.execute(_KEYS_OF.encode(), (tenant_id,))
            return [KeyRecord(*row) for row in await found.fetchall()]

    async def find_key(self, key_id: str) -> FoundKey | None:
        """The key of that id, good or not, and its tenant, active or not; one query."""
        async with asking(self._pool) as connection:
            found = await connection.execute(_FIND_KEY.encode(), (key_id,), prepare=True)
            row = await found.fetchone()
        return None if row is None else FoundKey(KeyRecord(*row[:6]), _tenant(row[6:16]), row[16])

    async def touch_keys(self, used: Mapping[str, datetime.datetime]) -> None:
        """Record when keys were last used, in one statement; an older moment changes nothing."""
        if not used:
            return
        async with asking(self._pool) as connection:
            await connection.execute(_TOUCH, (list(used), list(used.values())))


async def _one(connection: Connection, statement: str, parameters: tuple[Any, ...]) -> Any:
    found = await connection.execute(statement.encode(), parameters)
    return await found.fetchone()


def _present(row: Any) -> Any:
    assert row is not None  # noqa: S101  it is locked by this transaction
    return row


async def _locked(
    change: Change, tenant_id: str, expected_version: int | None, statement: str
) -> TenantRecord:
    """The tenant as it is and will be until the transaction ends."""
    row = None
    if is_uuid(tenant_id):
        row = await _one(change.connection, statement, (tenant_id,))
    if row is None:
        raise _no_tenant()
    tenant = _tenant(row)
    if expected_version is not None and tenant.version != expected_version:
        raise Conflict("The tenant has been changed meanwhile.")
    return tenant


async def _insert_key(change: Change, tenant_id: str, key: NewKey) -> KeyRecord:
    row = await _one(change.connection, _INSERT_KEY, (key.id, tenant_id, key.digest))
    if row is None:
        raise Conflict("There is a key with this id.")
    record = KeyRecord(*row)
    await change.record("key.create", key.id, tenant_id, before=None, after=_told_key(record))
    return record


def _tenant(row: tuple[Any, ...]) -> TenantRecord:
    id_, name, tier, active, limit, window, *rest = row
    rate_limit = None if limit is None else RateLimitRecord(limit, window)
    return TenantRecord(id_, name, tier, active, rate_limit, *rest)


def _limit_of(record: RateLimitRecord | None) -> tuple[int | None, float | None]:
    return (None, None) if record is None else (record.limit, record.window_seconds)


def _told(tenant: TenantRecord) -> dict[str, Any]:
    """What the audit says of a tenant."""
    told: dict[str, Any] = msgspec.to_builtins(tenant)
    return told


def _told_key(key: KeyRecord) -> dict[str, Any]:
    """What the audit says of a key: not its digest."""
    told: dict[str, Any] = msgspec.to_builtins(key)
    return {**told, "digest": "***"}


def _no_tenant() -> NotFound:
    return NotFound("There is no tenant with this id.")


def _no_key() -> NotFound:
    return NotFound("This tenant has no key with this id.")
