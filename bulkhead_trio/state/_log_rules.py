"""Sliding window logs that cost the same however large a limit is: what ``rate.lua`` does, here.

The rule is `bulkhead_trio.policies.rate.SlidingLog`'s: at most ``limit`` in any ``seconds``,
exactly; what is refused uses nothing. That one copies its log at every decision, which suits small
quotas; this one changes in place. Of limits above `LONGEST` entries, moments close together share
one, which counts until the last moment that it may stand for: so that never more passes, and
something comes back up to a 4096th of the window late.
"""

from __future__ import annotations

import math
from collections import deque

from bulkhead_trio.policies.rate import Decision
from bulkhead_trio.policies.rate._decision import seconds_until

LONGEST = 4096
"""Entries of a log."""


def entry_end(now: float, limit: int, seconds: float) -> float:
    """Until when something counts that passes at ``now``."""
    until = now + seconds
    if limit <= LONGEST:
        return until
    grain = seconds / LONGEST
    return max(until, math.ceil(until / grain) * grain)


class WindowLog:
    """What has passed of one quota; `take` moves it on."""

    __slots__ = ("_entries", "_used")

    def __init__(self) -> None:
        self._entries: deque[tuple[float, int]] = deque()
        self._used = 0

    @property
    def rests_at(self) -> float:
        """From when on it is as good as a new one."""
        return self._entries[-1][0] if self._entries else -math.inf

    def take(self, now: float, limit: int, seconds: float) -> Decision:
        """Whether one more passes at ``now``.

        With a clock that went back, or a shorter window than before, nothing counts for longer than
        the window from ``now``.
        """
        until = entry_end(now, limit, seconds)
        entries = self._entries
        if entries and entries[-1][0] > until:
            self._entries = entries = deque((min(until, end), units) for end, units in entries)
        while entries and entries[0][0] <= now:
            self._used -= entries.popleft()[1]
        if self._used >= limit:
            ready_at = self._missing_until(self._used - limit + 1)
            reset_after = seconds_until(entries[-1][0], now)
            return Decision(False, limit, seconds, 0, reset_after, seconds_until(ready_at, now))
        self._used += 1
        if entries and entries[-1][0] == until:
            entries[-1] = (until, entries[-1][1] + 1)
        else:
            entries.append((until, 1))
        return Decision(True, limit, seconds, limit - self._used, seconds_until(until, now), 0.0)

    def _missing_until(self, missing: int) -> float:
        """When ``missing`` units have stopped to count."""
        for until, units in self._entries:
            missing -= units
            if missing <= 0:
                return until
        return math.inf
