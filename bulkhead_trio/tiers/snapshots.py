"""A tier's statistics as the metrics want them."""

from __future__ import annotations

from typing import Any

from bulkhead_trio.observe.snapshots import BreakerSnapshot, RateLimitSnapshot, TierSnapshot
from bulkhead_trio.tiers.tier import Tier


def tier_snapshot(tier: Tier[Any]) -> TierSnapshot:
    """The numbers of one tier, but for the durations since the start, which others count."""
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
        breaker=BreakerSnapshot.of(statistics.breaker),
        rate_limit=None
        if limit is None
        else RateLimitSnapshot(limit.limit, limit.remaining, limit.window),
        outcomes=statistics.outcomes,
        latency=dict(statistics.latency_counts),
    )
