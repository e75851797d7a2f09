"""Rows of the database in memory, and its clock, which goes as Trio's does."""

from __future__ import annotations

import datetime
from typing import Final
from uuid import UUID

import attrs
import trio

from bulkhead_trio.database.delivery_records import AttemptRecord
from bulkhead_trio.database.webhook_records import SigningSecret
from bulkhead_trio.database.work_records import Lane, NotificationWork, WebhookWork

EPOCH: Final = datetime.datetime(2026, 2, 11, 12, 0, tzinfo=datetime.UTC)


def moment() -> datetime.datetime:
    """The wall clock, which goes as Trio's does."""
    return EPOCH + datetime.timedelta(seconds=trio.current_time())


def seconds_since_1970() -> float:
    """The same as a number."""
    return EPOCH.timestamp() + trio.current_time()


@attrs.define(eq=False)
class Tenant:
    id: UUID
    tier: str = "free"
    weight: float = 1.0
    turn: float = 0.0


@attrs.define(eq=False)
class Endpoint:
    """A row of ``webhooks``."""

    id: UUID
    tenant_id: UUID
    url: str
    event_types: tuple[str, ...] = ("*",)
    fifo: bool = False
    secrets: tuple[SigningSecret, ...] = ()
    active: bool = True
    disabled_reason: str | None = None
    failing_since: datetime.datetime | None = None
    slow_until: float = float("-inf")


@attrs.define(eq=False)
class Item:
    """A delivery or notification, with its row of ``work`` while there is one.

    Attributes:
        draft: what is claimed of it.
        is_work: whether it is still to be done.
    """

    draft: WebhookWork | NotificationWork
    state: str = "pending"
    attempts: int = 0
    lane: Lane = Lane.FIRST
    due_at: float = float("-inf")
    is_work: bool = True
    owner: UUID | None = None
    lease_until: float = float("-inf")
    tries: list[AttemptRecord] = attrs.field(factory=list)
    ended_at: float | None = None
