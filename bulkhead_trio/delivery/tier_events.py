"""Makes what happens to a tier known outside: domain events ``tier.*`` become durable ones.

They are events of the tier, of no tenant's, and go to the endpoints of every tenant of that tier
that has asked for them.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
import trio

from bulkhead_trio.database.event_records import Added, EventDraft
from bulkhead_trio.delivery.backoff import Backoff, is_outage
from bulkhead_trio.delivery.domain import DomainEvent
from bulkhead_trio.errors import CallerError, Rejected

PREFIX: Final = "tier."

_PAUSE_SECONDS: Final = 1.0

_log = logging.getLogger("bulkhead_trio.delivery")


class Writer(Protocol):
    """Takes events in; `bulkhead_trio.delivery.events.EventWriter` does."""

    async def add(self, draft: EventDraft) -> Added:
        """Commit one."""


class TierEvents:
    """A subscriber of domain events that writes those of tiers.

    While the database is away it tries again, and later ones wait in the subscriber's queue, where
    the oldest are dropped and counted when it is full.

    Args:
        writer: takes them in.
        instance: which instance it happened on, for the payload.
        uniform: a source of numbers in [0, 1).
    """

    def __init__(
        self, writer: Writer, *, instance: str, uniform: Callable[[], float] = random.random
    ) -> None:
        self._writer = writer
        self._instance = instance
        self._backoff = Backoff("writing events of tiers", uniform=uniform)

    async def __call__(self, event: DomainEvent) -> None:
        """Write it, however long that takes; what is no tier's is left alone."""
        if event.tier is None or not event.type.startswith(PREFIX):
            return
        payload = {**event.payload, "tier": event.tier, "instance": self._instance}
        draft = EventDraft(
            tenant_id=None,
            type=event.type,
            payload=msgspec.json.encode(payload),
            tier=event.tier,
        )
        while True:
            try:
                await self._writer.add(draft)
            except CallerError:
                _log.exception("an event of the tier %s cannot be kept", event.tier)
                return
            except Rejected as refusal:
                await trio.sleep(max(_PAUSE_SECONDS, refusal.retry_after or 0.0))
            except Exception as error:
                if not is_outage(error):
                    raise
                await self._backoff.wait_after(error)
            else:
                self._backoff.succeeded()
                return
