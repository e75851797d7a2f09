"""Events, as they are sent, kept and fanned out.

Ids are UUIDs here; `bulkhead_trio.database._public_id_rules` says how the outside sees them. JSON
is bytes, as it was sent.
"""

from __future__ import annotations

import datetime
from uuid import UUID

import msgspec


class EventDraft(msgspec.Struct, frozen=True):
    """An event to be accepted.

    Attributes:
        tenant_id: whose; ``None``: of all tenants of ``tier``.
        type: such as ``order.completed``.
        payload: JSON.
        idempotency_key: the tenant's own name for it; a second event of that name is the first.
        tier: of an event that belongs to a tier and to no tenant.
        webhook_id: the only endpoint that is to have it, whatever types that takes: a test;
            ``None``: every endpoint whose types match.
    """

    tenant_id: UUID | None
    type: str
    payload: bytes
    idempotency_key: str | None = None
    tier: str | None = None
    webhook_id: UUID | None = None


class EventRecord(msgspec.Struct, frozen=True):
    """An event as it is kept.

    Attributes:
        tenant_id: whose; ``None``: of all tenants of ``tier``.
        payload: JSON, as it was sent.
    """

    id: UUID
    tenant_id: UUID | None
    type: str
    payload: bytes
    created_at: datetime.datetime
    tier: str | None = None


class Added(msgspec.Struct, frozen=True):
    """An event is in the database.

    Attributes:
        id: of the event.
        is_new: not if it was there already, under the same idempotency key.
    """

    id: UUID
    is_new: bool


class Conflicted(msgspec.Struct, frozen=True):
    """An event is not kept: there is another one under its idempotency key.

    Attributes:
        id: of the event that is there.
    """

    id: UUID


class FannedOut(msgspec.Struct, frozen=True):
    """What one round of fan-out has done.

    Attributes:
        events: how many were taken out of the outbox; 0: it was empty.
        deliveries: how many were made of them.
    """

    events: int
    deliveries: int
