"""The document itself: what it is about, and its parts put together."""

from __future__ import annotations

from collections.abc import Sequence

from bulkhead_trio.api._openapi import components
from bulkhead_trio.api._openapi.errors import JSON, PROXIED, examples, shared_responses
from bulkhead_trio.api._openapi.operation import DEFAULT_ADDRESS
from bulkhead_trio.api._openapi.operations import operations

_ABOUT = f"""\
Every tier has a rate limit, a compartment, a circuit breaker and connections of its own, so that \
no tier can sink the others.

Errors are problem documents (RFC 9457). Programs should look at `code`, and where `Retry-After` \
is sent, wait that long. Every answer carries `X-Request-Id`. A path that has `GET` has `HEAD` and \
`OPTIONS` too.

Every path that is not described here, and is not below `/admin`, belongs to tenants. A request \
for one needs an API key in `X-API-Key`, and is passed on, whatever its method, to an upstream of \
the route that the key's tenant has for its method and path. Bodies stream both ways, WebSockets \
and server-sent events included, and the answer is the upstream's, or the route's fallback. What \
can be answered instead, besides what any request can be: \
{", ".join(f"`{code}`" for code in PROXIED)}.

More members may come to any JSON object; nothing that is described here is renamed."""

_TAGS = (
    ("Data", "What tenants ask for."),
    ("Orders", "Accepted once they are safe in the database, completed exactly once."),
    ("Events", "What has happened, for whoever wants to be told of it."),
    ("Webhooks", "Where to be told of events: signed, tried again for days, one after the other."),
    ("Deliveries", "Where each event went, every try included."),
    ("Dead letters", "What was given up, until it is tried again."),
    ("Notifications", "Messages to people and programs, by mail or HTTP."),
    ("Tenants", "For operators: who may come, with which keys and limits."),
    ("Routes", "For operators: where tenants' requests go, and what protects the way."),
    ("Audit", "For operators: who changed what."),
    ("Probes", "For whatever starts the server or sends it traffic."),
    ("Metrics", "The inside, for people, scripts and Prometheus. Answers while tiers are full."),
    ("Description", "This description, for programs and for people."),
)


def openapi_document(*, version: str, tiers: Sequence[str]) -> JSON:
    """OpenAPI 3.1, ready to be encoded.

    Args:
        version: the server's.
        tiers: the names of the tiers that it has, at least one.
    """
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Bulkhead Trio",
            "summary": "A multi-tenant API in which no tier can sink the others.",
            "description": _ABOUT,
            "version": version,
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [
            {"url": "/", "description": "The server that this comes from."},
            {"url": DEFAULT_ADDRESS, "description": "Where a server listens by default."},
        ],
        "tags": [{"name": name, "description": text} for name, text in _TAGS],
        "paths": _paths(tiers),
        "components": {
            "schemas": components.schemas(tiers),
            "responses": shared_responses(),
            "parameters": components.parameters(tiers),
            "examples": examples(tiers[0]),
            "headers": components.headers(tiers),
            "securitySchemes": components.security_schemes(),
        },
    }


def _paths(tiers: Sequence[str]) -> JSON:
    everywhere = [
        {"$ref": "#/components/parameters/X-Request-Id"},
        {"$ref": "#/components/parameters/traceparent"},
    ]
    paths: JSON = {}
    for operation in operations(tiers):
        item = paths.setdefault(operation.path, {"parameters": everywhere})
        item[operation.method] = operation.described()
    return paths
