"""What events, webhooks, deliveries and notifications are in the database, and what is asked of it.

Ids are UUIDs here; `bulkhead_trio.database._public_id_rules` says how the outside sees them. JSON
is bytes, as it was sent.
"""

from __future__ import annotations

import datetime
import enum
from typing import Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from bulkhead_trio.database._cursor_rules import Cursor

DeliveryState = Literal["pending", "retrying", "delivered", "dead"]
"""``pending``: not tried yet; ``retrying``: tried, and to be tried again; ``delivered`` and
``dead`` are ends, from which only a replay leads back, to ``pending``."""

Outcome = Literal["delivered", "retry", "dead", "deferred"]
"""``deferred``: not tried now, and to be had again after a while; it is no attempt."""


class WorkKind(enum.IntEnum):
    """What a piece of work is; the numbers are those in the tables."""

    WEBHOOK = 1
    NOTIFICATION = 2


class Lane(enum.IntEnum):
    """Which of the two shares of the workers a piece of work counts against."""

    FIRST = 0
    RETRY = 1


# --- events --------------------------------------------------------------------------------------


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


# --- webhooks ------------------------------------------------------------------------------------


class SigningSecret(msgspec.Struct, frozen=True):
    """A secret of an endpoint, encrypted.

    Attributes:
        sealed: what only `bulkhead_trio.delivery.sealing` opens.
        expires_at: until when it signs along; ``None``: it is the one in force.
    """

    sealed: bytes
    expires_at: datetime.datetime | None = None

    def __repr__(self) -> str:
        return f"SigningSecret(expires_at={self.expires_at!r})"


class WebhookRecord(msgspec.Struct, frozen=True):
    """An endpoint as it is kept.

    Attributes:
        event_types: what it takes: ``*``, ``order.*``, ``order.completed``.
        fifo: whether its deliveries go out one by one in the order of the events.
        active: whether anything is sent; what is not waits.
        disabled_reason: why it is not active, if it was not its owner who switched it off.
        secrets: the newest first.
        failing_since: when the first of its tries failed since one was good; ``None``: the last
            one was good.
        slow_until: nothing is sent before; ``None`` or past: it is not held back.
        version: 1 at first, and one more with each change that its owner makes.
    """

    id: UUID
    tenant_id: UUID
    url: str
    event_types: tuple[str, ...]
    description: str | None
    fifo: bool
    active: bool
    disabled_reason: str | None
    secrets: tuple[SigningSecret, ...]
    failing_since: datetime.datetime | None
    slow_until: datetime.datetime | None
    version: int
    created_at: datetime.datetime
    updated_at: datetime.datetime


class WebhookDraft(msgspec.Struct, frozen=True):
    """An endpoint to be made.

    Attributes:
        id: made by the caller, since the secret is encrypted for it;
            `bulkhead_trio.database.webhooks.new_id` makes one.
        sealed_secret: its first.
    """

    id: UUID
    tenant_id: UUID
    url: str
    event_types: tuple[str, ...]
    sealed_secret: bytes
    description: str | None = None
    fifo: bool = False

    def __repr__(self) -> str:
        return f"WebhookDraft(id={self.id!r}, tenant_id={self.tenant_id!r})"


class WebhookChanges(msgspec.Struct, frozen=True):
    """What to change of an endpoint; what is ``UNSET`` stays.

    Attributes:
        active: ``True`` also forgets why it was disabled and since when it has failed, and what
            has waited goes out; ``False``: what comes waits.
    """

    url: str | UnsetType = UNSET
    event_types: tuple[str, ...] | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    fifo: bool | UnsetType = UNSET
    active: bool | UnsetType = UNSET


class EndpointChange(msgspec.Struct, frozen=True):
    """What the result of a try means for the endpoint.

    Attributes:
        is_failing: whether the try failed: sets ``failing_since`` if that is not set, or clears
            it.
        disable_reason: switch the endpoint off, and say why.
        slow_seconds: send nothing to it for so long.
    """

    is_failing: bool
    disable_reason: str | None = None
    slow_seconds: float | None = None


# --- deliveries ----------------------------------------------------------------------------------


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


# --- notifications -------------------------------------------------------------------------------


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


# --- work ----------------------------------------------------------------------------------------


class WebhookWork(msgspec.Struct, frozen=True):
    """A delivery that has been claimed, with what sending it needs.

    Attributes:
        item_id: of the delivery.
        seq: its place among all.
        attempts: tries before this one, since it was made or replayed.
        queue_id: the endpoint's id.
        lane: whether it counts as a first try or as a retry.
        lease_until: after which others may have it.
        created_at: of the delivery.
        payload: JSON, as it was sent.
        secrets: the newest first; those that have expired too.
        fifo: see `WebhookRecord`.
        failing_since: see `WebhookRecord`.
    """

    item_id: UUID
    seq: int
    attempts: int
    tenant_id: UUID
    queue_id: UUID
    lane: Lane
    lease_until: datetime.datetime
    created_at: datetime.datetime
    event_id: UUID
    event_type: str
    payload: bytes
    event_created_at: datetime.datetime
    url: str
    secrets: tuple[SigningSecret, ...]
    fifo: bool
    failing_since: datetime.datetime | None

    def __repr__(self) -> str:
        return f"WebhookWork(item_id={self.item_id!r}, queue_id={self.queue_id!r})"


class NotificationWork(msgspec.Struct, frozen=True):
    """A notification that has been claimed; what is not said here is as in `WebhookWork`.

    Attributes:
        item_id: of the notification.
        queue_id: made of the tenant and the channel.
    """

    item_id: UUID
    seq: int
    attempts: int
    tenant_id: UUID
    queue_id: UUID
    lane: Lane
    lease_until: datetime.datetime
    created_at: datetime.datetime
    channel: str
    recipient: str
    subject: str
    body: str

    def __repr__(self) -> str:
        return f"NotificationWork(item_id={self.item_id!r}, channel={self.channel!r})"


class Finished(msgspec.Struct, frozen=True):
    """What has come of a try.

    Attributes:
        item_id: as claimed.
        attempts_before: the ``attempts`` of the claim.
        attempt: what is told of it; ``None``, and always so where the outcome is ``deferred``:
            nothing was tried.
        retry_after_seconds: until the next try; needed where the outcome is ``retry`` or
            ``deferred``.
        endpoint: what it means for the endpoint; ``None``: nothing, and always so for what is no
            webhook.
    """

    item_id: UUID
    attempts_before: int
    attempt: AttemptRecord | None
    outcome: Outcome
    retry_after_seconds: float | None = None
    endpoint: EndpointChange | None = None


class Backlog(msgspec.Struct, frozen=True):
    """How much of one kind of work there is, over all instances.

    Attributes:
        pending: never tried, those under way and those of disabled endpoints included.
        retrying: tried, and to be tried again.
        dead: given up, and not pruned or replayed yet.
        leased: under way.
    """

    pending: int
    retrying: int
    dead: int
    leased: int


class Replayed(msgspec.Struct, frozen=True):
    """What one part of a replay has done.

    Attributes:
        deliveries: how many are to be made once more.
        next_cursor: where the next part begins; ``None``: this was the last.
    """

    deliveries: int
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
