"""Makes deliveries of events: one for each endpoint that wants the event.

A batch is one transaction in the database: the outbox's rows are claimed, the deliveries are put
down, and the rows are deleted, all or nothing. So there are no leases here, an instance that is
killed leaves nothing behind, and any number of instances share the outbox.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import attrs
import trio

from bulkhead_trio.delivery._signal import Bell
from bulkhead_trio.delivery.backoff import STORE_SECONDS, Backoff, is_outage
from bulkhead_trio.delivery.claimer import POLL_SECONDS
from bulkhead_trio.delivery.stores import Outbox
from bulkhead_trio.delivery.supervision import Supervisor
from bulkhead_trio.policies.deadline import deadline

BATCH: Final = 100
"""Events that one transaction takes at most."""


@attrs.frozen
class FanOutStatistics:
    """How fan-out is doing.

    Attributes:
        active: whether a batch is under way.
        events: events fanned out by this instance.
        deliveries: the deliveries that this made.
        batches: transactions that brought some.
        is_database_away: whether the database was away at the last try.
        crashes: how often its task had to be started again.
    """

    active: bool
    events: int
    deliveries: int
    batches: int
    is_database_away: bool
    crashes: int


class FanOut:
    """One instance's share of the outbox; `run` runs it.

    Args:
        outbox: where events wait.
        on_made: called after a batch that made deliveries: there is work.
        batch: events that one transaction takes at most.
        poll_seconds: between two looks when nobody says that there are events.
        uniform: a source of numbers in [0, 1) that keeps instances apart.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        on_made: Callable[[], None] = lambda: None,
        batch: int = BATCH,
        poll_seconds: float = POLL_SECONDS,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._outbox = outbox
        self._on_made = on_made
        self._batch = batch
        self._poll_seconds = poll_seconds
        self._uniform = uniform
        self._backoff = Backoff("fan-out", uniform=uniform)
        self._supervisor = Supervisor("fan-out")
        self._bell = Bell()
        self._is_active = False
        self._events = 0
        self._deliveries = 0
        self._batches = 0

    def wake(self) -> None:
        """Somebody says that there are events; never waits."""
        self._bell.ring()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fan out until cancelled; a batch that is cut off has not happened, or has."""
        task_status.started()
        await self._supervisor.run(self._fan_out_all)

    def statistics(self) -> FanOutStatistics:
        """How it is doing."""
        return FanOutStatistics(
            active=self._is_active,
            events=self._events,
            deliveries=self._deliveries,
            batches=self._batches,
            is_database_away=self._backoff.is_failing,
            crashes=self._supervisor.crashes,
        )

    async def _fan_out_all(self) -> None:
        while True:
            try:
                events = await self._fan_out_some()
            except Exception as error:
                if not is_outage(error):
                    raise
                await self._backoff.wait_after(error)
                continue
            if events < self._batch:
                await self._bell.wait(self._poll_seconds * (0.75 + self._uniform() / 2))

    async def _fan_out_some(self) -> int:
        self._is_active = True
        try:
            with deadline(STORE_SECONDS):
                made = await self._outbox.fan_out(self._batch)
        finally:
            self._is_active = False
        self._backoff.succeeded()
        if made.events:
            self._batches += 1
            self._events += made.events
            self._deliveries += made.deliveries
        if made.deliveries:
            self._on_made()
        return made.events
