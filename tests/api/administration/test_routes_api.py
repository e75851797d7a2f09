"""``/admin/routes`` over a real PostgreSQL."""

from __future__ import annotations

import datetime
import uuid

import pytest
import trio

from bulkhead_trio.database.changes import Changed
from bulkhead_trio.gateway.reports import BreakerReport, HealthReport, UpstreamReport

from ._world import ROUTE, errors_of, open_admin

URL = "http://203.0.114.7:3001"

CONTRACT = {
    "method": "GET",
    "path": "/api/users",
    "pathType": "prefix",
    "stripPath": False,
    "upstreams": [{"url": URL, "weight": 3}, {"url": "http://203.0.114.8:3002", "weight": 1}],
    "loadBalancing": "weighted",
    "transform": {
        "request": {
            "headers": {"set": {}, "add": {}, "remove": []},
            "path": {"pattern": "^/api/(.*)$", "replacement": "/v1/$1"},
        },
        "response": {"headers": {"set": {}, "add": {}, "remove": []}},
    },
    "resilience": {
        "circuitBreaker": {
            "enabled": True, "failureThreshold": 5, "successThreshold": 2, "timeout": 30000,
        },
        "retry": {
            "enabled": True, "maxRetries": 3, "baseDelayMs": 1000, "maxDelayMs": 10000,
            "retryableStatusCodes": [500, 502, 503, 504],
        },
        "timeout": {"default": 10000, "byMethod": {"GET": 5000, "POST": 30000}},
        "healthCheck": {
            "enabled": True, "endpoint": "/health", "intervalMs": 30000, "timeoutMs": 5000,
            "healthyThreshold": 2, "unhealthyThreshold": 3,
        },
        "fallback": {
            "enabled": True, "statusCode": 503, "contentType": "application/json",
            "body": '{"error":"Service temporarily unavailable"}',
        },
        "bulkhead": {"enabled": True, "maxConcurrent": 64, "queueSize": 128},
    },
}  # fmt: skip
"""The contract's own example."""


async def test_route_of_the_contract_is_made_and_found(database: str) -> None:
    """201 with the object, its address and version; later the same."""
    async with open_admin(database) as admin:
        tenant = await admin.make_tenant()
        made = await admin.ask("POST", "/admin/routes", {"tenantId": tenant["id"], **CONTRACT})
        body = made.json()
        assert made.status == 201, made.body
        assert made.headers["location"] == f"/admin/routes/{body['id']}"
        assert made.headers["etag"] == '"1"'
        assert str(uuid.UUID(body["id"])) == body["id"]
        assert body["tenantId"] == tenant["id"]
        for name in ("path", "upstreams", "loadBalancing"):
            assert body[name] == CONTRACT[name]
        assert body["resilience"]["retry"]["retryableStatusCodes"] == [500, 502, 503, 504]
        assert body["resilience"]["timeout"]["byMethod"] == {"GET": 5000, "POST": 30000}
        found = await admin.ask("GET", made.headers["location"])
        assert (found.status, found.json(), found.headers["etag"]) == (200, body, '"1"')
        listed = await admin.ask("GET", f"/admin/tenants/{tenant['id']}/routes")
        assert listed.json() == {"items": [body], "nextCursor": None}
        assert admin.changed[1:] == [Changed("route", tenant["id"])]


@pytest.mark.parametrize(
    ("members", "wrong"),
    [
        ({"tenantId": "nobody"}, {"$.tenantId"}),
        ({"tenantId": str(uuid.uuid4())}, {"$.tenantId"}),
        ({"tenantId": None}, {"$.tenantId"}),
        ({"path": 7, "pathType": "glob"}, {"$.path", "$.pathType"}),
        ({"path": "[", "pathType": "regex"}, {"$.path"}),
        ({"upstreams": []}, {"$.upstreams"}),
        ({"upstreams": [{"url": URL}, {"url": "ftp://a.example"}]}, {"$.upstreams[1].url"}),
        (
            {"upstreams": [{"url": "http://127.0.0.1:1"}, {"url": "http://[::ffff:10.0.0.1]/"}]},
            {"$.upstreams[0].url", "$.upstreams[1].url"},
        ),
        ({"upstreams": [{"url": "http://169.254.169.254/"}]}, {"$.upstreams[0].url"}),
        ({"loadBalancing": "fair"}, {"$.loadBalancing"}),
        ({"resilience": {"retires": {}}}, {"$.resilience.retires"}),
        (
            {"resilience": {"retry": {"maxRetries": -1}, "timeout": {"default": "x"}}},
            {"$.resilience.retry.maxRetries", "$.resilience.timeout.default"},
        ),
        ({"colour": "red"}, {"$.colour"}),
        ({"upstreams": [{"url": "http://a..b/"}]}, {"$.upstreams[0].url"}),
        ({"path": "/admin/tenants"}, {"$.path"}),
        ({"path": "/api/data", "pathType": "exact"}, {"$.path"}),
        (
            {"path": "/health", "pathType": "exact", "upstreams": [{"url": "http://10.0.0.1"}]},
            {"$.path", "$.upstreams[0].url"},
        ),
        ({"priority": 10**30}, {"$.priority"}),
    ],
)
async def test_route_that_cannot_be_is_refused_member_by_member(
    module_database: str, members: dict[str, object], wrong: set[str]
) -> None:
    """400 with a line for each mistake, and nothing is made."""
    async with open_admin(module_database) as admin:
        tenant = await admin.make_tenant()
        body = {"tenantId": tenant["id"], **ROUTE, **members}
        assert errors_of(await admin.ask("POST", "/admin/routes", body)).keys() == wrong
        assert len(admin.changed) == 1
        path = f"/admin/tenants/{tenant['id']}/routes"
        assert (await admin.ask("GET", path)).json()["items"] == []


async def test_body_that_is_no_route_is_refused(module_database: str) -> None:
    """No JSON, no object, another media type."""
    async with open_admin(module_database) as admin:
        for body in (b"{", b"\xff", b"[]", b"7"):
            assert errors_of(await admin.ask("POST", "/admin/routes", body)).keys() == {"$"}
        other = await admin.ask("POST", "/admin/routes", ROUTE, content_type="text/plain")
        assert other.status == 415


async def test_patch_merges_and_is_checked_whole(database: str) -> None:
    """Objects are merged, lists replaced, null takes away; what comes of it must be a route."""
    async with open_admin(database) as admin:
        tenant = await admin.make_tenant()
        made = await admin.make_route(tenant["id"], **{k: CONTRACT[k] for k in ("resilience",)})
        path = f"/admin/routes/{made['id']}"
        patch = {
            "upstreams": [{"url": "http://203.0.114.9"}],
            "resilience": {"retry": {"maxRetries": 1}, "bulkhead": None},
        }
        merge = {"content_type": "application/merge-patch+json"}
        changed = await admin.ask("PATCH", path, patch, **merge)
        now = changed.json()
        assert (changed.status, changed.headers["etag"]) == (200, '"2"')
        assert [each["url"] for each in now["upstreams"]] == ["http://203.0.114.9"]
        assert now["resilience"]["retry"]["maxRetries"] == 1
        assert now["resilience"]["retry"]["baseDelayMs"] == 1000
        assert "bulkhead" not in now["resilience"]
        for wrong, where in (
            ({"path": None}, "$.path"),
            ({"upstreams": None}, "$.upstreams"),
            ({"upstreams": [{"url": "http://10.0.0.1"}]}, "$.upstreams[0].url"),
            ({"tenantId": str(uuid.uuid4())}, "$.tenantId"),
            ({"id": "x"}, "$.id"),
            ({"resilience": {"retry": {"maxRetries": "x"}}}, "$.resilience.retry.maxRetries"),
        ):
            assert errors_of(await admin.ask("PATCH", path, wrong)).keys() == {where}
        assert (await admin.ask("GET", path)).json() == now


async def test_route_that_is_there_already_is_refused(database: str) -> None:
    """409 for the same method, path, pathType and priority of one tenant, made or changed to."""
    async with open_admin(database) as admin:
        tenant, other = await admin.make_tenant(), await admin.make_tenant()
        body = {"tenantId": tenant["id"], **ROUTE, "method": ["PUT", "GET"]}
        made = (await admin.ask("POST", "/admin/routes", body)).json()
        same = {**body, "method": ["GET", "PUT"], "upstreams": [{"url": URL}], "priority": 0}
        for again in (body, same):
            refused = await admin.ask("POST", "/admin/routes", again)
            assert (refused.status, refused.json()["code"]) == (409, "conflict")
            assert made["id"] in refused.json()["detail"]
        assert len(admin.changed) == 3
        await admin.make_route(other["id"], method=["GET", "PUT"])
        await admin.make_route(tenant["id"], method="GET")
        await admin.make_route(tenant["id"], pathType="exact", method=["GET", "PUT"])
        third = await admin.make_route(tenant["id"], path="/third", method=["GET", "PUT"])
        path = f"/admin/routes/{third['id']}"
        refused = await admin.ask("PATCH", path, {"path": ROUTE["path"]})
        assert (refused.status, refused.json()["code"]) == (409, "conflict")
        assert (await admin.ask("GET", path)).json() == third
        hidden = await admin.ask("PATCH", path, {"path": "/admin"})
        assert errors_of(hidden).keys() == {"$.path"}
        moved = await admin.ask("PATCH", path, {"path": "/fourth", "stripPath": True})
        assert moved.status == 200
        assert (await admin.ask("PATCH", path, {"stripPath": False})).status == 200


async def test_patch_that_changes_nothing_makes_no_version(database: str) -> None:
    """What was told can be sent back, and so can what means the same."""
    async with open_admin(database) as admin:
        tenant = await admin.make_tenant()
        made = await admin.make_route(tenant["id"])
        path = f"/admin/routes/{made['id']}"
        told = (await admin.ask("GET", path)).json()
        for same in (made, told, {}, {"upstreams": made["upstreams"]}):
            again = await admin.ask("PATCH", path, same)
            assert (again.status, again.json(), again.headers["etag"]) == (200, made, '"1"')


async def test_if_match_lets_only_the_version_be_changed_that_was_read(database: str) -> None:
    """409 for a stale one, for PATCH and DELETE."""
    async with open_admin(database) as admin:
        tenant = await admin.make_tenant()
        path = f"/admin/routes/{(await admin.make_route(tenant['id']))['id']}"
        change = {"path": "/other"}
        assert (await admin.ask("PATCH", path, change, if_match='"1"')).status == 200
        assert (await admin.ask("PATCH", path, change, if_match='"1"')).status == 409
        assert (await admin.ask("DELETE", path, if_match='"1"')).status == 409
        assert (await admin.ask("DELETE", path, if_match='"2"')).status == 204
        assert admin.changed[-1] == Changed("route", tenant["id"])
        for method, body in (("GET", None), ("PATCH", change), ("DELETE", None)):
            assert (await admin.ask(method, path, body)).status == 404
        assert (await admin.ask("GET", f"{path}/health")).status == 404


async def test_patches_at_the_same_time_are_all_kept(database: str) -> None:
    """Without If-Match, each changes what it names and undoes nobody's change."""
    async with open_admin(database) as admin:
        tenant = await admin.make_tenant()
        path = f"/admin/routes/{(await admin.make_route(tenant['id']))['id']}"
        patches = ({"path": "/other"}, {"method": "PUT"}, {"loadBalancing": "random"})
        async with trio.open_nursery() as nursery:
            for patch in patches:
                nursery.start_soon(admin.ask, "PATCH", path, patch)
        now = (await admin.ask("GET", path)).json()
        assert (now["path"], now["loadBalancing"], now["version"]) == ("/other", "random", 4)
        assert now["method"] in ("PUT", ["PUT"])


async def test_routes_are_listed_in_pages_of_their_tenant(database: str) -> None:
    """Newest first, nobody else's, and 404 for a tenant that is not there."""
    async with open_admin(database) as admin:
        one, other = await admin.make_tenant(), await admin.make_tenant()
        for number in range(5):
            await admin.make_route(one["id"], path=f"/{number}")
        await admin.make_route(other["id"])
        seen: list[str] = []
        path = f"/admin/tenants/{one['id']}/routes?limit=2"
        cursor = ""
        while cursor is not None:
            page = (await admin.ask("GET", f"{path}&cursor={cursor}")).json()
            seen += [each["path"] for each in page["items"]]
            cursor = page["nextCursor"]
        assert seen == ["/4", "/3", "/2", "/1", "/0"]
        refused = await admin.ask("GET", f"/admin/tenants/{one['id']}/routes?limit=x")
        assert (refused.status, refused.json()["code"]) == (400, "bad_request")


async def test_health_is_what_this_instance_finds(database: str) -> None:
    """The reader's report, with moments as everywhere; ``unknown`` before there is one."""
    async with open_admin(database) as admin:
        tenant = await admin.make_tenant()
        route = await admin.make_route(tenant["id"], upstreams=[{"url": URL, "weight": 2}])
        path = f"/admin/routes/{route['id']}/health"
        unknown = (await admin.ask("GET", path)).json()
        assert (unknown["routeId"], unknown["healthy"]) == (route["id"], True)
        (upstream,) = unknown["upstreams"]
        assert (upstream["url"], upstream["weight"], upstream["state"]) == (URL, 2, "unknown")
        at = datetime.datetime(2026, 2, 11, 12, tzinfo=datetime.UTC)
        report = UpstreamReport(
            url=URL, weight=2, healthy=False, state="ejected", last_check=at,
            consecutive_successes=0, consecutive_failures=3, failed_requests=5, ejected_until=at,
            ejections=1, in_flight=4,
            circuit_breaker=BreakerReport(state="OPEN", failures=5, retry_after=1.5),
        )  # fmt: skip
        admin.reports[route["id"]] = HealthReport(
            route_id=route["id"], healthy=False, upstreams=(report,)
        )
        told = (await admin.ask("GET", path)).json()
        assert (told["healthy"], told["upstreams"][0]["state"]) == (False, "ejected")
        assert told["upstreams"][0]["ejectedUntil"] == "2026-02-11T12:00:00.000Z"
        assert told["upstreams"][0]["circuitBreaker"]["retryAfter"] == 1.5


async def test_audit_of_routes_shows_no_secrets(database: str) -> None:
    """Before and after, with what opens something masked; the route itself has it."""
    async with open_admin(database) as admin:
        tenant = await admin.make_tenant()
        headers = {"headers": {"set": {"Authorization": "Bearer s3cret"}}}
        route = await admin.make_route(tenant["id"], transform={"request": headers})
        assert b"s3cret" in (await admin.ask("GET", f"/admin/routes/{route['id']}")).body
        audit = await admin.ask("GET", f"/admin/audit?tenantId={tenant['id']}&limit=1")
        (entry,) = audit.json()["items"]
        assert (entry["action"], entry["subjectId"]) == ("route.create", route["id"])
        assert entry["after"]["spec"]["path"] == ROUTE["path"]
        assert b"s3cret" not in audit.body
