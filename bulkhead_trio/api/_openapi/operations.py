"""Every operation. Whether they are what the routes really answer, tests decide."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import attrs

from bulkhead_trio.api._openapi.components import QUOTA_HEADERS
from bulkhead_trio.api._openapi.errors import JSON, responses_of
from bulkhead_trio.api.edge import PROBES
from bulkhead_trio.api.metrics import PROMETHEUS_TEXT

DEFAULT_ADDRESS = "http://127.0.0.1:8080"
"""Where the server listens unless told otherwise; what the samples ask."""

_DATA_CODES = (
    "tenant_tier_missing", "tenant_tier_invalid", "invalid_header", "bad_request",
    "api_key_missing", "api_key_invalid", "rate_limited", "circuit_open", "bulkhead_full",
    "deadline_unreachable", "shed", "database_unavailable", "deadline_exceeded",
)  # fmt: skip
_ADMIN_CODES = ("admin_key_missing", "admin_key_invalid")

_QUOTA_STATUSES = (400, 429, 500, 503, 504)
"""The errors that come once the quota has been asked, and so carry its headers."""


@attrs.frozen(kw_only=True)
class Operation:
    """``GET`` of one path.

    Attributes:
        id: its ``operationId``.
        answers: what it answers that is no problem, by status.
        codes: its own error codes, besides those that any request can be answered.
        parameters: names in ``components.parameters``.
        key: the name of a security scheme that may be asked for.
        has_quota: whether answers carry a quota's headers.
        samples: how to try it: a label and a line for the shell each.
    """

    path: str
    id: str
    tag: str
    summary: str
    description: str
    answers: dict[str, JSON]
    codes: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    key: str | None = None
    has_quota: bool = False
    samples: tuple[tuple[str, str], ...]

    def described(self) -> JSON:
        """The operation object of the document."""
        operation: JSON = {
            "operationId": self.id,
            "tags": [self.tag],
            "summary": self.summary,
            "description": self.description,
        }
        if self.key is not None:
            operation["security"] = [{}, {self.key: []}]
        if self.parameters:
            operation["parameters"] = [
                {"$ref": f"#/components/parameters/{name}"} for name in self.parameters
            ]
        operation["responses"] = self._responses()
        operation["x-codeSamples"] = [
            {"lang": "Shell", "label": label, "source": line} for label, line in self.samples
        ]
        return operation

    def _responses(self) -> dict[str, JSON]:
        draining = () if self.path in PROBES else ("draining",)
        return responses_of(
            (*self.codes, *draining),
            answers=self.answers,
            headers=dict.fromkeys(_QUOTA_STATUSES, QUOTA_HEADERS) if self.has_quota else {},
        )


def operations(tiers: Sequence[str]) -> tuple[Operation, ...]:
    """All of them, in the order in which a reader wants them.

    Args:
        tiers: the names of the tiers, at least one.
    """
    return (
        _data(tiers),
        *_probes(),
        *_metrics(tiers[0]),
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
        answers={"200": _answer("The rows.", rows, [row], headers=QUOTA_HEADERS)},
        codes=_DATA_CODES,
        has_quota=True,
        samples=(
            ("A tier's rows", _curl("/api/data", f"X-Tenant-Tier: {first}")),
            ("Only three", _curl("/api/data?limit=3", f"X-Tenant-Tier: {last}")),
            (
                "With half a second to answer",
                _curl("/api/data", f"X-Tenant-Tier: {last}", "X-Request-Timeout: 0.5"),
            ),
            (
                "A failing database: some of these open the tier's breaker",
                _curl("/api/data?force_error=true", f"X-Tenant-Tier: {first}"),
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
                "200": _answer(
                    "It is.", {"$ref": "#/components/schemas/Health"}, {"status": "healthy"}
                )
            },
            samples=(("Ask", _curl("/health")),),
        ),
        Operation(
            path="/ready",
            id="getReady",
            tag="Probes",
            summary="Should it get traffic?",
            description="Yes when everything that it depends on answers and it is not shutting "
            "down. An answer may be a second old.",
            answers={
                "200": _answer(
                    "It should.", readiness, {"status": "ready", "checks": {"database": "ok"}}
                ),
                "503": _answer(
                    "It should not.",
                    readiness,
                    {"status": "not_ready", "checks": {"database": "unavailable"}},
                ),
            },
            samples=(("Ask", _curl("/ready")),),
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
            answers={"200": _answer("By tier.", by_tier, {tier: _tier_at_rest()})},
            codes=_ADMIN_CODES,
            samples=_samples_with_key("/metrics/bulkheads"),
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
                "200": _answer(
                    "Prometheus's text format.",
                    {"type": "string"},
                    exposition,
                    media_type=PROMETHEUS_TEXT,
                )
            },
            codes=_ADMIN_CODES,
            samples=_samples_with_key("/metrics"),
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
            answers={"200": _answer("The document.", {"type": "object"}, None)},
            codes=_ADMIN_CODES,
            samples=_samples_with_key("/openapi.json"),
        ),
        Operation(
            path="/docs",
            id="getDocs",
            tag="Description",
            summary="This description as a page",
            description="One page without scripts, which loads nothing from anywhere.",
            key="adminKey",
            answers={
                "200": _answer(
                    "The page.",
                    {"type": "string"},
                    None,
                    media_type="text/html; charset=utf-8",
                    headers=("Content-Security-Policy",),
                )
            },
            codes=_ADMIN_CODES,
            samples=_samples_with_key("/docs"),
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


def _answer(
    description: str,
    schema: JSON,
    example: object,
    *,
    media_type: str = "application/json",
    headers: Sequence[str] = (),
) -> JSON:
    content = {"schema": schema} if example is None else {"schema": schema, "example": example}
    return {
        "description": description,
        "headers": {
            name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-Id", *headers)
        },
        "content": {media_type: content},
    }


def _curl(target: str, *headers: str) -> str:
    words = ["curl", "-i", DEFAULT_ADDRESS + target]
    for header in headers:
        words += ["-H", header]
    return shlex.join(words)


def _samples_with_key(target: str) -> tuple[tuple[str, str], ...]:
    # The variable must be left for the shell to fill in, hence the double quotes.
    with_key = f'{_curl(target)} -H "X-Admin-Key: $ADMIN_API_KEY"'
    return (("Ask", _curl(target)), ("Where the admin key is asked for", with_key))
