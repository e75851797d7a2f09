"""When to try to connect again: exponential backoff with full jitter.

Full jitter is from Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

from typing import Self

import attrs

FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 5.0
"""From 0.1 s, doubling, to 5 s: a restarted database is found within seconds, and a database that
is away is asked at most a few times a minute by each pool."""


@attrs.frozen
class Reconnection:
    """How often connecting has failed in a row, and when it may be tried again."""

    failures: int = 0
    not_before: float = float("-inf")

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt failed."""
        return self.failures > 0

    def failed(self, now: float, random: float) -> Self:
        """After one more failure; ``random`` is uniform in [0, 1)."""
        longest = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** min(self.failures, 10))
        # Half of the delay is certain, so that a run of lucky draws cannot hammer the server.
        return attrs.evolve(
            self, failures=self.failures + 1, not_before=now + longest * (0.5 + random / 2)
        )

    def succeeded(self) -> Self:
        """After a success."""
        return attrs.evolve(self, failures=0, not_before=float("-inf"))

    def seconds_left(self, now: float) -> float:
        """Until the next attempt may be made."""
        return max(0.0, self.not_before - now)
