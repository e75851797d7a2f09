"""Deliveries and notifications as people see them, and what is asked for of them.

Ids are UUIDs here; `bulkhead_trio.database._public_id_rules` says how the outside sees them.
"""

from __future__ import annotations

import datetime
from typing import Literal
from uuid import UUID

import msgspec

from bulkhead_trio.database._cursor_rules import Cursor

DeliveryState = Literal["pending", "retrying", "delivered", "dead"]
"""``pending``: not tried yet; ``retrying``: tried, and to be tried again; ``delivered`` and
``dead`` are ends, from which only a replay leads back, to ``pending``."""


class DeliveryRecord(msgspec.Struct, frozen=True):
    """One event for one endpoint.

    Attributes:
        attempts: tries so far, those before a replay included.
        next_at: when it is tried next, at the earliest; ``None``: at once, or never again.
        ended_at: when it was delivered or given up.
    """

    id: UUID
    event_id: UUID
    webhook_id: UUID
    tenant_id: UUID
    event_type: str
    state: DeliveryState
    attempts: int
    created_at: datetime.datetime
    next_at: datetime.datetime | None
    ended_at: datetime.datetime | None


class AttemptRecord(msgspec.Struct, frozen=True):
    """One try.

    Attributes:
        number: 1 for the first; the store counts, and what is said here on the way in is not
            looked at.
        at: when it began.
        status: of the answer, if there was one.
        error: what went wrong, for people.
        response: the beginning of the answer's body.
    """

    number: int
    at: datetime.datetime
    status: int | None
    error: str | None
    duration_ms: float
    response: str | None


class DeliveryFilter(msgspec.Struct, frozen=True):
    """Which deliveries; what is ``None`` is not asked about.

    Attributes:
        event_type: exactly this one, or ``order.*`` for all that begin so.
        since: made then or later.
        until: made before.
    """

    state: DeliveryState | None = None
    event_id: UUID | None = None
    webhook_id: UUID | None = None
    event_type: str | None = None
    since: datetime.datetime | None = None
    until: datetime.datetime | None = None


class NotificationDraft(msgspec.Struct, frozen=True):
    """A message to be sent.

    Attributes:
        channel: such as ``smtp``.
        recipient: in the channel's own form.
        idempotency_key: the tenant's own name for it; a second one of that name is the first.
    """

    tenant_id: UUID
    channel: str
    recipient: str
    subject: str
    body: str
    idempotency_key: str | None = None

    def __repr__(self) -> str:
        return f"NotificationDraft(tenant_id={self.tenant_id!r}, channel={self.channel!r})"


class NotificationRecord(msgspec.Struct, frozen=True):
    """A message as it is kept.

    Attributes:
        state: as a delivery's.
        attempts: tries so far.
    """

    id: UUID
    tenant_id: UUID
    channel: str
    recipient: str
    subject: str
    body: str
    state: DeliveryState
    attempts: int
    created_at: datetime.datetime
    next_at: datetime.datetime | None
    ended_at: datetime.datetime | None

    def __repr__(self) -> str:
        return f"NotificationRecord(id={self.id!r}, channel={self.channel!r}, state={self.state!r})"


class NotificationFilter(msgspec.Struct, frozen=True):
    """Which notifications; what is ``None`` is not asked about.

    Attributes:
        since: made then or later.
        until: made before.
    """

    state: DeliveryState | None = None
    channel: str | None = None
    since: datetime.datetime | None = None
    until: datetime.datetime | None = None


class Replayed(msgspec.Struct, frozen=True):
    """What one part of a replay has done.

    Attributes:
        items: how many deliveries or notifications are to be made once more.
        next_cursor: where the next part begins; ``None``: this was the last.
    """

    items: int
    next_cursor: Cursor | None


class Pruned(msgspec.Struct, frozen=True):
    """What one round of pruning has done.

    Attributes:
        deliveries: deleted, with their attempts.
        notifications: deleted, with their attempts.
        events: deleted, which have no delivery any more.
        given_up: deliveries that had waited for a disabled endpoint for as long as any are kept.
        has_more: whether another round would find more.
    """

    deliveries: int
    notifications: int
    events: int
    given_up: int
    has_more: bool
