"""``/admin/tenants``: tenants and their keys, for whoever has the admin key."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

from bulkhead_trio.api._documents import changed_document, read_object
from bulkhead_trio.api._paging import page_answer, page_asked
from bulkhead_trio.api._version_rules import Precondition, etag_of
from bulkhead_trio.api._wire import wire_time
from bulkhead_trio.api.admin import AdminDoor
from bulkhead_trio.api.messages import Request, Response, invalid_body
from bulkhead_trio.api.routes import Route
from bulkhead_trio.database.audit import Author
from bulkhead_trio.database.changes import Changed
from bulkhead_trio.database.tenants import KeyRecord, TenantRecord, TenantStore
from bulkhead_trio.errors import Conflict
from bulkhead_trio.tenancy.documents import changes_to, read_tenant, tenant_document
from bulkhead_trio.tenancy.keys import KeyMaker

PATCH_TRIES: Final = 32
"""How often a patch without a version begins again because somebody was quicker."""

READ_ONLY: Final = ("id", "createdAt", "updatedAt", "version", "keys")


class TenantsResource:
    """Makes, shows, changes and deletes tenants, and gives and takes their keys.

    Args:
        store: where they are kept.
        keys: makes new keys.
        door: who may come.
        tiers: the names that exist.
        changed: told of every change as soon as it is made, before the database tells everybody.
    """

    name = "tenants"

    def __init__(
        self,
        store: TenantStore,
        keys: KeyMaker,
        door: AdminDoor,
        *,
        tiers: Collection[str],
        changed: Callable[[Changed], None],
    ) -> None:
        self._store = store
        self._keys = keys
        self._door = door
        self._tiers = tuple(tiers)
        self._changed = changed

    def routes(self) -> tuple[Route, ...]:
        """All seven."""
        around = self._door.around
        one, keys = "/admin/tenants/{id}", "/admin/tenants/{id}/keys"
        return (
            Route("GET", "/admin/tenants", around(self.page), is_admin=True),
            Route("POST", "/admin/tenants", around(self.post), is_admin=True, reads_body=True),
            Route("GET", one, around(self.get), is_admin=True),
            Route("PATCH", one, around(self.patch), is_admin=True, reads_body=True),
            Route("DELETE", one, around(self.delete), is_admin=True),
            Route("POST", keys, around(self.post_key), is_admin=True, reads_body=True),
            Route("DELETE", f"{keys}/{{keyId}}", around(self.delete_key), is_admin=True),
        )

    async def page(self, request: Request, author: Author) -> Response:  # noqa: ARG002
        """Some of the tenants, newest first."""
        asked = page_asked(request)
        page = await self._store.page(limit=asked.limit, cursor=asked.cursor)
        return page_answer(page, wire_tenant)

    async def post(self, request: Request, author: Author) -> Response:
        """A new tenant with its first key, which is told here and never again."""
        draft = read_tenant(read_object(request), tiers=self._tiers)
        key = self._keys.make()
        tenant, _ = await self._store.create(draft, key.record, author)
        self._changed(Changed("tenant", tenant.id))
        made = Response.json({**wire_tenant(tenant), "apiKey": key.text}, status=201)
        return made.with_headers((*_etag(tenant), _location(f"/admin/tenants/{tenant.id}")))

    async def get(self, request: Request, author: Author) -> Response:  # noqa: ARG002
        """One tenant, and what may be known of its keys."""
        tenant = await self._store.get(_id(request))
        keys = [wire_key(key) for key in await self._store.keys_of(tenant.id)]
        return Response.json({**wire_tenant(tenant), "keys": keys}).with_headers(_etag(tenant))

    async def patch(self, request: Request, author: Author) -> Response:
        """Change what a JSON merge patch (RFC 7396) says."""
        patch = read_object(request, is_patch=True)
        precondition = Precondition.of(request.headers.get("if-match"))
        for _ in range(PATCH_TRIES):
            before = await self._store.get(_id(request))
            expected = precondition.expected(before.version)
            try:
                after = await self._apply(patch, before, author)
            except Conflict:
                if expected is not None:
                    raise
                continue  # without If-Match the last one wins, but nobody's change is lost
            return Response.json(wire_tenant(after)).with_headers(_etag(after))
        raise Conflict("The tenant is being changed by others all the time.")

    async def _apply(
        self, patch: dict[str, Any], before: TenantRecord, author: Author
    ) -> TenantRecord:
        current = wire_tenant(before)
        if "keys" in patch:
            # They are changed at a path of their own, and may be sent back as they were told.
            keys = [wire_key(key) for key in await self._store.keys_of(before.id)]
            current["keys"] = _without_use(keys)
            patch = {**patch, "keys": _without_use(patch["keys"])}
        document = changed_document(current, patch, read_only=READ_ONLY)
        draft = read_tenant(document, tiers=self._tiers)
        if tenant_document(draft) == tenant_document(before):
            return before
        after = await self._store.update(before.id, changes_to(draft), before.version, author)
        self._changed(Changed("tenant", after.id))
        return after

    async def delete(self, request: Request, author: Author) -> Response:
        """Delete a tenant with its keys and routes."""
        tenant_id = _id(request)
        precondition = Precondition.of(request.headers.get("if-match"))
        expected = None
        if precondition.versions is not None:
            expected = precondition.expected((await self._store.get(tenant_id)).version)
        await self._store.delete(tenant_id, expected, author)
        self._changed(Changed("tenant", tenant_id))
        self._changed(Changed("route", tenant_id))
        return Response(204, b"")

    async def post_key(self, request: Request, author: Author) -> Response:
        """One more key, which is told here and never again; the others stay good."""
        if request.body and read_object(request):
            raise invalid_body("$", "must be empty, or an object without members")
        tenant_id, key = _id(request), self._keys.make()
        record = await self._store.add_key(tenant_id, key.record, author)
        self._changed(Changed("key", record.id))
        made = Response.json({**wire_key(record), "apiKey": key.text}, status=201)
        return made.with_headers([_location(f"/admin/tenants/{tenant_id}/keys/{record.id}")])

    async def delete_key(self, request: Request, author: Author) -> Response:
        """Revoke a key; again is no mistake."""
        key_id = request.path_values["keyId"]
        await self._store.revoke_key(_id(request), key_id, author)
        self._changed(Changed("key", key_id))
        return Response(204, b"")


def wire_tenant(tenant: TenantRecord) -> dict[str, Any]:
    """A tenant in JSON."""
    return {
        "id": tenant.id,
        **tenant_document(tenant),
        "createdAt": wire_time(tenant.created_at),
        "updatedAt": wire_time(tenant.updated_at),
        "version": tenant.version,
    }


def wire_key(key: KeyRecord) -> dict[str, Any]:
    """What may be known of a key: neither its text, which is kept nowhere, nor its digest."""
    moments = {"lastUsedAt": key.last_used_at, "revokedAt": key.revoked_at}
    return {
        "id": key.id,
        "tenantId": key.tenant_id,
        "createdAt": wire_time(key.created_at),
        **{name: None if at is None else wire_time(at) for name, at in moments.items()},
    }


def _without_use(keys: object) -> object:
    """Keys as `wire_key` writes them, but for when they were last used, which goes on by itself."""
    if not isinstance(keys, list):
        return keys
    return [
        {name: value for name, value in key.items() if name != "lastUsedAt"}
        if isinstance(key, dict)
        else key
        for key in keys
    ]


def _id(request: Request) -> str:
    return request.path_values["id"]


def _etag(tenant: TenantRecord) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"etag", etag_of(tenant.version).encode("ascii")),)


def _location(path: str) -> tuple[bytes, bytes]:
    return (b"location", path.encode("ascii"))
