"""``/admin/tenants`` over a real PostgreSQL."""

from __future__ import annotations

import datetime
import uuid

import pytest
import trio

from bulkhead_trio.database.changes import Changed
from bulkhead_trio.database.tenants import TenantChanges
from bulkhead_trio.tenancy._key_rules import digest_of, key_id_in

from .._world import ADMIN_KEY
from ._world import PEPPER, TENANT, errors_of, open_admin

LIMIT = {"limit": 100, "windowSeconds": 1}


async def test_tenant_is_made_with_a_key_that_is_shown_once(database: str) -> None:
    """201 with the whole object, its address, its version; the key in no later answer."""
    async with open_admin(database) as admin:
        made = await admin.ask("POST", "/admin/tenants", {**TENANT, "rateLimit": LIMIT})
        body = made.json()
        assert made.status == 201
        assert body | {"id": "", "createdAt": "", "updatedAt": "", "apiKey": ""} == {
            "id": "", "name": "acme", "tier": "pro", "active": True, "rateLimit": LIMIT,
            "weight": 1, "createdAt": "", "updatedAt": "", "version": 1, "apiKey": "",
        }  # fmt: skip
        assert str(uuid.UUID(body["id"])) == body["id"]
        assert made.headers["location"] == f"/admin/tenants/{body['id']}"
        assert made.headers["etag"] == '"1"'
        found = await admin.ask("GET", made.headers["location"])
        assert found.headers["etag"] == '"1"'
        (key,) = found.json()["keys"]
        assert key["id"] == key_id_in(body["apiKey"])
        assert (key["lastUsedAt"], key["revokedAt"]) == (None, None)
        secret = body["apiKey"].rpartition("_")[2]
        for path in ("/admin/tenants", f"/admin/tenants/{body['id']}", "/admin/audit"):
            answer = await admin.ask("GET", path)
            assert answer.status == 200
            assert secret.encode() not in answer.body
            assert digest_of(PEPPER, body["apiKey"]).hex().encode() not in answer.body
        assert admin.changed == [Changed("tenant", body["id"])]


@pytest.mark.parametrize(
    ("members", "wrong"),
    [
        ({"name": ""}, {"$.name"}),
        ({"name": "x" * 129}, {"$.name"}),
        ({"name": " acme"}, {"$.name"}),
        ({"name": "a\nb"}, {"$.name"}),
        ({"name": None}, {"$.name"}),
        ({"name": 7, "tier": "gold"}, {"$.name", "$.tier"}),
        ({"tier": ["pro"]}, {"$.tier"}),
        ({"active": "yes", "weight": 0}, {"$.active", "$.weight"}),
        ({"weight": 1001}, {"$.weight"}),
        ({"weight": True}, {"$.weight"}),
        ({"weight": 1.5}, {"$.weight"}),
        ({"rateLimit": 100}, {"$.rateLimit"}),
        ({"rateLimit": {}}, {"$.rateLimit.limit", "$.rateLimit.windowSeconds"}),
        ({"rateLimit": {**LIMIT, "limit": 0}}, {"$.rateLimit.limit"}),
        ({"rateLimit": {**LIMIT, "limit": 10**9 + 1}}, {"$.rateLimit.limit"}),
        ({"rateLimit": {**LIMIT, "windowSeconds": 0}}, {"$.rateLimit.windowSeconds"}),
        ({"rateLimit": {**LIMIT, "windowSeconds": 86_401}}, {"$.rateLimit.windowSeconds"}),
        ({"rateLimit": {**LIMIT, "windowSeconds": 10**400}}, {"$.rateLimit.windowSeconds"}),
        ({"rateLimit": {**LIMIT, "burst": 7}}, {"$.rateLimit.burst"}),
        ({"teir": "pro"}, {"$.teir"}),
    ],
)
async def test_tenant_that_cannot_be_is_refused_member_by_member(
    module_database: str, members: dict[str, object], wrong: set[str]
) -> None:
    """400 with a line for each mistake, and nothing is made."""
    async with open_admin(module_database) as admin:
        answer = await admin.ask("POST", "/admin/tenants", {**TENANT, **members})
        assert errors_of(answer).keys() == wrong
        assert admin.changed == []


async def test_body_that_is_no_tenant_is_refused(module_database: str) -> None:
    """No JSON, no object, another media type."""
    async with open_admin(module_database) as admin:
        assert errors_of(await admin.ask("POST", "/admin/tenants", b"{")).keys() == {"$"}
        assert errors_of(await admin.ask("POST", "/admin/tenants", [])).keys() == {"$"}
        assert errors_of(await admin.ask("POST", "/admin/tenants")).keys() == {"$"}
        other = await admin.ask("POST", "/admin/tenants", TENANT, content_type="text/plain")
        assert (other.status, other.json()["code"]) == (415, "unsupported_media_type")
        patch = "application/merge-patch+json"
        other = await admin.ask("POST", "/admin/tenants", TENANT, content_type=patch)
        assert other.status == 415


async def test_patch_merges(database: str) -> None:
    """What is absent stays, what is an object is merged, null takes away; the version goes up."""
    async with open_admin(database) as admin:
        made = await admin.make_tenant(rateLimit=LIMIT, weight=7)
        path = f"/admin/tenants/{made['id']}"
        first = await admin.ask("PATCH", path, {"rateLimit": {"limit": 5}, "tier": "free"})
        assert first.status == 200
        assert first.json()["rateLimit"] == {"limit": 5, "windowSeconds": 1}
        assert (first.json()["tier"], first.json()["weight"]) == ("free", 7)
        assert first.headers["etag"] == '"2"'
        merge = {"content_type": "application/merge-patch+json"}
        second = await admin.ask("PATCH", path, {"rateLimit": None, "weight": None}, **merge)
        assert (second.json()["rateLimit"], second.json()["weight"]) == (None, 1)
        assert second.headers["etag"] == '"3"'
        assert (await admin.ask("GET", path)).json()["version"] == 3


async def test_patch_that_changes_nothing_makes_no_version(database: str) -> None:
    """What was told can be sent back as it was, and no audit row comes of it."""
    async with open_admin(database) as admin:
        made = await admin.make_tenant()
        path = f"/admin/tenants/{made['id']}"
        del made["apiKey"]
        again = await admin.ask("PATCH", path, made)
        assert (again.status, again.json(), again.headers["etag"]) == (200, made, '"1"')
        actions = [
            each["action"] for each in (await admin.ask("GET", "/admin/audit")).json()["items"]
        ]
        assert actions == ["key.create", "tenant.create"]


async def test_tenant_can_be_sent_back_as_it_was_told(database: str) -> None:
    """Its keys too, though one may have been used since; with a change beside them or without."""
    async with open_admin(database) as admin:
        made = await admin.make_tenant()
        path = f"/admin/tenants/{made['id']}"
        await admin.ask("POST", f"{path}/keys")
        told = (await admin.ask("GET", path)).json()
        assert len(told["keys"]) == 2
        again = await admin.ask("PATCH", path, told)
        assert (again.status, again.headers["etag"]) == (200, '"1"'), again.body
        now = datetime.datetime.now(datetime.UTC)
        await admin.tenants.touch_keys({key["id"]: now for key in told["keys"]})
        used = (await admin.ask("GET", path)).json()
        assert used["keys"] != told["keys"]
        changed = await admin.ask("PATCH", path, {**told, "weight": 7})
        assert (changed.status, changed.json()["weight"]) == (200, 7)
        stale = await admin.ask("PATCH", path, told)
        assert errors_of(stale).keys() == {"$.version", "$.updatedAt"}


@pytest.mark.parametrize(
    ("patch", "wrong"),
    [
        ({"name": None}, {"$.name"}),
        ({"tier": "gold", "weight": -1}, {"$.tier", "$.weight"}),
        ({"id": "another", "createdAt": None}, {"$.id", "$.createdAt"}),
        ({"version": 7}, {"$.version"}),
        ({"keys": []}, {"$.keys"}),
        ({"keys": None, "id": "x"}, {"$.keys", "$.id"}),
        ({"keys": [{"id": "x"}]}, {"$.keys"}),
        ({"keys": "x"}, {"$.keys"}),
        ({"apiKey": "x"}, {"$.apiKey"}),
        ({"colour": "red"}, {"$.colour"}),
        ({"rateLimit": {"limit": 1}}, {"$.rateLimit.windowSeconds"}),
    ],
)
async def test_patch_that_cannot_be_is_refused(
    module_database: str, patch: dict[str, object], wrong: set[str]
) -> None:
    """400 with the paths, and the tenant is as it was."""
    async with open_admin(module_database) as admin:
        made = await admin.make_tenant()
        path = f"/admin/tenants/{made['id']}"
        assert errors_of(await admin.ask("PATCH", path, patch)).keys() == wrong
        assert (await admin.ask("GET", path)).headers["etag"] == '"1"'


async def test_if_match_lets_only_the_version_be_changed_that_was_read(database: str) -> None:
    """409 for a stale one, also for DELETE; the current one, a list with it, and * pass."""
    async with open_admin(database) as admin:
        path = f"/admin/tenants/{(await admin.make_tenant())['id']}"
        assert (await admin.ask("PATCH", path, {"weight": 2}, if_match='"1"')).status == 200
        for stale in ('"1"', 'W/"2"', '"x"', '"1", "7"'):
            for method, body in (("PATCH", {"weight": 3}), ("DELETE", None)):
                refused = await admin.ask(method, path, body, if_match=stale)
                assert (refused.status, refused.json()["code"]) == (409, "conflict"), stale
        for wrong in ("2", '"2', '"1" "2"', ","):
            refused = await admin.ask("PATCH", path, {"weight": 3}, if_match=wrong)
            assert (refused.status, refused.json()["code"]) == (400, "invalid_header"), wrong
        assert (await admin.ask("PATCH", path, {"weight": 3}, if_match="*")).status == 200
        assert (await admin.ask("PATCH", path, {"weight": 4}, if_match='"1" , "3"')).status == 200
        assert (await admin.ask("DELETE", path, if_match='"4"')).status == 204


async def test_patches_at_the_same_time_are_all_kept(database: str) -> None:
    """Without If-Match, each changes what it names and undoes nobody's change."""
    async with open_admin(database) as admin:
        path = f"/admin/tenants/{(await admin.make_tenant(rateLimit=LIMIT))['id']}"
        patches = (
            {"name": "other"}, {"weight": 9}, {"tier": "free"}, {"rateLimit": {"limit": 7}},
        )  # fmt: skip
        async with trio.open_nursery() as nursery:
            for patch in patches:
                nursery.start_soon(admin.ask, "PATCH", path, patch)
        now = (await admin.ask("GET", path)).json()
        assert (now["name"], now["weight"], now["tier"]) == ("other", 9, "free")
        assert now["rateLimit"] == {"limit": 7, "windowSeconds": 1}
        assert now["version"] == 5


async def test_keys_come_and_go(database: str) -> None:
    """Several are good at once; a revoked one stays in the list; twice is no mistake."""
    async with open_admin(database) as admin:
        tenant = await admin.make_tenant()
        path = f"/admin/tenants/{tenant['id']}/keys"
        made = await admin.ask("POST", path)
        body = made.json()
        assert made.status == 201
        assert made.headers["location"] == f"{path}/{body['id']}"
        assert key_id_in(body["apiKey"]) == body["id"]
        assert body["apiKey"] != tenant["apiKey"]
        assert (await admin.ask("POST", path, {})).status == 201
        assert (await admin.ask("DELETE", made.headers["location"])).status == 204
        assert (await admin.ask("DELETE", made.headers["location"])).status == 204
        listed = (await admin.ask("GET", f"/admin/tenants/{tenant['id']}")).json()["keys"]
        revoked = {each["id"]: each["revokedAt"] is not None for each in listed}
        assert len(revoked) == 3
        assert [key for key, is_revoked in revoked.items() if is_revoked] == [body["id"]]
        assert Changed("key", body["id"]) in admin.changed
        assert errors_of(await admin.ask("POST", path, {"name": "x"})).keys() == {"$"}


async def test_unknown_ids_are_not_found(module_database: str) -> None:
    """404 for an id that nobody has, one that is none, and a key of another tenant."""
    async with open_admin(module_database) as admin:
        one, other = await admin.make_tenant(), await admin.make_tenant()
        key_of_other = key_id_in(other["apiKey"])
        paths = ["/admin/tenants/nobody", f"/admin/tenants/{uuid.uuid4()}"]
        requests = [
            *((method, path) for path in paths for method in ("GET", "PATCH", "DELETE")),
            *(("POST", f"{path}/keys") for path in paths),
            *(("GET", f"{path}/routes") for path in paths),
            ("DELETE", f"/admin/tenants/{one['id']}/keys/{key_of_other}"),
            ("DELETE", f"/admin/tenants/{one['id']}/keys/x"),
            ("DELETE", f"{paths[0]}/keys/{key_of_other}"),
        ]
        for method, path in requests:
            body = {"weight": 2} if method == "PATCH" else None
            answer = await admin.ask(method, path, body)
            assert (answer.status, answer.json()["code"]) == (404, "not_found"), (method, path)


async def test_tenants_are_listed_in_pages(database: str) -> None:
    """Newest first, each once, whatever is made or deleted meanwhile."""
    async with open_admin(database) as admin:
        names = [f"tenant {number}" for number in range(7)]
        for name in names:
            await admin.make_tenant(name=name)
        seen: list[str] = []
        path = "/admin/tenants?limit=3"
        while path:
            answer = await admin.ask("GET", path)
            assert answer.status == 200
            page = answer.json()
            assert len(page["items"]) <= 3
            seen += [each["name"] for each in page["items"]]
            await admin.make_tenant(name="came meanwhile")
            cursor = page["nextCursor"]
            path = f"/admin/tenants?limit=3&cursor={cursor}" if cursor else ""
        assert seen == names[::-1]
        for query in ("limit=0", "limit=101", "limit=x", "cursor=x", "limit=1&limit=2"):
            refused = await admin.ask("GET", f"/admin/tenants?{query}")
            assert (refused.status, refused.json()["code"]) == (400, "bad_request"), query
        whole = (await admin.ask("GET", "/admin/tenants?limit=100&cursor=")).json()
        assert (len(whole["items"]), whole["nextCursor"]) == (10, None)


async def test_deleted_tenant_takes_keys_and_routes_with_it(database: str) -> None:
    """204 without a body, and then nothing of it is there but the audit."""
    async with open_admin(database) as admin:
        tenant = await admin.make_tenant()
        route = await admin.make_route(tenant["id"])
        path = f"/admin/tenants/{tenant['id']}"
        gone = await admin.ask("DELETE", path)
        assert (gone.status, gone.body) == (204, b"")
        assert "content-type" not in gone.headers
        for each in (path, f"{path}/routes", f"/admin/routes/{route['id']}"):
            assert (await admin.ask("GET", each)).status == 404
        assert (await admin.ask("DELETE", path)).status == 404
        assert await admin.tenants.find_key(key_id_in(tenant["apiKey"]) or "") is None
        assert {Changed("tenant", tenant["id"]), Changed("route", tenant["id"])} <= set(
            admin.changed
        )


async def test_audit_says_who_changed_what(database: str) -> None:
    """Newest first: the key's fingerprint and address, the request's id, before and after."""
    async with open_admin(database) as admin:
        tenant = await admin.make_tenant()
        path = f"/admin/tenants/{tenant['id']}"
        await admin.ask("PATCH", path, {"weight": 5}, x_request_id="ticket-7")
        await admin.make_tenant(name="another")
        answer = await admin.ask("GET", f"/admin/audit?tenantId={tenant['id']}&limit=1")
        (entry,) = answer.json()["items"]
        assert entry["action"] == "tenant.update"
        assert entry["requestId"] == "ticket-7"
        assert entry["who"].startswith("admin:")
        assert entry["who"].endswith(" from 127.0.0.1")
        assert ADMIN_KEY not in entry["who"]
        assert (entry["before"]["weight"], entry["after"]["weight"]) == (1, 5)
        assert entry["before"]["rateLimit"] is None
        cursor = answer.json()["nextCursor"]
        rest = await admin.ask("GET", f"/admin/audit?tenantId={tenant['id']}&cursor={cursor}")
        assert [each["action"] for each in rest.json()["items"]] == ["key.create", "tenant.create"]
        assert rest.json()["nextCursor"] is None
        assert (await admin.ask("GET", "/admin/audit?tenantId=nobody")).status == 404


async def test_change_that_is_quicker_is_a_conflict_only_with_if_match(database: str) -> None:
    """A change between reading and writing is seen, and without If-Match begun again."""
    async with open_admin(database) as admin:
        tenant = await admin.make_tenant()
        read = await admin.tenants.get(tenant["id"])
        from bulkhead_trio.database.audit import Author

        await admin.tenants.update(read.id, TenantChanges(weight=3), None, Author("another"))
        path = f"/admin/tenants/{tenant['id']}"
        assert (await admin.ask("PATCH", path, {"name": "x"}, if_match='"1"')).status == 409
        assert (await admin.ask("PATCH", path, {"name": "x"})).json()["weight"] == 3
