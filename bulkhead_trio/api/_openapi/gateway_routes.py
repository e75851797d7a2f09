"""The operations of routes."""

from __future__ import annotations

import msgspec

from bulkhead_trio.api._openapi._admin_schemas import EXAMPLE_ROUTE_ID, EXAMPLE_TENANT_ID
from bulkhead_trio.api._openapi._administration import (
    MOMENT,
    administration,
    nothing,
    page_of,
    schema,
)
from bulkhead_trio.api._openapi._objects import JSON
from bulkhead_trio.api._openapi.operation import Operation, answer
from bulkhead_trio.gateway.spec import read_spec, spec_json

_ONE = "/admin/routes/{id}"
_TARGET = f"/admin/routes/{EXAMPLE_ROUTE_ID}"

_NEW: JSON = {
    "tenantId": EXAMPLE_TENANT_ID,
    "method": ["GET", "HEAD"],
    "path": "/api/users",
    "pathType": "prefix",
    "upstreams": [
        {"url": "https://users-1.example.com", "weight": 3},
        {"url": "https://users-2.example.com", "weight": 1},
    ],
    "loadBalancing": "weighted",
    "resilience": {
        "circuitBreaker": {"enabled": True, "failureThreshold": 5, "timeout": 30000},
        "retry": {"enabled": True, "maxRetries": 3, "baseDelayMs": 100, "maxDelayMs": 1000},
        "timeout": {"default": 10000, "byMethod": {"GET": 5000}},
    },
}
_ROUTE: JSON = {
    "id": EXAMPLE_ROUTE_ID,
    **msgspec.json.decode(spec_json(read_spec(msgspec.json.encode(_NEW)))),
    "createdAt": MOMENT,
    "updatedAt": MOMENT,
    "version": 1,
}


def route_operations() -> tuple[Operation, ...]:
    """In the order in which a reader wants them."""
    return (_post(), _list(), *_one(), _health())


def _post() -> Operation:
    return administration(
        "post",
        "/admin/routes",
        "postRoute",
        tag="Routes",
        summary="Make a route",
        description="Everything under `resilience` is off unless it is there. What cannot work (a "
        "pattern, a URL that leads inside, a header that is not a route's to set) is refused now, "
        "with the path of each mistake.",
        body=("NewRoute", _NEW),
        answers={
            "201": answer("It is made.", schema("Route"), _ROUTE, headers=("ETag", "Location"))
        },
        changes=True,
        label="Two upstreams, three to one",
        target="/admin/routes",
    )


def _list() -> Operation:
    return administration(
        "get",
        "/admin/tenants/{id}/routes",
        "getRoutes",
        tag="Routes",
        summary="List a tenant's routes",
        description="Newest first.",
        parameters=("tenantId", "pageLimit", "cursor"),
        answers=page_of("RoutePage", _ROUTE),
        label="The newest",
        target=f"/admin/tenants/{EXAMPLE_TENANT_ID}/routes?limit=20",
    )


def _one() -> tuple[Operation, ...]:
    after = {**_ROUTE, "loadBalancing": "least-connections", "version": 2}
    return (
        administration(
            "get",
            _ONE,
            "getRoute",
            tag="Routes",
            summary="One route",
            description="As it was saved, secrets in its headers included.",
            parameters=("routeId",),
            answers={"200": answer("The route.", schema("Route"), _ROUTE, headers=("ETag",))},
            label="Ask",
            target=_TARGET,
        ),
        administration(
            "patch",
            _ONE,
            "patchRoute",
            tag="Routes",
            summary="Change a route",
            description="A JSON merge patch. Requests under way end as they began. An upstream "
            "that stays keeps its breaker, its health and its bulkhead.",
            parameters=("routeId", "If-Match"),
            body=("RoutePatch", {"loadBalancing": "least-connections"}),
            is_patch=True,
            changes=True,
            answers={"200": answer("As it is now.", schema("Route"), after, headers=("ETag",))},
            label="Another way to balance",
            target=_TARGET,
        ),
        administration(
            "delete",
            _ONE,
            "deleteRoute",
            tag="Routes",
            summary="Delete a route",
            description="Requests under way end as they began.",
            parameters=("routeId", "If-Match"),
            answers=nothing("It is deleted."),
            changes=True,
            label="For good",
            target=_TARGET,
        ),
    )


def _health() -> Operation:
    upstream = {
        "url": "https://users-1.example.com",
        "weight": 3,
        "healthy": True,
        "state": "healthy",
        "lastCheck": MOMENT,
        "consecutiveSuccesses": 12,
        "consecutiveFailures": 0,
        "failedRequests": 0,
        "ejectedUntil": None,
        "ejections": 0,
        "inFlight": 2,
        "circuitBreaker": {"state": "CLOSED", "failures": 0, "retryAfter": 0},
    }
    report = {"routeId": EXAMPLE_ROUTE_ID, "healthy": True, "upstreams": [upstream]}
    return administration(
        "get",
        f"{_ONE}/health",
        "getRouteHealth",
        tag="Routes",
        summary="How a route's upstreams are",
        description="As the instance that answers finds them. An upstream of which nothing is "
        "known yet is `unknown`, and gets requests.",
        parameters=("routeId",),
        answers={"200": answer("Now.", schema("RouteHealth"), report)},
        label="Ask",
        target=f"{_TARGET}/health",
    )
