"""Route documents for tests."""

from __future__ import annotations

import copy
from typing import Any

import msgspec

from bulkhead_trio.errors import InvalidBody
from bulkhead_trio.gateway.spec import RouteSpec, read_spec

TENANT = "8f0c7e9e-6a0a-4d0c-9b55-000000000001"

SMALL: dict[str, Any] = {
    "tenantId": TENANT,
    "path": "/api/users",
    "upstreams": [{"url": "http://127.0.0.1:3001"}],
}

FULL: dict[str, Any] = {
    "tenantId": TENANT,
    "method": "GET",
    "path": "/api/users",
    "pathType": "prefix",
    "stripPath": False,
    "upstreams": [
        {"url": "http://127.0.0.1:3001", "weight": 3},
        {"url": "http://127.0.0.1:3002", "weight": 1},
    ],
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
            "enabled": True,
            "failureThreshold": 5,
            "successThreshold": 2,
            "timeout": 30000,
        },
        "retry": {
            "enabled": True,
            "maxRetries": 3,
            "baseDelayMs": 1000,
            "maxDelayMs": 10000,
            "retryableStatusCodes": [500, 502, 503, 504],
        },
        "timeout": {"default": 10000, "byMethod": {"GET": 5000, "POST": 30000}},
        "healthCheck": {
            "enabled": True,
            "endpoint": "/health",
            "intervalMs": 30000,
            "timeoutMs": 5000,
            "healthyThreshold": 2,
            "unhealthyThreshold": 3,
        },
        "fallback": {
            "enabled": True,
            "statusCode": 503,
            "contentType": "application/json",
            "body": '{"error":"Service temporarily unavailable"}',
        },
        "bulkhead": {"enabled": True, "maxConcurrent": 64, "queueSize": 128},
    },
}
"""The contract's own example."""


def changed(*changes: tuple[str, Any]) -> dict[str, Any]:
    """The small document with members at dotted paths set."""
    document = copy.deepcopy(SMALL)
    for path, value in changes:
        place = document
        *names, last = path.split(".")
        for name in names:
            place = place.setdefault(name, {})
        place[last] = value
    return document


def read(document: Any) -> RouteSpec:
    return read_spec(msgspec.json.encode(document))


def mistakes(document: Any) -> dict[str, str]:
    """What is wrong with a document: messages by path; nothing where it is right."""
    found: tuple[dict[str, str], ...] = ()
    try:
        read(document)
    except InvalidBody as error:
        found = error.errors
    assert all(each.keys() == {"path", "message"} for each in found)
    assert len({(each["path"], each["message"]) for each in found}) == len(found)
    return {each["path"]: each["message"] for each in found}
