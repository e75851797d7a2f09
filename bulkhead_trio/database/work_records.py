"""What has to be done, as whoever does it gets it, and how it ended."""

from __future__ import annotations

import datetime
import enum
from typing import Literal
from uuid import UUID

import msgspec

from bulkhead_trio.database.delivery_records import AttemptRecord
from bulkhead_trio.database.webhook_records import EndpointChange, SigningSecret

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
        scheduled_since: when its schedule began: when it was made or last replayed, or its endpoint
            switched on; no try is late that is made so soon after that.
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
    scheduled_since: datetime.datetime
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
    scheduled_since: datetime.datetime
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
