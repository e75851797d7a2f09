"""Circuit breaker: a frozen state machine and the shell that runs it."""

from bulkhead_trio.policies.breaker.circuit_breaker import (
    BreakerState,
    BreakerStatistics,
    BreakerTransition,
    CircuitBreaker,
    Consecutive,
    Permit,
)

__all__ = [
    "BreakerState",
    "BreakerStatistics",
    "BreakerTransition",
    "CircuitBreaker",
    "Consecutive",
    "Permit",
]
