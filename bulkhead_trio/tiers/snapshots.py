"""Every tier's statistics as the metrics want them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bulkhead_trio.observe.metrics import TierSnapshot
from bulkhead_trio.tiers.tier import Tier


class TierSnapshots:
    """Reads the numbers of all tiers when it is asked.

    Args:
        tiers: by name.
    """

    def __init__(self, tiers: Mapping[str, Tier[Any]]) -> None:
        self._tiers = tiers

    def snapshots(self) -> dict[str, TierSnapshot]:
        """One a tier, by name."""
        return {name: _snapshot(tier) for name, tier in self._tiers.items()}


def _snapshot(tier: Tier[Any]) -> TierSnapshot:
    statistics = tier.statistics()
    pool, compartment = statistics.pool, statistics.compartment
    limit = statistics.rate_limit
    return TierSnapshot(
        workers=compartment.workers,
        active=compartment.active,
        places=compartment.places,
        queued=compartment.queued,
        crashes=compartment.crashes,
        connections_max=pool.max,
        connections_active=pool.active,
        connections_idle=pool.idle,
        connections_pending=pool.pending,
        breaker_state=statistics.breaker.state.value,
        breaker_opened=statistics.breaker.opened,
        outcomes=statistics.outcomes,
        rate_limit_remaining=None if limit is None else limit.remaining,
    )
