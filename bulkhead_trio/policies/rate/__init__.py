"""Rate limiters: pure rules and the shells that run them."""

from bulkhead_trio.policies.rate._account import Reservation
from bulkhead_trio.policies.rate._bucket_rules import LeakyBucket, TokenBucket
from bulkhead_trio.policies.rate._decision import Decision, Rule
from bulkhead_trio.policies.rate._rules import FixedWindow, SlidingLog, SlidingWindow
from bulkhead_trio.policies.rate.keyed import KeyedRateLimiter, KeyPolicy
from bulkhead_trio.policies.rate.limiter import RateLimiter
from bulkhead_trio.policies.rate.records import (
    KeyedRateLimiterStatistics,
    KeyStatistics,
    RateLimiterStatistics,
    RateLimitRefused,
)

__all__ = [
    "Decision",
    "FixedWindow",
    "KeyPolicy",
    "KeyStatistics",
    "KeyedRateLimiter",
    "KeyedRateLimiterStatistics",
    "LeakyBucket",
    "RateLimitRefused",
    "RateLimiter",
    "RateLimiterStatistics",
    "Reservation",
    "Rule",
    "SlidingLog",
    "SlidingWindow",
    "TokenBucket",
]
