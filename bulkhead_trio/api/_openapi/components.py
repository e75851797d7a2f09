"""What operations share: parameters, response headers, schemas of bodies, and who may ask."""

from __future__ import annotations

from collections.abc import Sequence

from bulkhead_trio.api._openapi._admin_schemas import (
    EXAMPLE_TENANT_ID,
    admin_parameters,
    admin_schemas,
)
from bulkhead_trio.api._openapi._delivery_schemas import delivery_parameters, delivery_schemas
from bulkhead_trio.api._openapi._objects import counted, described_object, measured
from bulkhead_trio.api._openapi._order_schemas import order_schemas
from bulkhead_trio.api._openapi.errors import JSON, problem_schema
from bulkhead_trio.api.data import DEFAULT_LIMIT, LARGEST_LIMIT

QUOTA_HEADERS = (
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "RateLimit-Policy",
    "RateLimit",
)

_TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
_TEXT = {"type": "string"}


def parameters(tiers: Sequence[str]) -> JSON:
    """For ``components.parameters``, by the parameter's name."""
    return {
        "X-Tenant-Tier": {
            "name": "X-Tenant-Tier",
            "in": "header",
            "description": "Your tier. Needed, unless an `X-API-Key` says it; trusted only while "
            "the server's `TRUST_TIER_HEADER` is true, which it is not in production.",
            "schema": {"type": "string", "enum": list(tiers)},
            "example": tiers[0],
        },
        "limit": {
            "name": "limit",
            "in": "query",
            "description": "The most rows to answer with.",
            "schema": {
                "type": "integer",
                "minimum": 1,
                "maximum": LARGEST_LIMIT,
                "default": DEFAULT_LIMIT,
            },
            "example": 3,
        },
        "force_error": {
            "name": "force_error",
            "in": "query",
            "description": "`true` makes the tier's database call fail, which its breaker counts: "
            "a way to see the isolation. Does nothing where configuration says so, as it does in "
            "production.",
            "schema": {"type": "boolean", "default": False},
        },
        "X-User-Id": {
            "name": "X-User-Id",
            "in": "header",
            "required": True,
            "description": "Whose order it is, 1 to 128 visible ASCII characters; quotas are a "
            "user's own.",
            "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
            "example": "user-7",
        },
        "orderId": {
            "name": "orderId",
            "in": "path",
            "required": True,
            "description": "The order's id, as it was sent.",
            "schema": {"type": "string", "minLength": 1},
            "example": "order-1",
        },
        "X-Request-Timeout": {
            "name": "X-Request-Timeout",
            "in": "header",
            "description": "The longest that you want to wait, in decimal seconds above 0. The "
            "deadline is the smaller of this and the server's own; it holds for queueing and the "
            "database together.",
            "schema": {"type": "string", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,9})?$"},
            "example": "2.5",
        },
        "X-Request-Id": {
            "name": "X-Request-Id",
            "in": "header",
            "description": "Your name for this request, 1 to 128 visible ASCII characters; the "
            "answer and the server's log lines repeat it. Anything else is replaced.",
            "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
            "example": "checkout-42",
        },
        "traceparent": {
            "name": "traceparent",
            "in": "header",
            "description": "A W3C trace context, which the server's log lines then name.",
            "schema": dict(_TEXT),
            "example": _TRACEPARENT,
        },
        **admin_parameters(),
        **delivery_parameters(),
    }


def headers(tiers: Sequence[str]) -> JSON:
    """For ``components.headers``: those of responses, by name."""
    whole = {"type": "integer", "minimum": 0}
    positive = {"type": "integer", "minimum": 1}
    quota = f'"{tiers[0]}"'
    described = (
        ("X-Request-Id", "The request's id: the caller's, or a new one.", _TEXT, "checkout-42"),
        (
            "Retry-After",
            "Seconds to wait before another try; the same as `retryAfter`.",
            positive,
            12,
        ),
        ("WWW-Authenticate", "Which key is asked for.", _TEXT, None),
        ("Allow", "The methods that the path has.", _TEXT, "HEAD, OPTIONS, GET"),
        ("ETag", "Names the version of the object; send it back as `If-Match`.", _TEXT, '"3"'),
        ("Location", "Where what was made is.", _TEXT, f"/admin/tenants/{EXAMPLE_TENANT_ID}"),
        ("Content-Security-Policy", "Lets the page load nothing at all.", _TEXT, None),
        ("X-RateLimit-Limit", "Requests that the tier may make in a window.", positive, 100),
        ("X-RateLimit-Remaining", "Requests that are left in this window.", whole, 50),
        (
            "X-RateLimit-Reset",
            "When the quota is whole again, in Unix seconds.",
            whole,
            1770811260,
        ),
        (
            "RateLimit-Policy",
            "The quota as the IETF draft writes it: `q` requests in `w` seconds.",
            _TEXT,
            f"{quota};q=100;w=60",
        ),
        (
            "RateLimit",
            "What is left of it: `r` requests, whole again in `t` seconds.",
            _TEXT,
            f"{quota};r=50;t=30",
        ),
    )
    return {
        name: {
            "description": text + _when_sent(name),
            "schema": dict(schema),
            **({} if example is None else {"example": example}),
        }
        for name, text, schema, example in described
    }


def _when_sent(name: str) -> str:
    return " Sent for tiers that have a rate limit." if name in QUOTA_HEADERS else ""


def security_schemes() -> JSON:
    """For ``components.securitySchemes``."""
    return {
        "apiKey": {
            "type": "apiKey",
            "in": "header",
            "name": "X-API-Key",
            "description": "A tenant's key, whose tier then counts; with `X-Tenant-Tier` beside "
            "it, they must agree.",
        },
        "adminKey": {
            "type": "apiKey",
            "in": "header",
            "name": "X-Admin-Key",
            "description": "The operator's key. Always asked for under `/admin`. Elsewhere unless "
            "`METRICS_PUBLIC` is true, which it is not in production, and not on the admin "
            "listener. An address that sends many wrong ones has to wait.",
        },
    }


def schemas(tiers: Sequence[str]) -> JSON:
    """For ``components.schemas``: the bodies."""
    return {
        "Problem": problem_schema(),
        "Health": described_object("The process is alive.", {"status": {"const": "healthy"}}),
        "Readiness": _readiness(),
        "Row": _row(),
        "TierStatistics": _tier_statistics(),
        **order_schemas(),
        **delivery_schemas(),
        **admin_schemas(tiers),
    }


def _readiness() -> JSON:
    return described_object(
        "Whether the server should get traffic.",
        {
            "status": {"type": "string", "enum": ["ready", "not_ready"]},
            "checks": {
                "type": "object",
                "description": "What the server depends on, by name; and `server`, while draining.",
                "additionalProperties": {
                    "type": "string",
                    "enum": ["ok", "unavailable", "timeout", "draining"],
                },
                "x-additionalPropertiesName": "check",
            },
        },
    )


def _row() -> JSON:
    return described_object(
        "One row of a tier's data.",
        {
            "id": {"type": "integer", "description": "Rows come in the order of their ids."},
            "tier": {"type": "string", "description": "Whose row it is."},
            "payload": {"description": "Any JSON value."},
            "created_at": {
                "type": "string",
                "format": "date-time",
                "description": "In UTC, with milliseconds.",
            },
        },
    )


def _tier_statistics() -> JSON:
    pool = {
        "active": counted("Connections in use, being made, or recovering."),
        "idle": counted("Connections that wait for a user."),
        "pending": counted("Requests that wait for a connection."),
        "max": counted("The hard limit of active and idle together."),
    }
    threads = {
        "active": counted("Requests that run."),
        "queued": counted("Requests that wait for a worker."),
        "poolSize": counted("Requests that may run at once."),
        "queueSize": counted("Requests that may wait; one more is refused."),
    }
    breaker = {
        "state": {
            "type": "string",
            "enum": ["CLOSED", "OPEN", "HALF_OPEN"],
            "description": "`HALF_OPEN`: the next call is the probe.",
        },
        "failures": counted("Failures since the last success."),
        "retryAfter": measured("What is left of the cooldown, in seconds."),
    }
    limit = {
        "limit": counted("Requests that the tier may make in a window."),
        "remaining": counted("Requests that are left in this window."),
        "windowSeconds": measured("How long a window is."),
    }
    rejected = {
        "rate_limited": counted("Because the quota was used up."),
        "bulkhead_full": counted("Because every worker and waiting place was taken."),
        "circuit_open": counted("Because the breaker was open."),
        "deadline": counted("Because the deadline had passed or could not be kept."),
        "shed": counted("Because the supervisor went down."),
    }
    latency = {name: measured("Milliseconds.") for name in ("p50", "p95", "p99")}
    whole = described_object(
        "What a tier holds now, and has counted since the server started.",
        {
            "connectionPool": described_object("The tier's own connections to PostgreSQL.", pool),
            "threadPool": described_object(
                "The tier's compartment: its workers and its queue.", threads
            ),
            "circuitBreaker": described_object(
                "The breaker in front of the tier's database calls.", breaker
            ),
            "rateLimit": described_object(
                "The tier's quota; null where it has none.", limit, type=["object", "null"]
            ),
            "rejected": described_object("Requests that were refused, by reason.", rejected),
            "outcomes": {
                "type": "object",
                "description": "All requests that ended: `ok`, `cancelled`, or an error's code.",
                "additionalProperties": counted("How many."),
                "x-additionalPropertiesName": "outcome",
            },
            "latencyMs": described_object("Of requests that were answered well.", latency),
        },
    )
    # Not required: a server that is one process does not say them.
    whole["properties"] |= _tier_shares(described_object("One worker's breaker.", breaker))
    return whole


def _tier_shares(breaker: JSON) -> JSON:
    """How the tier is divided among worker processes, where there are several."""
    share = {
        "worker": counted("The process's number, from 0."),
        "connections": counted("Its part of the hard limit of connections."),
        "workers": counted("Its part of the requests that may run at once."),
        "queue": counted("Its part of the requests that may wait."),
        "rateLimit": counted("Its part of the quota.", type=["integer", "null"]),
        "circuitBreaker": breaker,
    }
    return {
        "workers": counted("Worker processes; everything else here is of all of them together."),
        "missing": {
            "type": "array",
            "description": "The numbers of those that did not answer in time, and are left out.",
            "items": counted("A number, from 0."),
        },
        "share": {
            "type": "array",
            "description": "What each worker process that answered has of the tier.",
            "items": described_object("One worker process's part.", share),
        },
    }
