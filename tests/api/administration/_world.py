"""The admin API over the real stores, on a real PostgreSQL, asked in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from bulkhead_trio.api.admin import AdminDoor, AdminGuard
from bulkhead_trio.api.audit import AuditResource
from bulkhead_trio.api.drain import DrainGate
from bulkhead_trio.api.edge import Edge, RequestLimits
from bulkhead_trio.api.gateway_routes import RoutesResource
from bulkhead_trio.api.messages import Listener
from bulkhead_trio.api.quart_app import create_quart_app
from bulkhead_trio.api.routes import Resource
from bulkhead_trio.api.tenants import TenantsResource
from bulkhead_trio.database import PoolSettings, create_pool
from bulkhead_trio.database.audit import AuditStore
from bulkhead_trio.database.changes import Changed
from bulkhead_trio.database.routes import RouteStore
from bulkhead_trio.database.tenants import TenantStore
from bulkhead_trio.gateway.reports import HealthReport
from bulkhead_trio.http.client.network import NetworkPolicy
from bulkhead_trio.tenancy.keys import KeyMaker
from bulkhead_trio.testing import Answer, ASGIClient

from .._world import ADMIN_KEY, TIERS, assert_as_described

PEPPER = b"pepper"
TENANT = {"name": "acme", "tier": "pro"}
ROUTE = {"path": "/api/users", "upstreams": [{"url": "http://203.0.114.7:3001"}]}


@attrs.frozen
class Admin:
    """The admin API, and what its hook was told; every answer is checked to be as described."""

    resources: tuple[Resource, ...]
    tenants: TenantStore
    routes: RouteStore
    changed: list[Changed]
    reports: dict[str, HealthReport]

    def client(self, listener: Listener = "public") -> ASGIClient:
        gate = DrainGate()
        app: Any = create_quart_app(self.resources, gate=gate, max_body_bytes=64 * 1024)
        return ASGIClient(Edge(app, gate=gate, limits=RequestLimits(), listener=listener))

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str | None = ADMIN_KEY,
        listener: Listener = "public",
        **headers: str,
    ) -> Answer:
        """Ask with the admin key; ``if_match="..."`` is a header."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            fields["x-admin-key"] = key
        raw = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        if raw:
            fields.setdefault("content-type", "application/json")
        with trio.fail_after(10):
            answer = await self.client(listener).request(method, path, fields, raw)
        assert_as_described(f"{method} {self._template(path)}", answer)
        return answer

    def _template(self, path: str) -> str:
        """The path of the route that ``path`` belongs to."""
        pieces = path.partition("?")[0].split("/")
        (found,) = {
            route.path
            for resource in self.resources
            for route in resource.routes()
            if len(each := route.path.split("/")) == len(pieces)
            and all(
                one == other or one[0:1] == "{" for one, other in zip(each, pieces, strict=True)
            )
        }
        return found

    async def make_tenant(self, **members: object) -> dict[str, Any]:
        made = await self.ask("POST", "/admin/tenants", {**TENANT, **members})
        assert made.status == 201, made.body
        document: dict[str, Any] = made.json()
        return document

    async def make_route(self, tenant_id: str, **members: object) -> dict[str, Any]:
        made = await self.ask("POST", "/admin/routes", {"tenantId": tenant_id, **ROUTE, **members})
        assert made.status == 201, made.body
        document: dict[str, Any] = made.json()
        return document


@attrs.frozen
class Reports:
    """A reader of health that says what it is given to say."""

    by_route: Mapping[str, HealthReport]

    def report(self, route_id: str) -> HealthReport | None:
        return self.by_route.get(route_id)


@asynccontextmanager
async def open_admin(conninfo: str, *, has_own_listener: bool = False) -> AsyncIterator[Admin]:
    pool = create_pool("ops", PoolSettings(conninfo, 2, 5.0))
    tenants, routes = TenantStore(pool), RouteStore(pool)
    door = AdminDoor(AdminGuard(ADMIN_KEY, is_public=True), has_own_listener=has_own_listener)
    changed: list[Changed] = []
    reports: dict[str, HealthReport] = {}
    resources: tuple[Resource, ...] = (
        TenantsResource(tenants, KeyMaker(PEPPER), door, tiers=TIERS, changed=changed.append),
        RoutesResource(
            routes,
            tenants,
            door,
            check_url=NetworkPolicy().check_url,
            health=Reports(reports),
            changed=changed.append,
        ),
        AuditResource(AuditStore(pool), door),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        yield Admin(resources, tenants, routes, changed, reports)
        nursery.cancel_scope.cancel()


def errors_of(answer: Answer) -> dict[str, str]:
    """What is wrong, by path."""
    assert (answer.status, answer.json()["code"]) == (400, "invalid_body"), answer.body
    return {each["path"]: each["message"] for each in answer.json()["errors"]}
