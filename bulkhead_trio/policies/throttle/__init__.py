"""Client-side adaptive throttling."""

from bulkhead_trio.policies.throttle.throttle import Throttle, ThrottleRefused, ThrottleStatistics

__all__ = ["Throttle", "ThrottleRefused", "ThrottleStatistics"]
