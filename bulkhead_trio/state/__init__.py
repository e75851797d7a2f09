"""What instances share through Redis, and the twins that serve one instance without it."""

from bulkhead_trio.state.breaker import SharedBreaker, SharedPermit, SharedProbe
from bulkhead_trio.state.breakers import SharedBreakers, SharedBreakersStatistics
from bulkhead_trio.state.cache import RedisKeyCache
from bulkhead_trio.state.health import SharedHealthBoard, SharedHealthStatistics
from bulkhead_trio.state.instances import Instances
from bulkhead_trio.state.rate import (
    LocalTenantLimits,
    OnStateError,
    SharedTenantLimits,
    TenantLimits,
    TenantLimitsStatistics,
)
from bulkhead_trio.state.redis import RedisChanged, SharedState, SharedStateStatistics
from bulkhead_trio.state.shared import Shared

__all__ = [
    "Instances",
    "LocalTenantLimits",
    "OnStateError",
    "RedisChanged",
    "RedisKeyCache",
    "Shared",
    "SharedBreaker",
    "SharedBreakers",
    "SharedBreakersStatistics",
    "SharedHealthBoard",
    "SharedHealthStatistics",
    "SharedPermit",
    "SharedProbe",
    "SharedState",
    "SharedStateStatistics",
    "SharedTenantLimits",
    "TenantLimits",
    "TenantLimitsStatistics",
]
