"""Endpoints of tenants, and what becomes of them."""

from __future__ import annotations

import datetime
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType


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
