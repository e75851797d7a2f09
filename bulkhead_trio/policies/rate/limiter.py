"""The rate limiter's shell: holds one state and reads the clock."""

from __future__ import annotations

import attrs
import trio

from bulkhead_trio.policies.rate._rules import Decision, FixedWindow


@attrs.frozen
class RateLimiterStatistics:
    """What a limiter knows at one moment."""

    limit: int
    window: float
    remaining: int
    allowed: int
    refused: int


class RateLimiter:
    """One quota, shared by everybody who asks this object.

    Args:
        rule: what the quota is.
        name: for statistics and messages.
    """

    def __init__(self, rule: FixedWindow, *, name: str = "") -> None:
        self.name = name
        self._rule = rule
        self._state = rule.initial()
        self._allowed = 0
        self._refused = 0

    def acquire_nowait(self, cost: int = 1) -> Decision:
        """Take ``cost`` units if they are there; never waits, never raises for a refusal.

        Raises:
            ValueError: ``cost`` is below 1.
        """
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, not {cost}")
        self._state, decision = self._rule.decide(self._state, trio.current_time(), cost)
        if decision.allowed:
            self._allowed += 1
        else:
            self._refused += 1
        return decision

    def statistics(self) -> RateLimiterStatistics:
        """What the limiter knows now."""
        return RateLimiterStatistics(
            limit=self._rule.limit,
            window=self._rule.seconds,
            remaining=self._rule.remaining(self._state, trio.current_time()),
            allowed=self._allowed,
            refused=self._refused,
        )
