"""Ends what nobody will do any more, and forgets what has been over for long, a few at a time.

Workers never look at what is over, so this is for the disk's sake and for the lists that people
page through. It is done in small transactions with pauses between, so that nobody notices.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import attrs
import trio

from bulkhead_trio.delivery.backoff import Backoff, is_outage
from bulkhead_trio.delivery.stores import Prunable
from bulkhead_trio.delivery.supervision import Supervisor
from bulkhead_trio.policies.deadline import deadline

BATCH: Final = 1000
"""Rows of each kind that one transaction deletes at most."""

PAUSE_SECONDS: Final = 0.2
"""Between two such transactions: at most 5,000 rows a second, 400 million a day."""

EVERY_SECONDS: Final = 60.0
"""Between two rounds; each time a little different, so that instances do not meet."""

BATCH_SECONDS: Final = 30.0
"""The longest that one transaction may take."""


@attrs.frozen
class PruneStatistics:
    """How pruning is doing.

    Attributes:
        pruned: deliveries, notifications and events deleted by this instance.
        given_up: deliveries that had waited for a disabled endpoint for too long.
        orphans: pieces of work that were ended with their endpoint or tenant.
        rounds: rounds that were ended.
        is_database_away: whether the database was away at the last try.
        crashes: how often its task had to be started again.
    """

    pruned: int
    given_up: int
    orphans: int
    rounds: int
    is_database_away: bool
    crashes: int


class Pruner:
    """Prunes now and then; `run` runs it.

    Args:
        store: what is pruned.
        retention_seconds: how long what has ended is kept.
        every_seconds: between two rounds.
        batch: rows of each kind that one transaction deletes at most.
        uniform: a source of numbers in [0, 1).
    """

    def __init__(
        self,
        store: Prunable,
        *,
        retention_seconds: float,
        every_seconds: float = EVERY_SECONDS,
        batch: int = BATCH,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._retention_seconds = retention_seconds
        self._every_seconds = every_seconds
        self._batch = batch
        self._uniform = uniform
        self._backoff = Backoff("pruning", uniform=uniform)
        self._supervisor = Supervisor("pruning")
        self._pruned = 0
        self._given_up = 0
        self._orphans = 0
        self._rounds = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Prune until cancelled."""
        task_status.started()
        await self._supervisor.run(self._prune_always)

    def statistics(self) -> PruneStatistics:
        """How it is doing."""
        return PruneStatistics(
            pruned=self._pruned,
            given_up=self._given_up,
            orphans=self._orphans,
            rounds=self._rounds,
            is_database_away=self._backoff.is_failing,
            crashes=self._supervisor.crashes,
        )

    async def _prune_always(self) -> None:
        while True:
            await trio.sleep(self._every_seconds * (0.5 + self._uniform()))
            try:
                await self._prune()
            except Exception as error:
                if not is_outage(error):
                    raise
                await self._backoff.wait_after(error)
            else:
                self._rounds += 1

    async def _prune(self) -> None:
        """All that nobody will do any more, and all that is old enough, batch by batch."""
        ended = self._batch
        while ended >= self._batch:
            with deadline(BATCH_SECONDS):
                ended = await self._store.end_orphans(self._batch)
            self._backoff.succeeded()
            self._orphans += ended
            await trio.sleep(PAUSE_SECONDS)
        has_more = True
        while has_more:
            with deadline(BATCH_SECONDS):
                pruned = await self._store.prune(self._retention_seconds, self._batch)
            self._pruned += pruned.deliveries + pruned.notifications + pruned.events
            self._given_up += pruned.given_up
            has_more = pruned.has_more
            await trio.sleep(PAUSE_SECONDS)
