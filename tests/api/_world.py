"""All resources on a scripted database, and what the API's description says of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from bulkhead_trio.api._openapi import openapi_document
from bulkhead_trio.api._problem import CONTENT_TYPE
from bulkhead_trio.api.admin import AdminDoor, AdminGuard
from bulkhead_trio.api.audit import AuditResource
from bulkhead_trio.api.census import Alone, ProcessReader
from bulkhead_trio.api.data import DataResource
from bulkhead_trio.api.delivery_metrics import DeliveryMetricsResource
from bulkhead_trio.api.description import DescriptionResource
from bulkhead_trio.api.drain import DrainGate
from bulkhead_trio.api.edge import Edge, RequestLimits
from bulkhead_trio.api.gateway_routes import RoutesResource
from bulkhead_trio.api.health import HealthResource
from bulkhead_trio.api.messages import Listener
from bulkhead_trio.api.metrics import MetricsResource
from bulkhead_trio.api.orders import OrdersResource
from bulkhead_trio.api.quart_app import create_quart_app
from bulkhead_trio.api.routes import Resource
from bulkhead_trio.api.tenants import TenantsResource
from bulkhead_trio.database import Pool
from bulkhead_trio.database.audit import AuditStore
from bulkhead_trio.database.changes import Changed
from bulkhead_trio.database.routes import RouteStore
from bulkhead_trio.database.tenants import TenantStore
from bulkhead_trio.delivery.events import EventWriter
from bulkhead_trio.http.client.network import NetworkPolicy
from bulkhead_trio.observe.metrics import Durations
from bulkhead_trio.orders import OrderDesk, OrderLimits, is_failure_of_the_store
from bulkhead_trio.policies.breaker import CircuitBreaker, Consecutive
from bulkhead_trio.policies.compartment import Compartment
from bulkhead_trio.policies.rate import FixedWindow, RateLimiter
from bulkhead_trio.tenancy import ApiKeyGuard, KeyMaker, TierResolver
from bulkhead_trio.testing import (
    Answer,
    ASGIClient,
    ScriptedDatabase,
    ScriptedOrderStore,
    tenant_rows,
)
from bulkhead_trio.tiers import Tier, says_nothing_of_the_database

from ._deliveries import Stores, delivery_resources, make_door
from ._schema import check, resolve

TIERS = ("free", "pro", "enterprise")
ADMIN_KEY = "the-admin-key"

PATHS = (
    "/api/data", "/api/metrics", "/health", "/ready", "/metrics/bulkheads", "/metrics",
    "/metrics/deliveries", "/openapi.json", "/docs",
)  # fmt: skip
"""What anybody can ``GET`` without knowing more."""

ADMIN_OPERATIONS = (
    "POST /admin/tenants", "GET /admin/tenants", "GET /admin/tenants/{id}",
    "PATCH /admin/tenants/{id}", "DELETE /admin/tenants/{id}", "POST /admin/tenants/{id}/keys",
    "DELETE /admin/tenants/{id}/keys/{keyId}", "GET /admin/tenants/{id}/routes",
    "POST /admin/routes", "GET /admin/routes/{id}", "PATCH /admin/routes/{id}",
    "DELETE /admin/routes/{id}", "GET /admin/routes/{id}/health", "GET /admin/audit",
)  # fmt: skip

TENANT_OPERATIONS = (
    "POST /api/events", "GET /api/events/{id}", "POST /api/webhooks", "GET /api/webhooks",
    "GET /api/webhooks/{id}", "PATCH /api/webhooks/{id}", "DELETE /api/webhooks/{id}",
    "POST /api/webhooks/{id}/secret", "POST /api/webhooks/{id}/test", "GET /api/deliveries",
    "GET /api/deliveries/{id}", "POST /api/deliveries/{id}/replay", "GET /api/dead-letters",
    "POST /api/dead-letters/replay", "GET /api/dead-letters/{id}",
    "POST /api/dead-letters/{id}/replay", "POST /api/notifications", "GET /api/notifications/{id}",
)  # fmt: skip

ALL_PATHS = (
    "/api/orders", "/api/orders/{orderId}", *TENANT_OPERATIONS, *ADMIN_OPERATIONS, *PATHS,
)  # fmt: skip
"""Every operation; where a path has several, with its method."""

GENERAL_HEADERS = {
    "content-type", "content-length", "connection", "cache-control", "x-content-type-options",
}  # fmt: skip
"""What HTTP itself, or its security, wants on answers; no part of the description."""

DOCUMENT = openapi_document(version="1.2.3", tiers=TIERS)


@attrs.frozen
class World:
    """All resources on a database that does as it is told."""

    database: ScriptedDatabase
    orders: ScriptedOrderStore
    desk: OrderDesk
    tiers: dict[str, Tier[Any]]
    gate: DrainGate
    resources: tuple[Resource, ...]

    def client(self, listener: Listener = "public") -> ASGIClient:
        app: Any = create_quart_app(self.resources, gate=self.gate, max_body_bytes=1024)
        return ASGIClient(Edge(app, gate=self.gate, limits=RequestLimits(), listener=listener))


def make_world(*, is_public: bool = True, rate_limit: int = 100, query_seconds: float = 0) -> World:
    database = ScriptedDatabase(tenant_rows("free"), query_seconds=query_seconds)
    tiers = {name: make_tier(name, database, rate_limit) for name in TIERS}
    gate = DrainGate()
    guard = AdminGuard(ADMIN_KEY, is_public=is_public)

    async def database_answers() -> None:
        await database.answer(0)
        assert not database.is_away

    orders = ScriptedOrderStore()
    breaker = CircuitBreaker("orders", window=Consecutive(2), record=is_failure_of_the_store)
    limits = OrderLimits(workers=1, queue=1, burst=3, rate=0.1)
    desk = OrderDesk(orders, limits=limits, breaker=breaker)
    census = Alone(ProcessReader(tiers, desk, Durations()))
    resources: tuple[Resource, ...] = (
        HealthResource({"database": database_answers}, gate),
        DataResource(tiers, TierResolver(TIERS, trust_header=is_public), allow_force_error=True),
        OrdersResource(desk, ApiKeyGuard(is_required=not is_public), census),
        *tenant_resources(Pool("deliveries", database.connect, max_size=1)),
        *admin_resources(Pool("ops", database.connect, max_size=1), guard),
        DeliveryMetricsResource(census, guard),
        MetricsResource(census, guard, reasons=()),
        DescriptionResource(version="1.2.3", tiers=TIERS, guard=guard),
    )
    return World(database, orders, desk, tiers, gate, resources)


def tenant_resources(pool: Pool[Any]) -> tuple[Resource, ...]:
    """What tenants ask of the deliveries; a scripted database can answer none of it."""
    stores = Stores.on(pool)
    return delivery_resources(stores, EventWriter(stores.events), make_door(None)[0])


def admin_resources(pool: Pool[Any], guard: AdminGuard) -> tuple[Resource, ...]:
    """What is under ``/admin``; a scripted database can answer none of it."""
    door = AdminDoor(guard, has_own_listener=False)
    tenants, routes = TenantStore(pool), RouteStore(pool)
    return (
        TenantsResource(tenants, KeyMaker(b"pepper"), door, tiers=TIERS, changed=_nobody_listens),
        RoutesResource(
            routes,
            tenants,
            door,
            check_url=NetworkPolicy().check_url,
            health=_NoHealth(),
            changed=_nobody_listens,
        ),
        AuditResource(AuditStore(pool), door),
    )


class _NoHealth:
    def report(self, route_id: str) -> None:  # noqa: ARG002
        return None


def _nobody_listens(changed: Changed) -> None:
    pass


def make_tier(name: str, database: ScriptedDatabase, rate_limit: int) -> Tier[Any]:
    return Tier(
        name,
        timeout=10,
        limiter=None
        if name == "enterprise"
        else RateLimiter(FixedWindow(limit=rate_limit, seconds=60.0)),
        compartment=Compartment(name, workers=1, queue=1),
        breaker=CircuitBreaker(
            name, window=Consecutive(2), wait_in_open=15, ignore=says_nothing_of_the_database
        ),
        pool=Pool(name, database.connect, max_size=1),
    )


@asynccontextmanager
async def running(world: World) -> AsyncIterator[ASGIClient]:
    async with trio.open_nursery() as nursery:
        for tier in world.tiers.values():
            await nursery.start(tier.run)
        await nursery.start(world.desk.run)
        yield world.client()
        nursery.cancel_scope.cancel()


def operation(path: str) -> Any:
    """The one operation of a path; where it has several, the one of ``"METHOD path"``."""
    method, _, rest = path.rpartition(" ")
    item = DOCUMENT["paths"][rest]
    if method:
        return item[method.lower()]
    (found,) = (each for name, each in item.items() if name != "parameters")
    return found


def described(path: str, status: int) -> Any:
    """What the document says of one answer."""
    return resolve(DOCUMENT, operation(path)["responses"][str(status)])


def codes_of(path: str) -> set[str]:
    """The error codes that an operation may be answered."""
    return {
        code
        for status in operation(path)["responses"]
        for code in described(path, int(status))["content"]
        .get(CONTENT_TYPE, {})
        .get("examples", ())
    }


def assert_as_described(path: str, answer: Answer) -> None:
    """An answer's status, type, body, code and headers are what the document says."""
    assert_is(described(path, answer.status), answer)


def assert_is(response: Any, answer: Answer) -> None:
    """An answer is the one that a response object describes."""
    named = {name.lower() for name in response["headers"]}
    assert answer.headers.keys() - GENERAL_HEADERS <= named
    if answer.status == 204:
        assert (answer.body, response["content"]) == (b"", {})
        return
    content = response["content"][answer.headers["content-type"]]
    if "json" in answer.headers["content-type"]:
        check(DOCUMENT, content["schema"], answer.json())
    if answer.headers["content-type"] == CONTENT_TYPE:
        assert answer.json()["code"] in content["examples"]
