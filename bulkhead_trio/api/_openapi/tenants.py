"""The operations of tenants, their keys, and the audit."""

from __future__ import annotations

from bulkhead_trio.api._openapi._admin_schemas import EXAMPLE_KEY_ID, EXAMPLE_TENANT_ID
from bulkhead_trio.api._openapi._administration import (
    BODY_CODES,
    MOMENT,
    administration,
    nothing,
    page_of,
    schema,
)
from bulkhead_trio.api._openapi._objects import JSON
from bulkhead_trio.api._openapi.operation import Operation, answer

_ONE = "/admin/tenants/{id}"
_SECRET = "Xq0m1vXyPq9pYkH1u3wN5o7Q2r4S6t8U0v2W4x6Y8z0"  # noqa: S105  nobody's
_AUTHOR = "admin:4f9a1c02 from 203.0.113.7"


def tenant_operations(tier: str) -> tuple[Operation, ...]:
    """In the order in which a reader wants them.

    Args:
        tier: one that exists.
    """
    new: JSON = {
        "name": "acme",
        "tier": tier,
        "rateLimit": {"limit": 100, "windowSeconds": 1},
        "weight": 2,
    }
    tenant: JSON = {
        "id": EXAMPLE_TENANT_ID,
        "name": "acme",
        "tier": tier,
        "active": True,
        "rateLimit": {"limit": 100, "windowSeconds": 1},
        "weight": 2,
        "createdAt": MOMENT,
        "updatedAt": MOMENT,
        "version": 1,
    }
    return (*_collection(new, tenant), *_one(tenant), *_keys())


def _collection(new: JSON, tenant: JSON) -> tuple[Operation, ...]:
    key = f"bh_{EXAMPLE_KEY_ID}_{_SECRET}"
    return (
        administration(
            "post",
            "/admin/tenants",
            "postTenant",
            tag="Tenants",
            summary="Make a tenant",
            description="Its first key is in the answer, and nowhere else ever again.",
            body=("NewTenant", new),
            answers={
                "201": answer(
                    "It is made.",
                    schema("CreatedTenant"),
                    {**tenant, "apiKey": key},
                    headers=("ETag", "Location"),
                )
            },
            changes=True,
            label="A tenant with a limit of its own",
            target="/admin/tenants",
        ),
        administration(
            "get",
            "/admin/tenants",
            "getTenants",
            tag="Tenants",
            summary="List tenants",
            description="Newest first.",
            parameters=("pageLimit", "cursor"),
            answers=page_of("TenantPage", tenant),
            label="The newest",
            target="/admin/tenants?limit=20",
        ),
    )


def _one(tenant: JSON) -> tuple[Operation, ...]:
    target = f"/admin/tenants/{EXAMPLE_TENANT_ID}"
    after = {**tenant, "weight": 5, "version": 2}
    return (
        administration(
            "get",
            _ONE,
            "getTenant",
            tag="Tenants",
            summary="One tenant and its keys",
            description="Of a key there is what may be known: neither its text nor its digest. "
            "`ETag` is the tenant's own: keys come and go without changing it.",
            parameters=("tenantId",),
            answers={
                "200": answer(
                    "The tenant.",
                    schema("TenantWithKeys"),
                    {**tenant, "keys": [_key()]},
                    headers=("ETag",),
                )
            },
            label="Ask",
            target=target,
        ),
        administration(
            "patch",
            _ONE,
            "patchTenant",
            tag="Tenants",
            summary="Change a tenant",
            description="A JSON merge patch. It holds for every instance within 5 seconds, and "
            "for this one at once.",
            parameters=("tenantId", "If-Match"),
            body=("TenantPatch", {"weight": 5}),
            is_patch=True,
            changes=True,
            answers={"200": answer("As it is now.", schema("Tenant"), after, headers=("ETag",))},
            label="Another weight",
            target=target,
        ),
        administration(
            "delete",
            _ONE,
            "deleteTenant",
            tag="Tenants",
            summary="Delete a tenant",
            description="Its keys and routes go with it; the audit stays.",
            parameters=("tenantId", "If-Match"),
            answers=nothing("It is deleted."),
            changes=True,
            label="For good",
            target=target,
        ),
    )


def _keys() -> tuple[Operation, ...]:
    keys = f"/admin/tenants/{EXAMPLE_TENANT_ID}/keys"
    created = {**_key(), "apiKey": f"bh_{EXAMPLE_KEY_ID}_{_SECRET}"}
    return (
        administration(
            "post",
            f"{_ONE}/keys",
            "postKey",
            tag="Tenants",
            summary="Give a tenant another key",
            description="The keys that it has stay good, so that it can change over without a "
            "gap; revoke them afterwards. The new one is in the answer, and nowhere else ever "
            "again.",
            parameters=("tenantId",),
            answers={
                "201": answer("It is made.", schema("CreatedKey"), created, headers=("Location",))
            },
            changes=True,
            codes=BODY_CODES,
            label="A new key",
            target=keys,
        ),
        administration(
            "delete",
            f"{_ONE}/keys/{{keyId}}",
            "deleteKey",
            tag="Tenants",
            summary="Revoke a key",
            description="It opens nothing any more, within 5 seconds on every instance; it stays "
            "in the list. Doing it again is no mistake.",
            parameters=("tenantId", "keyId"),
            answers=nothing("It is revoked."),
            label="Revoke one",
            target=f"{keys}/{EXAMPLE_KEY_ID}",
        ),
    )


def _key() -> JSON:
    return {
        "id": EXAMPLE_KEY_ID,
        "tenantId": EXAMPLE_TENANT_ID,
        "createdAt": MOMENT,
        "lastUsedAt": None,
        "revokedAt": None,
    }


def audit_operations(tier: str) -> tuple[Operation, ...]:
    """The one.

    Args:
        tier: one that exists.
    """
    entry: JSON = {
        "id": 42,
        "at": MOMENT,
        "who": _AUTHOR,
        "requestId": "checkout-42",
        "action": "tenant.update",
        "subjectId": EXAMPLE_TENANT_ID,
        "tenantId": EXAMPLE_TENANT_ID,
        "before": {"name": "acme", "tier": tier, "weight": 2},
        "after": {"name": "acme", "tier": tier, "weight": 5},
    }
    return (
        administration(
            "get",
            "/admin/audit",
            "getAudit",
            tag="Audit",
            summary="Who changed what",
            description="Every change of a tenant, a key or a route, however it was made, newest "
            "first. Secrets are masked.",
            parameters=("auditTenant", "pageLimit", "cursor"),
            answers=page_of("AuditPage", entry),
            label="The latest changes",
            target="/admin/audit?limit=20",
        ),
    )
