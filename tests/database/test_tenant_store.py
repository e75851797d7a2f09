"""Tenants, keys and the audit in a real PostgreSQL."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import msgspec
import psycopg
import pytest
import trio

from bulkhead_trio.database import PoolSettings, create_pool
from bulkhead_trio.database._cursor_rules import Cursor, decode_cursor, encode_cursor
from bulkhead_trio.database.audit import AuditStore, Author
from bulkhead_trio.database.routes import RouteDraft, RouteStore
from bulkhead_trio.database.tenants import (
    MOST_ACTIVE_KEYS,
    NewKey,
    RateLimitRecord,
    TenantChanges,
    TenantDraft,
    TenantRecord,
    TenantStore,
)
from bulkhead_trio.errors import CallerError, Conflict, DatabaseUnavailable, NotFound
from bulkhead_trio.testing import CancellationPoint, sweep_cancellations

WHO = Author("admin", "request-1")
NOBODY = "00000000-0000-4000-8000-00000000000a"


@attrs.frozen
class Stores:
    tenants: TenantStore
    routes: RouteStore
    audit: AuditStore


@asynccontextmanager
async def opened(conninfo: str) -> AsyncIterator[Stores]:
    pool = create_pool("admin", PoolSettings(conninfo))
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        yield Stores(TenantStore(pool), RouteStore(pool), AuditStore(pool))
        nursery.cancel_scope.cancel()


def new_key(number: int = 1) -> NewKey:
    return NewKey(f"key{number}", bytes([number]) * 32)


async def made(stores: Stores, name: str = "Acme", **others: object) -> TenantRecord:
    draft = msgspec.convert({"name": name, "tier": "free", **others}, TenantDraft)
    tenant, _ = await stores.tenants.create(draft, None, WHO)
    return tenant


async def actions(stores: Stores) -> list[str]:
    page = await stores.audit.page(limit=100)
    return [record.action for record in reversed(page.items)]


async def test_tenant_is_kept_as_it_was_made(database: str) -> None:
    """All of it, with its first key, and found again by either."""
    limit = RateLimitRecord(100, 1.5)
    draft = TenantDraft("Ünï 'q\" 😀", "pro", active=False, rate_limit=limit, weight=7)
    async with opened(database) as stores:
        tenant, key = await stores.tenants.create(draft, new_key(), WHO)
        assert (tenant.name, tenant.tier, tenant.active) == (draft.name, "pro", False)
        assert (tenant.rate_limit, tenant.weight, tenant.version) == (limit, 7, 1)
        assert tenant.created_at == tenant.updated_at
        assert tenant.created_at.utcoffset() == datetime.timedelta(0)
        assert await stores.tenants.get(tenant.id) == tenant
        assert key is not None
        assert (key.id, key.tenant_id, key.digest) == ("key1", tenant.id, b"\1" * 32)
        assert (key.last_used_at, key.revoked_at) == (None, None)
        assert await stores.tenants.keys_of(tenant.id) == [key]
        found = await stores.tenants.find_key("key1")
        assert found is not None
        assert (found.key, found.tenant) == (key, tenant)
        now = datetime.datetime.now(datetime.UTC).timestamp()
        assert found.read_at == pytest.approx(now, abs=60)
        assert await stores.tenants.find_key("another") is None


async def test_tenant_of_a_given_id(database: str) -> None:
    """It has that id; a second one, and what is no UUID, are refused."""
    async with opened(database) as stores:
        assert (await made(stores, id=NOBODY)).id == NOBODY
        with pytest.raises(Conflict):
            await made(stores, id=NOBODY)
        with pytest.raises(CallerError):
            await made(stores, id="x")
        assert await actions(stores) == ["tenant.create"]


async def test_tenant_with_a_key_that_is_taken_is_not_made(database: str) -> None:
    """Both or neither, and no audit row either."""
    async with opened(database) as stores:
        await stores.tenants.create(TenantDraft("a", "free"), new_key(), WHO)
        with pytest.raises(Conflict):
            await stores.tenants.create(TenantDraft("b", "free"), new_key(), WHO)
        page = await stores.tenants.page(limit=100)
        assert [tenant.name for tenant in page.items] == ["a"]
        assert await actions(stores) == ["tenant.create", "key.create"]


@pytest.mark.parametrize("id_", [NOBODY, "x", "", NOBODY.upper() + " ", "'; --"])
async def test_tenant_that_is_not_there_is_not_found(module_database: str, id_: str) -> None:
    """Whatever the id looks like, and whatever is wanted of it."""
    async with opened(module_database) as stores:
        with pytest.raises(NotFound):
            await stores.tenants.get(id_)
        with pytest.raises(NotFound):
            await stores.tenants.update(id_, TenantChanges(name="x"), None, WHO)
        with pytest.raises(NotFound):
            await stores.tenants.delete(id_, None, WHO)
        with pytest.raises(NotFound):
            await stores.tenants.add_key(id_, new_key(), WHO)
        with pytest.raises(NotFound):
            await stores.tenants.revoke_key(id_, "key1", WHO)
        with pytest.raises(NotFound):
            await stores.tenants.keys_of(id_)
        with pytest.raises(NotFound):
            await stores.routes.create(RouteDraft(id_, b"{}"), WHO)
        assert await actions(stores) == []


async def test_tenant_is_changed_in_what_is_said_only(database: str) -> None:
    """A limit can be taken away; what is not said stays; the version counts."""
    async with opened(database) as stores:
        tenant = await made(stores, rate_limit={"limit": 5, "window_seconds": 1})
        changed = await stores.tenants.update(tenant.id, TenantChanges(name="New"), 1, WHO)
        assert (changed.name, changed.version) == ("New", 2)
        assert changed.rate_limit == RateLimitRecord(5, 1.0)
        assert changed.updated_at > tenant.updated_at
        assert changed.created_at == tenant.created_at
        changes = TenantChanges(rate_limit=None, active=False, tier="pro", weight=3)
        changed = await stores.tenants.update(tenant.id, changes, None, WHO)
        assert (changed.rate_limit, changed.active, changed.tier) == (None, False, "pro")
        assert (changed.weight, changed.version) == (3, 3)
        assert await stores.tenants.get(tenant.id) == changed


async def test_tenant_of_another_version_is_in_conflict(database: str) -> None:
    """A change that was made for what is there no more changes nothing."""
    async with opened(database) as stores:
        tenant = await made(stores)
        await stores.tenants.update(tenant.id, TenantChanges(name="b"), 1, WHO)
        with pytest.raises(Conflict):
            await stores.tenants.update(tenant.id, TenantChanges(name="c"), 1, WHO)
        with pytest.raises(Conflict):
            await stores.tenants.delete(tenant.id, 1, WHO)
        assert (await stores.tenants.get(tenant.id)).name == "b"
        assert await actions(stores) == ["tenant.create", "tenant.update"]


async def test_tenant_changed_by_many_at_once_is_changed_once(database: str) -> None:
    """Of those who saw the same version, one is right."""
    outcomes: list[str] = []
    async with opened(database) as stores:
        tenant = await made(stores)

        async def change(number: int) -> None:
            try:
                changes = TenantChanges(name=f"n{number}")
                await stores.tenants.update(tenant.id, changes, 1, WHO)
                outcomes.append("changed")
            except Conflict:
                outcomes.append("conflict")

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(change, number)
        assert outcomes.count("changed") == 1
        assert (await stores.tenants.get(tenant.id)).version == 2


async def test_tenant_deleted_takes_its_keys_and_routes_along(database: str) -> None:
    """The audit keeps what it was."""
    async with opened(database) as stores:
        tenant, _ = await stores.tenants.create(TenantDraft("a", "free"), new_key(), WHO)
        await stores.routes.create(RouteDraft(tenant.id, b"{}"), WHO)
        await stores.tenants.delete(tenant.id, 1, WHO)
        with pytest.raises(NotFound):
            await stores.tenants.get(tenant.id)
        assert await stores.tenants.find_key("key1") is None
        assert await stores.routes.all() == []
        last = (await stores.audit.page(limit=1)).items[0]
        assert (last.action, last.after) == ("tenant.delete", None)
        assert last.before["name"] == "a"


async def test_tenants_value_that_cannot_be_kept_is_the_callers_mistake(database: str) -> None:
    """NUL, nothing, less than nothing: said so, and nothing is changed."""
    async with opened(database) as stores:
        tenant = await made(stores)
        for changes in (
            TenantChanges(name="a\0b"),
            TenantChanges(name=""),
            TenantChanges(weight=0),
            TenantChanges(weight=2**40),
            TenantChanges(rate_limit=RateLimitRecord(0, 1.0)),
            TenantChanges(rate_limit=RateLimitRecord(1, float("inf"))),
        ):
            with pytest.raises(CallerError):
                await stores.tenants.update(tenant.id, changes, None, WHO)
        assert await stores.tenants.get(tenant.id) == tenant
        assert await actions(stores) == ["tenant.create"]


@pytest.mark.parametrize("newest_first", [True, False])
async def test_tenants_in_pages_are_each_shown_once(database: str, newest_first: bool) -> None:
    """In order, with those of one moment apart, and whatever is added meanwhile."""
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO tenants (name, tier, created_at)"
            " SELECT n, 'free', '2026-01-01'::timestamptz + n / 3 * interval '1 microsecond'"
            " FROM generate_series(1, 25) AS n"
        )
    async with opened(database) as stores:
        shown: list[TenantRecord] = []
        cursor: Cursor | None = None
        while True:
            page = await stores.tenants.page(limit=4, cursor=cursor, newest_first=newest_first)
            shown += page.items
            if page.next_cursor is None:
                break
            assert len(page.items) == 4
            cursor = decode_cursor(encode_cursor(page.next_cursor))
            if newest_first:
                await made(stores, "added")
        expected = sorted(shown, key=lambda each: (each.created_at, each.id), reverse=newest_first)
        assert shown == expected
        assert sorted(int(each.name) for each in shown) == list(range(1, 26))


async def test_tenants_page_that_ends_with_the_list_is_the_last(database: str) -> None:
    """No client is sent for a page with nothing on it."""
    async with opened(database) as stores:
        assert await stores.tenants.page(limit=1) == await stores.tenants.page(limit=100)
        await made(stores)
        await made(stores)
        assert (await stores.tenants.page(limit=2)).next_cursor is None
        assert (await stores.tenants.page(limit=1)).next_cursor is not None


async def test_tenants_pages_are_found_by_their_index(database: str) -> None:
    """From either end, however far into the list."""
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO tenants (name, tier, created_at)"
            " SELECT n, 'free', now() + n * interval '1 s' FROM generate_series(1, 20000) AS n"
        )
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE tenants")
        for sign, direction in (("<", "DESC"), (">", "ASC")):
            rows = connection.execute(
                "EXPLAIN SELECT * FROM tenants AS t"
                f" WHERE (t.created_at, t.id) {sign} (now() + interval '3 hours', '{NOBODY}'::uuid)"
                f" ORDER BY t.created_at {direction}, t.id {direction} LIMIT 51"
            ).fetchall()
            plan = "\n".join(row[0] for row in rows)
            assert "using tenants_page" in plan
            assert "Sort" not in plan


async def test_keys_several_are_good_at_once_until_revoked(database: str) -> None:
    """Rotation: add, use both, revoke the old one, once."""
    async with opened(database) as stores:
        tenant, old = await stores.tenants.create(TenantDraft("a", "free"), new_key(1), WHO)
        assert old is not None
        new = await stores.tenants.add_key(tenant.id, new_key(2), WHO)
        assert await stores.tenants.keys_of(tenant.id) == [new, old]
        revoked = await stores.tenants.revoke_key(tenant.id, old.id, WHO)
        assert revoked.revoked_at is not None
        assert await stores.tenants.revoke_key(tenant.id, old.id, WHO) == revoked
        assert await stores.tenants.keys_of(tenant.id) == [new, revoked]
        found = await stores.tenants.find_key(old.id)
        assert found is not None
        assert found.key == revoked
        assert await actions(stores) == ["tenant.create", "key.create", "key.create", "key.revoke"]


async def test_keys_of_another_tenant_cannot_be_revoked(database: str) -> None:
    """A key is found under its own tenant only."""
    async with opened(database) as stores:
        await stores.tenants.create(TenantDraft("a", "free"), new_key(1), WHO)
        other = await made(stores, "b")
        with pytest.raises(NotFound):
            await stores.tenants.revoke_key(other.id, "key1", WHO)
        found = await stores.tenants.find_key("key1")
        assert found is not None
        assert found.key.revoked_at is None


async def test_keys_of_a_tenant_are_not_without_bound(database: str) -> None:
    """Those that are good count; a revoked one makes room."""
    async with opened(database) as stores:
        tenant = await made(stores)
        with psycopg.connect(database) as connection:
            connection.execute(
                "INSERT INTO api_keys (id, tenant_id, digest)"
                " SELECT 'k' || n, %s, decode(repeat('00', 32), 'hex')"
                " FROM generate_series(1, %s) AS n",
                (tenant.id, MOST_ACTIVE_KEYS),
            )
        with pytest.raises(Conflict):
            await stores.tenants.add_key(tenant.id, new_key(), WHO)
        await stores.tenants.revoke_key(tenant.id, "k1", WHO)
        await stores.tenants.add_key(tenant.id, new_key(), WHO)


async def test_keys_last_use_only_moves_forward(database: str) -> None:
    """Instances say it in any order; unknown keys are no trouble, and nothing is audited."""
    noon = datetime.datetime(2026, 2, 11, 12, tzinfo=datetime.UTC)
    minute = datetime.timedelta(minutes=1)
    async with opened(database) as stores:
        tenant, _ = await stores.tenants.create(TenantDraft("a", "free"), new_key(1), WHO)
        await stores.tenants.add_key(tenant.id, new_key(2), WHO)
        await stores.tenants.touch_keys({})
        await stores.tenants.touch_keys({"key1": noon, "key2": noon, "gone": noon})
        await stores.tenants.touch_keys({"key1": noon - minute, "key2": noon + minute})
        used = {key.id: key.last_used_at for key in await stores.tenants.keys_of(tenant.id)}
        assert used == {"key1": noon, "key2": noon + minute}
        assert len(await actions(stores)) == 3


async def test_keys_last_use_waits_for_nobody(database: str) -> None:
    """A row that somebody is changing is left out."""
    noon = datetime.datetime(2026, 2, 11, 12, tzinfo=datetime.UTC)
    async with opened(database) as stores:
        await stores.tenants.create(TenantDraft("a", "free"), new_key(1), WHO)
        with psycopg.connect(database) as connection:
            connection.execute("SELECT 1 FROM api_keys FOR UPDATE")
            with trio.fail_after(5):
                await stores.tenants.touch_keys({"key1": noon})
        found = await stores.tenants.find_key("key1")
        assert found is not None
        assert found.key.last_used_at is None


async def test_audit_says_who_did_what_and_no_secret(database: str) -> None:
    """Before and after of each change, by whom and for which request; digests nowhere."""
    async with opened(database) as stores:
        tenant, _ = await stores.tenants.create(TenantDraft("a", "free"), new_key(7), WHO)
        await stores.tenants.update(tenant.id, TenantChanges(name="b"), None, Author("cli"))
        await stores.tenants.revoke_key(tenant.id, "key7", WHO)
        page = await stores.audit.page(limit=100, tenant_id=tenant.id)
        revoked, updated, key_made, tenant_made = page.items
        assert (tenant_made.who, tenant_made.request_id) == ("admin", "request-1")
        assert (updated.who, updated.request_id) == ("cli", None)
        assert (tenant_made.before, tenant_made.after["name"]) == (None, "a")
        assert (updated.before["name"], updated.after["name"]) == ("a", "b")
        assert (updated.before["version"], updated.after["version"]) == (1, 2)
        assert key_made.after["digest"] == "***"
        assert revoked.before["revoked_at"] is None
        assert revoked.after["revoked_at"] is not None
        assert {each.tenant_id for each in page.items} == {tenant.id}
        assert updated.at >= tenant_made.at
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT admin_audit::text FROM admin_audit").fetchall()
    assert "07" * 4 not in str(rows)


async def test_audit_in_pages(database: str) -> None:
    """Newest first, each once; of one tenant or of all; a cursor of another list is refused."""
    async with opened(database) as stores:
        first = await made(stores, "a")
        for number in range(5):
            changes = TenantChanges(name=f"n{number}")
            await stores.tenants.update(first.id, changes, None, WHO)
            await made(stores, f"other {number}")
        page = await stores.audit.page(limit=4, tenant_id=first.id)
        assert page.next_cursor is not None
        rest = await stores.audit.page(limit=4, cursor=page.next_cursor, tenant_id=first.id)
        names = [each.after["name"] for each in (*page.items, *rest.items)]
        assert names == ["n4", "n3", "n2", "n1", "n0", "a"]
        assert rest.next_cursor is None
        assert len((await stores.audit.page(limit=100)).items) == 11
        with pytest.raises(CallerError):
            await stores.tenants.page(limit=1, cursor=page.next_cursor)
        tenants = await stores.tenants.page(limit=1)
        with pytest.raises(CallerError):
            await stores.audit.page(limit=1, cursor=tenants.next_cursor)
        with pytest.raises(NotFound):
            await stores.audit.page(limit=1, tenant_id="x")


@pytest.mark.parametrize("limit", [0, 101, -1])
async def test_lists_of_any_length_are_refused(module_database: str, limit: int) -> None:
    """One answer is bounded."""
    async with opened(module_database) as stores:
        with pytest.raises(ValueError, match="limit"):
            await stores.tenants.page(limit=limit)
        with pytest.raises(ValueError, match="limit"):
            await stores.routes.page(NOBODY, limit=limit)
        with pytest.raises(ValueError, match="limit"):
            await stores.audit.page(limit=limit)


async def test_change_whose_audit_fails_is_not_made(database: str) -> None:
    """There is no change without its row."""
    async with opened(database) as stores:
        tenant = await made(stores)
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("ALTER TABLE admin_audit RENAME TO elsewhere")
        with pytest.raises(DatabaseUnavailable):
            await stores.tenants.update(tenant.id, TenantChanges(name="b"), None, WHO)
        with pytest.raises(DatabaseUnavailable):
            await stores.tenants.delete(tenant.id, None, WHO)
        assert await stores.tenants.get(tenant.id) == tenant


async def test_change_cancelled_anywhere_is_made_with_its_audit_or_not(database: str) -> None:
    """At every checkpoint: as many versions as audit rows, and the connection is good again."""

    async def scenario(point: CancellationPoint) -> None:
        async with opened(database) as stores:
            tenant = await made(stores)
            with point:
                await stores.tenants.update(tenant.id, TenantChanges(name="b"), None, WHO)
            found = await stores.tenants.get(tenant.id)
            page = await stores.audit.page(limit=100, tenant_id=tenant.id)
            assert len(page.items) == found.version
            assert found.version == 2 or point.was_cancelled

    assert await sweep_cancellations(scenario) >= 5
