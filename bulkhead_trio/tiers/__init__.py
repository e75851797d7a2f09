"""A tier: its compartment, connection pool, breaker and rate limit put together."""

from bulkhead_trio.tiers.snapshots import TierSnapshots
from bulkhead_trio.tiers.tier import OutcomeListener, Tier, TierStatistics, is_database_failure

__all__ = ["OutcomeListener", "Tier", "TierSnapshots", "TierStatistics", "is_database_failure"]
