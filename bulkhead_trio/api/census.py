"""Where the numbers of the metrics come from: this process, or this one and its siblings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import attrs
import trio

from bulkhead_trio.observe.delivery_snapshots import DeliverySnapshot
from bulkhead_trio.observe.gateway_snapshots import GatewaySnapshot
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


class GatewayReader(Protocol):
    """Reads the numbers of a gateway; `bulkhead_trio.app.gateway_numbers.GatewayNumbers` does."""

    def read(self) -> GatewaySnapshot:
        """All of them, as they are now."""

    def read_counters(self) -> GatewaySnapshot:
        """What has been counted."""


@attrs.frozen
class ProcessReader:
    """Reads all the numbers of this process; asks nothing that a full tier could hold up.

    Attributes:
        tiers: by name.
        desk: the orders'.
        durations: of the tiers' requests since the start.
        serving: reads the numbers of the servers.
        gateway: reads those of the gateway; ``None`` without one.
        deliveries: reads those of the deliveries; ``None`` without any.
    """

    tiers: Mapping[str, Tier[Any]]
    desk: OrderDesk
    durations: Durations
    serving: Callable[[], ServingSnapshot] = ServingSnapshot
    gateway: GatewayReader | None = None
    deliveries: Callable[[], DeliverySnapshot] | None = None

    def read(self) -> ProcessSnapshot:
        """What they are now."""
        return self._read(None if self.gateway is None else self.gateway.read())

    def read_counters(self) -> ProcessSnapshot:
        """What has been counted; of what the gateway holds now, nothing, which takes long."""
        return self._read(None if self.gateway is None else self.gateway.read_counters())

    def _read(self, gateway: GatewaySnapshot | None) -> ProcessSnapshot:
        return ProcessSnapshot(
            tiers={
                name: attrs.evolve(tier_snapshot(tier), durations=self.durations.snapshot(name))
                for name, tier in self.tiers.items()
            },
            orders=self._orders(),
            serving=self.serving(),
            gateway=gateway,
            deliveries=None if self.deliveries is None else self.deliveries(),
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
