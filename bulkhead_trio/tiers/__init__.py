"""A tier: its compartment, connection pool, breaker and rate limit put together."""

from bulkhead_trio.tiers.snapshots import tier_snapshot
from bulkhead_trio.tiers.tier import (
    OutcomeListener,
    Passage,
    RequestEnded,
    Tier,
    TierStatistics,
    says_nothing_of_the_database,
)

__all__ = [
    "OutcomeListener",
    "Passage",
    "RequestEnded",
    "Tier",
    "TierStatistics",
    "says_nothing_of_the_database",
    "tier_snapshot",
]
