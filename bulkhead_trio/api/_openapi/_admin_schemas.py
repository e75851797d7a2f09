"""What the operations under ``/admin`` share: their parameters, and the bodies of tenants."""

from __future__ import annotations

from collections.abc import Sequence

from bulkhead_trio.api._openapi._objects import JSON, counted, described_object
from bulkhead_trio.api._openapi._route_schemas import route_schemas
from bulkhead_trio.database.pages import DEFAULT_LIMIT, MOST_ITEMS
from bulkhead_trio.tenancy.documents import (
    HIGHEST_LIMIT,
    HIGHEST_WEIGHT,
    LONGEST_NAME,
    LONGEST_WINDOW_SECONDS,
    SHORTEST_WINDOW_SECONDS,
)

EXAMPLE_TENANT_ID = "6f1c1f9e-3f0b-4f0e-9a55-0d2a3e6b7c11"
EXAMPLE_ROUTE_ID = "b0a5d9a4-7c63-4f5e-8f0e-5f3c1d2e4a77"
EXAMPLE_KEY_ID = "3f0c9d2b51a84e7796d0c1aa"

_UUID: JSON = {"type": "string", "format": "uuid"}
_MOMENT: JSON = {"type": "string", "format": "date-time"}
_MAYBE_MOMENT: JSON = {"type": ["string", "null"], "format": "date-time"}


def admin_parameters() -> JSON:
    """For ``components.parameters``."""
    return {
        "tenantId": _in_path("id", "The tenant's id.", _UUID, EXAMPLE_TENANT_ID),
        "routeId": _in_path("id", "The route's id.", _UUID, EXAMPLE_ROUTE_ID),
        "keyId": _in_path("keyId", "The key's id.", {"type": "string"}, EXAMPLE_KEY_ID),
        "pageLimit": {
            "name": "limit",
            "in": "query",
            "description": "The most items to answer with.",
            "schema": {
                "type": "integer",
                "minimum": 1,
                "maximum": MOST_ITEMS,
                "default": DEFAULT_LIMIT,
            },
            "example": 20,
        },
        "cursor": {
            "name": "cursor",
            "in": "query",
            "description": "The `nextCursor` of the page before; absent for the first.",
            "schema": {"type": "string"},
        },
        "auditTenant": {
            "name": "tenantId",
            "in": "query",
            "description": "Only changes to this tenant, its keys and its routes.",
            "schema": dict(_UUID),
        },
        "If-Match": {
            "name": "If-Match",
            "in": "header",
            "description": "The `ETag` that the change is meant for: if somebody was quicker, it "
            "is refused with `conflict`. Without it, or with `*`, the last one wins.",
            "schema": {"type": "string"},
            "example": '"3"',
        },
    }


def admin_schemas(tiers: Sequence[str]) -> JSON:
    """For ``components.schemas``."""
    written = _tenant_members(tiers)
    kept = {
        "id": dict(_UUID),
        **{
            name: {k: v for k, v in each.items() if k != "default"}
            for name, each in written.items()
        },
        "createdAt": dict(_MOMENT),
        "updatedAt": dict(_MOMENT),
        "version": counted("One more with each change; `ETag` names it."),
    }
    with_keys = {"keys": {"type": "array", "items": _ref("Key"), "description": "All there are."}}
    secret = {
        "apiKey": {
            "type": "string",
            "description": "The key for `X-API-Key`. Shown this once: the server keeps a digest "
            "only.",
        }
    }
    key = {
        "id": {"type": "string", "description": "What the key's text begins with, after `bh_`."},
        "tenantId": dict(_UUID),
        "createdAt": dict(_MOMENT),
        "lastUsedAt": {**_MAYBE_MOMENT, "description": "Some seconds behind; null: never."},
        "revokedAt": {
            **_MAYBE_MOMENT,
            "description": "Since when it opens nothing; null: it does.",
        },
    }
    return {
        "NewTenant": {
            "type": "object",
            "description": "A tenant to be made.",
            "required": ["name", "tier"],
            "properties": written,
        },
        "TenantPatch": {
            "type": "object",
            "description": "What to change, as a JSON merge patch (RFC 7396): what is absent "
            "stays, null takes away.",
            "properties": {
                name: {k: v for k, v in each.items() if k != "default"}
                for name, each in written.items()
            },
        },
        "Tenant": described_object("A tenant.", kept),
        "TenantWithKeys": described_object("A tenant and its keys.", {**kept, **with_keys}),
        "CreatedTenant": described_object("A tenant and its first key.", {**kept, **secret}),
        "Key": described_object("What may be known of an API key.", key),
        "CreatedKey": described_object("A new API key.", {**key, **secret}),
        "TenantPage": _page("Tenants, newest first.", "Tenant"),
        "RoutePage": _page("Routes, newest first.", "Route"),
        "AuditPage": _page("Changes, newest first.", "AuditEntry"),
        "AuditEntry": _audit_entry(),
        **route_schemas(),
    }


def _tenant_members(tiers: Sequence[str]) -> JSON:
    limit = {
        "limit": {"type": "integer", "minimum": 1, "maximum": HIGHEST_LIMIT},
        "windowSeconds": {
            "type": "number",
            "minimum": SHORTEST_WINDOW_SECONDS,
            "maximum": int(LONGEST_WINDOW_SECONDS),
        },
    }
    return {
        "name": {
            "type": "string",
            "minLength": 1,
            "maxLength": LONGEST_NAME,
            "description": "For people; several tenants may have the same.",
        },
        "tier": {
            "type": "string",
            "enum": list(tiers),
            "description": "Whose compartment and connections its requests have.",
        },
        "active": {
            "type": "boolean",
            "default": True,
            "description": "While false, its keys are refused with `tenant_inactive`.",
        },
        "rateLimit": {
            **described_object("So many requests in any so many seconds; null: no limit.", limit),
            "type": ["object", "null"],
        },
        "weight": {
            "type": "integer",
            "minimum": 1,
            "maximum": HIGHEST_WEIGHT,
            "default": 1,
            "description": "Its share of the tier, beside the weights of the tier's other tenants.",
        },
    }


def _audit_entry() -> JSON:
    record = {
        "type": ["object", "null"],
        "description": "The record as it was, secrets masked; null where there was none.",
    }
    return described_object(
        "One change.",
        {
            "id": counted("Higher ones are of later changes."),
            "at": dict(_MOMENT),
            "who": {"type": "string", "description": "Which admin key from where, or which user."},
            "requestId": {"type": ["string", "null"], "description": "Of the request that asked."},
            "action": {
                "type": "string",
                "enum": [
                    "tenant.create", "tenant.update", "tenant.delete", "key.create", "key.revoke",
                    "route.create", "route.update", "route.delete",
                ],
            },
            "subjectId": {"type": "string", "description": "Of the tenant, the key or the route."},
            "tenantId": dict(_UUID),
            "before": record,
            "after": {**record, "description": "As it is since; null where it was deleted."},
        },
    )  # fmt: skip


def _page(description: str, item: str) -> JSON:
    return described_object(
        description,
        {
            "items": {"type": "array", "items": _ref(item)},
            "nextCursor": {
                "type": ["string", "null"],
                "description": "Send it as `cursor` for the next page; null: this is the last.",
            },
        },
    )


def _in_path(name: str, description: str, schema: JSON, example: str) -> JSON:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": dict(schema),
        "example": example,
    }


def _ref(name: str) -> JSON:
    return {"$ref": f"#/components/schemas/{name}"}
