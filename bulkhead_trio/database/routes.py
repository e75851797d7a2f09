"""Tenants' routes in PostgreSQL: each a JSON document, kept as it was sent.

What a document may say is the gateway's affair; here it is JSON. Every change is one transaction
together with its audit row, in which the document's secrets are masked.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import psycopg

from bulkhead_trio.database._asking import asking, moment_of, place_of
from bulkhead_trio.database._audit_rules import masked
from bulkhead_trio.database._cursor_rules import Cursor, Page, check_limit, is_uuid, uuid_in
from bulkhead_trio.database._keyset_rules import page_statement
from bulkhead_trio.database.audit import Author, Change, changing
from bulkhead_trio.database.connection import Connection
from bulkhead_trio.database.pool import Pool
from bulkhead_trio.errors import AlreadyThere, CallerError, Conflict, NotFound

_ROUTE: Final = "r.id::text, r.tenant_id::text, r.spec::text, r.version, r.created_at, r.updated_at"

_INSERT: Final = f"""
INSERT INTO routes AS r (id, tenant_id, spec)
VALUES (coalesce(%s::uuid, gen_random_uuid()), %s, %s::json)
ON CONFLICT (id) DO NOTHING RETURNING {_ROUTE}
"""  # noqa: S608  constants of our own

_GET: Final = f"SELECT {_ROUTE} FROM routes AS r WHERE r.id = %s"  # noqa: S608
_LOCK: Final = _GET + " FOR UPDATE"

_UPDATE: Final = f"""
UPDATE routes AS r SET spec = %s::json, version = version + 1, updated_at = now()
WHERE id = %s RETURNING {_ROUTE}
"""  # noqa: S608

_LOCK_TENANT: Final = "SELECT 1 FROM tenants WHERE id = %s FOR NO KEY UPDATE"
_LOCK_TENANT_OF: Final = """
SELECT 1 FROM tenants WHERE id = (SELECT tenant_id FROM routes WHERE id = %s) FOR NO KEY UPDATE
"""

_WITH_WORDS: Final = """
SELECT r.id::text, r.spec::text FROM routes AS r
WHERE r.tenant_id = %s AND r.id IS DISTINCT FROM %s::uuid AND NOT EXISTS (
    SELECT FROM unnest(%s::text[]) AS word WHERE position(word in r.spec::text) = 0
)
ORDER BY r.created_at, r.id
"""

_ALL: Final = f"SELECT {_ROUTE} FROM routes AS r ORDER BY r.tenant_id, r.created_at, r.id"  # noqa: S608

_ALL_OF: Final = f"""
SELECT {_ROUTE} FROM routes AS r WHERE r.tenant_id = %s ORDER BY r.created_at, r.id
"""  # noqa: S608


class RouteRecord(msgspec.Struct, frozen=True):
    """A route as it is kept.

    Attributes:
        id: a UUID.
        spec: the document in JSON, as it was saved.
        version: 1 at first, and one more with each change.
    """

    id: str
    tenant_id: str
    spec: bytes
    version: int
    created_at: datetime.datetime
    updated_at: datetime.datetime

    def __repr__(self) -> str:
        # The document may have secrets in it: headers to set, passwords in URLs.
        return f"RouteRecord(id={self.id!r}, tenant_id={self.tenant_id!r}, version={self.version})"


class RouteDraft(msgspec.Struct, frozen=True):
    """A route to be made.

    Attributes:
        spec: the document in JSON.
        id: a UUID; ``None``: a new one.
    """

    tenant_id: str
    spec: bytes
    id: str | None = None


class RouteStore:
    """Keeps routes.

    Every method raises `bulkhead_trio.errors.DatabaseUnavailable` when the database is away, and
    every change `bulkhead_trio.errors.CallerError` for a document that cannot be kept.

    Args:
        pool: whose connections it uses, in autocommit mode.
    """

    def __init__(self, pool: Pool[Connection]) -> None:
        self._pool = pool

    async def create(
        self, draft: RouteDraft, author: Author, *, unlike: Sequence[str] = ()
    ) -> RouteRecord:
        """Make a route.

        Args:
            draft: what it is.
            author: on whose behalf.
            unlike: members of the document that no other of the tenant's routes may have all alike;
                none of them: whatever they have.

        Raises:
            NotFound: there is no such tenant.
            AlreadyThere: another route has them alike.
            Conflict: there is a route with this id.
            CallerError: the draft's id is no UUID.
        """
        if not is_uuid(draft.tenant_id):
            raise _no_tenant()
        if draft.id is not None and not is_uuid(draft.id):
            raise CallerError("A route's id must be a UUID.")
        parameters = (draft.id, draft.tenant_id, draft.spec.decode())
        async with changing(self._pool, author) as change:
            if unlike:
                await _one(change.connection, _LOCK_TENANT, (draft.tenant_id,))
                await _refuse_alike(change, draft.tenant_id, None, draft.spec, unlike)
            try:
                row = await _one(change.connection, _INSERT, parameters)
            except psycopg.errors.ForeignKeyViolation:
                raise _no_tenant() from None
            if row is None:
                raise Conflict("There is a route with this id.")
            route = _route(row)
            await change.record(
                "route.create", route.id, route.tenant_id, before=None, after=_told(route)
            )
        return route

    async def get(self, route_id: str) -> RouteRecord:
        """The route of that id.

        Raises:
            NotFound: there is none.
        """
        if not is_uuid(route_id):
            raise _no_route()
        async with asking(self._pool) as connection:
            row = await _one(connection, _GET, (route_id,))
        if row is None:
            raise _no_route()
        return _route(row)

    async def page(
        self,
        tenant_id: str,
        *,
        limit: int,
        cursor: Cursor | None = None,
        newest_first: bool = True,
    ) -> Page[RouteRecord]:
        """A tenant's routes in the order in which they were made.

        Args:
            tenant_id: whose.
            limit: the most to answer with, 1 to 100.
            cursor: where an earlier page, of the same order, ended.
            newest_first: otherwise oldest first.

        Raises:
            NotFound: there is no such tenant.
            CallerError: ``cursor`` is of another list.
            ValueError: ``limit`` is out of range.
        """
        check_limit(limit)
        statement = page_statement(
            f"SELECT {_ROUTE} FROM routes AS r",  # noqa: S608
            alias="r",
            continues=cursor is not None,
            newest_first=newest_first,
            condition="r.tenant_id = %s",
        )
        if not is_uuid(tenant_id):
            raise _no_tenant()
        place = () if cursor is None else (moment_of(cursor), uuid_in(cursor))
        async with asking(self._pool) as connection:
            found = await connection.execute(statement, (tenant_id, *place, limit + 1))
            records = [_route(row) for row in await found.fetchall()]
            if not records:
                await _check_tenant(connection, tenant_id)
        items = records[:limit]
        more = len(records) > limit
        return Page(items, place_of(items[-1].created_at, items[-1].id) if more else None)

    async def update(
        self,
        route_id: str,
        spec: bytes,
        expected_version: int | None,
        author: Author,
        *,
        unlike: Sequence[str] = (),
    ) -> RouteRecord:
        """Put another document in a route's place; as it is afterwards.

        Args:
            route_id: which.
            spec: the whole new document, in JSON.
            expected_version: the one that the change was made for; ``None``: whichever it is.
            author: on whose behalf.
            unlike: as for `create`.

        Raises:
            NotFound: there is none of that id.
            AlreadyThere: another route has those members alike.
            Conflict: it has another version by now.
        """
        async with changing(self._pool, author) as change:
            if unlike and is_uuid(route_id):
                # Before the route: who deletes the tenant locks both in this order.
                await _one(change.connection, _LOCK_TENANT_OF, (route_id,))
            before = await _locked(change, route_id, expected_version)
            if unlike:
                await _refuse_alike(change, before.tenant_id, route_id, spec, unlike)
            row = await _one(change.connection, _UPDATE, (spec.decode(), route_id))
            after = _route(row)
            await change.record(
                "route.update",
                route_id,
                before.tenant_id,
                before=_told(before),
                after=_told(after),
            )
        return after

    async def delete(self, route_id: str, expected_version: int | None, author: Author) -> None:
        """Delete a route; the audit keeps what it was.

        Raises:
            NotFound: there is none of that id.
            Conflict: it has another version than ``expected_version``, if that is given.
        """
        async with changing(self._pool, author) as change:
            before = await _locked(change, route_id, expected_version)
            await change.connection.execute("DELETE FROM routes WHERE id = %s", (route_id,))
            await change.record(
                "route.delete", route_id, before.tenant_id, before=_told(before), after=None
            )

    async def all_of(self, tenant_id: str) -> list[RouteRecord]:
        """A tenant's routes, oldest first; none where there is no such tenant."""
        if not is_uuid(tenant_id):
            return []
        async with asking(self._pool) as connection:
            found = await connection.execute(_ALL_OF.encode(), (tenant_id,))
            return [_route(row) for row in await found.fetchall()]

    async def all(self) -> list[RouteRecord]:
        """Everybody's routes, by tenant, oldest first."""
        async with asking(self._pool) as connection:
            found = await connection.execute(_ALL.encode())
            return [_route(row) for row in await found.fetchall()]


async def _one(connection: Connection, statement: str, parameters: tuple[Any, ...]) -> Any:
    found = await connection.execute(statement.encode(), parameters)
    return await found.fetchone()


async def _check_tenant(connection: Connection, tenant_id: str) -> None:
    if await _one(connection, "SELECT 1 FROM tenants WHERE id = %s", (tenant_id,)) is None:
        raise _no_tenant()


async def _locked(change: Change, route_id: str, expected_version: int | None) -> RouteRecord:
    """The route as it is and will be until the transaction ends."""
    row = None
    if is_uuid(route_id):
        row = await _one(change.connection, _LOCK, (route_id,))
    if row is None:
        raise _no_route()
    route = _route(row)
    if expected_version is not None and route.version != expected_version:
        raise Conflict("The route has been changed meanwhile.")
    return route


async def _refuse_alike(
    change: Change, tenant_id: str, route_id: str | None, spec: bytes, members: Sequence[str]
) -> None:
    """Refuse a document that has members alike with another one of the tenant, which is locked."""
    wanted = _members(spec, members)
    # PostgreSQL's own operators read all of a document, and stop at an escaped NUL in any text.
    words = [msgspec.json.encode(each).decode() for each in wanted if isinstance(each, str)]
    found = await change.connection.execute(_WITH_WORDS.encode(), (tenant_id, route_id, words))
    for other_id, other in await found.fetchall():
        if _members(other.encode(), members) == wanted:
            raise AlreadyThere(f"The tenant's route {other_id} has the same {_listed(members)}.")


def _members(spec: bytes, names: Sequence[str]) -> list[Any]:
    document = msgspec.json.decode(spec)
    return [document.get(name) if isinstance(document, dict) else None for name in names]


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _route(row: tuple[Any, ...]) -> RouteRecord:
    id_, tenant_id, spec, *rest = row
    return RouteRecord(id_, tenant_id, spec.encode(), *rest)


def _told(route: RouteRecord) -> dict[str, Any]:
    """What the audit says of a route: not its secrets."""
    told: dict[str, Any] = msgspec.to_builtins(route)
    return {**told, "spec": masked(msgspec.json.decode(route.spec))}


def _no_tenant() -> NotFound:
    return NotFound("There is no tenant with this id.")


def _no_route() -> NotFound:
    return NotFound("There is no route with this id.")
