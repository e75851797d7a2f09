"""Where the numbers of the metrics come from: this process, or this one and its siblings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import trio

from bulkhead_trio.observe.metrics import Durations
from bulkhead_trio.observe.snapshots import (
    BreakerSnapshot,
    Census,
    DeskSnapshot,
    ProcessSnapshot,
    ServingSnapshot,
)
from bulkhead_trio.orders import OrderDesk
from bulkhead_trio.tiers import Tier, tier_snapshot


@attrs.frozen
class ProcessReader:
    """Reads all the numbers of this process; asks nothing that a full tier could hold up.

    Attributes:
        tiers: by name.
        desk: the orders'.
        durations: of the tiers' requests since the start.
        serving: reads the numbers of the servers.
    """

    tiers: Mapping[str, Tier[Any]]
    desk: OrderDesk
    durations: Durations
    serving: Callable[[], ServingSnapshot] = ServingSnapshot

    def read(self) -> ProcessSnapshot:
        """What they are now."""
        return ProcessSnapshot(
            tiers={
                name: attrs.evolve(tier_snapshot(tier), durations=self.durations.snapshot(name))
                for name, tier in self.tiers.items()
            },
            orders=self._orders(),
            serving=self.serving(),
        )

    def _orders(self) -> DeskSnapshot:
        now = self.desk.statistics()
        return DeskSnapshot(
            queued=now.workers.queued,
            active=now.workers.active,
            elsewhere=now.waiting - now.workers.queued,
            is_full=now.is_full,
            pending=now.intake.queued,
            breaker=BreakerSnapshot.of(now.breaker),
        )


@attrs.frozen
class Alone:
    """Takes the census of a server that is one process."""

    reader: ProcessReader

    async def take(self) -> Census:
        """One process's numbers."""
        await trio.lowlevel.checkpoint()
        return Census(1, (self.reader.read(),))
