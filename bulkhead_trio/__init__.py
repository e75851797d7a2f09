"""Bulkhead Trio: resilience policies for Trio programs, and the API server built from them."""

from bulkhead_trio.errors import (
    BulkheadFull,
    BulkheadTrioError,
    CircuitOpen,
    DeadlineExceeded,
    DeadlineUnreachable,
    RateLimited,
    Rejected,
    Shed,
)
from bulkhead_trio.policies.breaker import (
    BreakerState,
    BreakerStatistics,
    BreakerTransition,
    CircuitBreaker,
    Consecutive,
)
from bulkhead_trio.policies.compartment import (
    Compartment,
    CompartmentStatistics,
    SupervisorCrashed,
)
from bulkhead_trio.policies.rate import Decision, FixedWindow, RateLimiter, RateLimiterStatistics

__all__ = [
    "BreakerState",
    "BreakerStatistics",
    "BreakerTransition",
    "BulkheadFull",
    "BulkheadTrioError",
    "CircuitBreaker",
    "CircuitOpen",
    "Compartment",
    "CompartmentStatistics",
    "Consecutive",
    "DeadlineExceeded",
    "DeadlineUnreachable",
    "Decision",
    "FixedWindow",
    "RateLimited",
    "RateLimiter",
    "RateLimiterStatistics",
    "Rejected",
    "Shed",
    "SupervisorCrashed",
]
