"""How much of something a peer may do. Pure: the caller says what time it is."""

from __future__ import annotations


class Budget:
    """A token bucket for one peer.

    Args:
        rate: a second, in the long run.
        burst: at once.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, *, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at: float | None = None

    def charge(self, now: float, cost: float = 1.0) -> float:
        """Take ``cost``; returns the seconds until it is paid for, 0 while there is enough."""
        if self._at is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        self._tokens -= cost
        return max(0.0, -self._tokens / self._rate)

    def earn(self, amount: float) -> None:
        """Give back: what the peer does here is an answer to something that we did."""
        self._tokens = min(self._burst, self._tokens + amount)
