"""Circuit breaker: a frozen state machine and the shell that runs it."""

from bulkhead_trio.policies.breaker._outcome_rules import BreakerOutcome
from bulkhead_trio.policies.breaker._states import BreakerState
from bulkhead_trio.policies.breaker._window_rules import Consecutive, CountWindow, TimeWindow
from bulkhead_trio.policies.breaker.circuit_breaker import CircuitBreaker, Permit
from bulkhead_trio.policies.breaker.records import (
    BreakerCallEnded,
    BreakerRefused,
    BreakerStatistics,
    BreakerTransition,
)

__all__ = [
    "BreakerCallEnded",
    "BreakerOutcome",
    "BreakerRefused",
    "BreakerState",
    "BreakerStatistics",
    "BreakerTransition",
    "CircuitBreaker",
    "Consecutive",
    "CountWindow",
    "Permit",
    "TimeWindow",
]
