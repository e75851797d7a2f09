"""Rate limiters: pure rules and the shell that runs them."""

from bulkhead_trio.policies.rate._rules import Decision, FixedWindow
from bulkhead_trio.policies.rate.limiter import RateLimiter, RateLimiterStatistics

__all__ = ["Decision", "FixedWindow", "RateLimiter", "RateLimiterStatistics"]
