"""Every operation. Whether they are what the routes really answer, tests decide."""

from __future__ import annotations

from collections.abc import Sequence

from bulkhead_trio.api._openapi.components import QUOTA_HEADERS
from bulkhead_trio.api._openapi.deliveries import (
    dead_letter_operations,
    delivery_metrics_operation,
    delivery_operations,
    event_operations,
    notification_operations,
)
from bulkhead_trio.api._openapi.errors import JSON
from bulkhead_trio.api._openapi.gateway_routes import route_operations
from bulkhead_trio.api._openapi.operation import Operation, answer, curl, samples_with_key
from bulkhead_trio.api._openapi.orders import order_operations
from bulkhead_trio.api._openapi.tenants import audit_operations, tenant_operations
from bulkhead_trio.api._openapi.webhooks import webhook_operations
from bulkhead_trio.api.metrics import PROMETHEUS_TEXT

_DATA_CODES = (
    "tenant_tier_missing", "tenant_tier_invalid", "invalid_header", "bad_request",
    "api_key_missing", "api_key_invalid", "tenant_inactive", "rate_limited", "circuit_open",
    "bulkhead_full", "deadline_unreachable", "shed", "database_unavailable", "deadline_exceeded",
)  # fmt: skip
_ADMIN_CODES = ("admin_key_missing", "admin_key_invalid", "rate_limited")


def operations(tiers: Sequence[str]) -> tuple[Operation, ...]:
    """All of them, in the order in which a reader wants them.

    Args:
        tiers: the names of the tiers, at least one.
    """
    return (
        _data(tiers),
        *order_operations(),
        *event_operations(),
        *webhook_operations(),
        *delivery_operations(),
        *dead_letter_operations(),
        *notification_operations(),
        *tenant_operations(tiers[0]),
        *route_operations(),
        *audit_operations(tiers[0]),
        *_probes(),
        *_metrics(tiers[0]),
        delivery_metrics_operation(),
        *_description(),
    )


def _data(tiers: Sequence[str]) -> Operation:
    first, last = tiers[0], tiers[-1]
    row = {
        "id": 1,
        "tier": first,
        "payload": {"message": f"{first.capitalize()} tier data point 1"},
        "created_at": "2026-02-11T12:00:00.000Z",
    }
    rows = {"type": "array", "items": {"$ref": "#/components/schemas/Row"}}
    return Operation(
        path="/api/data",
        id="getData",
        tag="Data",
        summary="The tier's rows, oldest id first",
        description="Checked in this order: whose tier is it, its rate limit, its breaker, its "
        "compartment, then the database. A tier that runs out of something refuses requests of its "
        "own only.",
        parameters=("X-Tenant-Tier", "limit", "force_error", "X-Request-Timeout"),
        key="apiKey",
        answers={"200": answer("The rows.", rows, [row], headers=QUOTA_HEADERS)},
        codes=_DATA_CODES,
        has_quota=True,
        samples=(
            ("A tier's rows", curl("/api/data", f"X-Tenant-Tier: {first}")),
            ("Only three", curl("/api/data?limit=3", f"X-Tenant-Tier: {last}")),
            (
                "With half a second to answer",
                curl("/api/data", f"X-Tenant-Tier: {last}", "X-Request-Timeout: 0.5"),
            ),
            (
                "A failing database: some of these open the tier's breaker",
                curl("/api/data?force_error=true", f"X-Tenant-Tier: {first}"),
            ),
        ),
    )


def _probes() -> tuple[Operation, ...]:
    readiness = {"$ref": "#/components/schemas/Readiness"}
    return (
        Operation(
            path="/health",
            id="getHealth",
            tag="Probes",
            summary="Is the process alive?",
            description="Asks nothing else, so that a database which is away never makes anybody "
            "restart a healthy process.",
            answers={
                "200": answer(
                    "It is.", {"$ref": "#/components/schemas/Health"}, {"status": "healthy"}
                )
            },
            samples=(("Ask", curl("/health")),),
        ),
        Operation(
            path="/ready",
            id="getReady",
            tag="Probes",
            summary="Should it get traffic?",
            description="Yes when everything that it depends on answers and it is not shutting "
            "down. An answer may be a second old.",
            answers={
                "200": answer(
                    "It should.", readiness, {"status": "ready", "checks": {"database": "ok"}}
                ),
                "503": answer(
                    "It should not.",
                    readiness,
                    {"status": "not_ready", "checks": {"database": "unavailable"}},
                ),
            },
            samples=(("Ask", curl("/ready")),),
        ),
    )


def _metrics(tier: str) -> tuple[Operation, ...]:
    by_tier = {
        "type": "object",
        "description": "One member a tier.",
        "additionalProperties": {"$ref": "#/components/schemas/TierStatistics"},
        "x-additionalPropertiesName": "tier",
    }
    exposition = f'# TYPE bulkhead_active gauge\nbulkhead_active{{tier="{tier}"}} 0.0\n'
    return (
        Operation(
            path="/metrics/bulkheads",
            id="getBulkheads",
            tag="Metrics",
            summary="What every tier holds now",
            description="Reads statistics only: it answers while every tier is saturated.",
            key="adminKey",
            answers={"200": answer("By tier.", by_tier, {tier: _tier_at_rest()})},
            codes=_ADMIN_CODES,
            samples=samples_with_key("/metrics/bulkheads"),
        ),
        Operation(
            path="/metrics",
            id="getMetrics",
            tag="Metrics",
            summary="The same for Prometheus, and latency histograms",
            description="Names begin with `bulkhead_`; labels are `tier`, `reason`, `outcome` and "
            "`state`.",
            key="adminKey",
            answers={
                "200": answer(
                    "Prometheus's text format.",
                    {"type": "string"},
                    exposition,
                    media_type=PROMETHEUS_TEXT,
                )
            },
            codes=_ADMIN_CODES,
            samples=samples_with_key("/metrics"),
        ),
    )


def _description() -> tuple[Operation, ...]:
    return (
        Operation(
            path="/openapi.json",
            id="getOpenapi",
            tag="Description",
            summary="This description as an OpenAPI 3.1 document",
            description="For generators of clients, and for whatever else reads OpenAPI.",
            key="adminKey",
            answers={"200": answer("The document.", {"type": "object"}, None)},
            codes=_ADMIN_CODES,
            samples=samples_with_key("/openapi.json"),
        ),
        Operation(
            path="/docs",
            id="getDocs",
            tag="Description",
            summary="This description as a page",
            description="One page without scripts, which loads nothing from anywhere.",
            key="adminKey",
            answers={
                "200": answer(
                    "The page.",
                    {"type": "string"},
                    None,
                    media_type="text/html; charset=utf-8",
                    headers=("Content-Security-Policy",),
                )
            },
            codes=_ADMIN_CODES,
            samples=samples_with_key("/docs"),
        ),
    )


def _tier_at_rest() -> JSON:
    return {
        "connectionPool": {"active": 0, "idle": 1, "pending": 0, "max": 5},
        "threadPool": {"active": 0, "queued": 0, "poolSize": 10, "queueSize": 20},
        "circuitBreaker": {"state": "CLOSED", "failures": 0, "retryAfter": 0.0},
        "rateLimit": {"limit": 100, "remaining": 100, "windowSeconds": 60},
        "rejected": {
            "rate_limited": 0,
            "bulkhead_full": 0,
            "circuit_open": 0,
            "deadline": 0,
            "shed": 0,
        },
        "outcomes": {"ok": 12},
        "latencyMs": {"p50": 1.2, "p95": 3.4, "p99": 9.9},
    }
