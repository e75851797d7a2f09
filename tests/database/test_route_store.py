"""Routes in a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from bulkhead_trio.database import PoolSettings, create_pool
from bulkhead_trio.database.audit import AuditStore, Author
from bulkhead_trio.database.routes import RouteDraft, RouteStore
from bulkhead_trio.database.tenants import TenantDraft, TenantStore
from bulkhead_trio.errors import AlreadyThere, CallerError, Conflict, NotFound

WHO = Author("admin", "request-1")
NOBODY = "00000000-0000-4000-8000-00000000000a"


@asynccontextmanager
async def opened(conninfo: str) -> AsyncIterator[tuple[RouteStore, AuditStore, str]]:
    """The stores, and a tenant."""
    pool = create_pool("admin", PoolSettings(conninfo))
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        tenant, _ = await TenantStore(pool).create(TenantDraft("Acme", "free"), None, WHO)
        yield RouteStore(pool), AuditStore(pool), tenant.id
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "spec",
    [
        b'{"path": "/a",  "b":1.50, "path":"/twice"}',
        '{"text": "ünï 😀 \\u0000 \\u2028"}'.encode(),
        b"[1e300, 12345678901234567890.50]",
    ],
)
async def test_route_document_is_kept_to_the_last_byte(database: str, spec: bytes) -> None:
    """Spaces, order, digits, escapes: what was saved is what is read."""
    async with opened(database) as (routes, _, tenant_id):
        route = await routes.create(RouteDraft(tenant_id, spec), WHO)
        assert (route.spec, route.tenant_id, route.version) == (spec, tenant_id, 1)
        assert await routes.get(route.id) == route
        assert await routes.all_of(tenant_id) == [route]
        assert await routes.all() == [route]


@pytest.mark.parametrize("spec", [b"", b"{", b"no json"])
async def test_route_document_that_is_no_json_is_refused(database: str, spec: bytes) -> None:
    """Whoever forgot to check it, it is not kept."""
    async with opened(database) as (routes, _, tenant_id):
        with pytest.raises(CallerError):
            await routes.create(RouteDraft(tenant_id, spec), WHO)
        assert await routes.all() == []


async def test_route_of_a_given_id(database: str) -> None:
    """It has that id; a second one, what is no UUID, and a tenant that is not there are refused."""
    async with opened(database) as (routes, _, tenant_id):
        route = await routes.create(RouteDraft(tenant_id, b"{}", id=NOBODY), WHO)
        assert route.id == NOBODY
        with pytest.raises(Conflict):
            await routes.create(RouteDraft(tenant_id, b"{}", id=NOBODY), WHO)
        with pytest.raises(CallerError):
            await routes.create(RouteDraft(tenant_id, b"{}", id="x"), WHO)
        with pytest.raises(NotFound):
            await routes.create(RouteDraft(NOBODY, b"{}"), WHO)


async def test_route_may_have_to_be_unlike_the_tenants_others(database: str) -> None:
    """In all of the members that are named, at once; those of other tenants are no matter."""
    unlike = ("path", "method")
    async with opened(database) as (routes, _, tenant_id), opened(database) as (_, _, other):
        document = b'{"path":"/a","method":["GET","PUT"],"body":"\\u0000"}'
        route = await routes.create(RouteDraft(tenant_id, document), WHO, unlike=unlike)
        await routes.create(RouteDraft(other, document), WHO, unlike=unlike)
        for same in (document, b'{"method": ["GET", "PUT"], "path": "/a", "more": 1}'):
            with pytest.raises(AlreadyThere, match=f"{route.id} has the same path and method"):
                await routes.create(RouteDraft(tenant_id, same), WHO, unlike=unlike)
        for differs in (b'{"path":"/a","method":["GET"]}', b'{"path":"/a"}', b'{"path":"/ab"}'):
            made = await routes.create(RouteDraft(tenant_id, differs), WHO, unlike=unlike)
            with pytest.raises(AlreadyThere):
                await routes.update(made.id, document, None, WHO, unlike=unlike)
        assert len(await routes.all_of(tenant_id)) == 4
        itself = await routes.update(route.id, document + b" ", None, WHO, unlike=unlike)
        assert itself.version == 2
        await routes.create(RouteDraft(tenant_id, document), WHO)  # nobody has asked


async def test_routes_that_are_made_at_the_same_time_are_unlike(database: str) -> None:
    """One of many is made; what has no tenant, or is not there, is told as ever."""
    async with opened(database) as (routes, _, tenant_id):
        outcomes: list[str] = []

        async def make() -> None:
            try:
                await routes.create(RouteDraft(tenant_id, b'{"path":"/a"}'), WHO, unlike=("path",))
                outcomes.append("made")
            except AlreadyThere:
                outcomes.append("refused")

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(make)
        assert sorted(outcomes) == ["made"] + ["refused"] * 7
        with pytest.raises(NotFound):
            await routes.create(RouteDraft(NOBODY, b"{}"), WHO, unlike=("path",))
        with pytest.raises(NotFound):
            await routes.update(NOBODY, b"{}", None, WHO, unlike=("path",))


async def test_route_is_changed_for_its_version_only(database: str) -> None:
    """A change or deletion for what is there no more changes nothing."""
    async with opened(database) as (routes, _, tenant_id):
        route = await routes.create(RouteDraft(tenant_id, b"1"), WHO)
        changed = await routes.update(route.id, b"2", 1, WHO)
        assert (changed.spec, changed.version) == (b"2", 2)
        assert changed.updated_at > route.updated_at
        with pytest.raises(Conflict):
            await routes.update(route.id, b"3", 1, WHO)
        with pytest.raises(Conflict):
            await routes.delete(route.id, 1, WHO)
        assert await routes.get(route.id) == changed
        await routes.delete(route.id, 2, WHO)
        with pytest.raises(NotFound):
            await routes.get(route.id)


@pytest.mark.parametrize("id_", [NOBODY, "x", ""])
async def test_route_that_is_not_there_is_not_found(database: str, id_: str) -> None:
    """Whatever the id looks like, and whatever is wanted of it."""
    async with opened(database) as (routes, _, _tenant):
        with pytest.raises(NotFound):
            await routes.get(id_)
        with pytest.raises(NotFound):
            await routes.update(id_, b"{}", None, WHO)
        with pytest.raises(NotFound):
            await routes.delete(id_, None, WHO)
        with pytest.raises(NotFound):
            await routes.page(id_, limit=10)
        assert await routes.all_of(id_) == []


async def test_routes_in_pages_are_those_of_the_tenant(database: str) -> None:
    """Newest first or oldest first, each once, nobody else's; none is a page as well."""
    async with opened(database) as (routes, _, tenant_id), opened(database) as (_, _, other):
        await routes.create(RouteDraft(other, b'"other"'), WHO)
        assert (await routes.page(tenant_id, limit=10)).items == []
        made = [await routes.create(RouteDraft(tenant_id, b"%d" % n), WHO) for n in range(5)]
        first = await routes.page(tenant_id, limit=3)
        assert first.next_cursor is not None
        rest = await routes.page(tenant_id, limit=3, cursor=first.next_cursor)
        assert [*first.items, *rest.items] == made[::-1]
        assert rest.next_cursor is None
        oldest = await routes.page(tenant_id, limit=5, newest_first=False)
        assert oldest.items == made
        assert len(await routes.all()) == 6


async def test_audit_of_a_route_has_no_secret(database: str) -> None:
    """Before and after, with what opens something masked."""
    spec = (
        b'{"upstreams":[{"url":"http://user:hush@example.com/a?token=hush&b=1"}],'
        b'"transform":{"request":{"headers":{"set":{"Authorization":"hush","X-Kind":"seen"}}}}}'
    )
    async with opened(database) as (routes, audit, tenant_id):
        route = await routes.create(RouteDraft(tenant_id, spec), WHO)
        await routes.update(route.id, b'{"path":"/b"}', None, WHO)
        await routes.delete(route.id, None, WHO)
        deleted, updated, made, _ = (await audit.page(limit=10, tenant_id=tenant_id)).items
        assert [each.action for each in (made, updated, deleted)] == [
            "route.create", "route.update", "route.delete",
        ]  # fmt: skip
        assert {each.subject_id for each in (made, updated, deleted)} == {route.id}
        assert "hush" not in repr((made, updated, deleted))
        assert "seen" in repr(made)
        assert updated.before == made.after
        assert updated.after["spec"] == {"path": "/b"}
        assert deleted.after is None
