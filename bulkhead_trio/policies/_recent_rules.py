"""Counting what happened in the last stretch of time, in constant memory.

Time is cut into buckets of equal width; the newest so many of them are in view. The bucket that
is being filled is the last one in view, so what is seen is between ``buckets - 1`` and ``buckets``
widths old at most.
"""

from __future__ import annotations


class RecentCount:
    """How often something happened lately.

    Changed in place rather than made anew: it is counted in for every call, and a copy of the
    buckets would cost more than all the rest.

    Args:
        width: seconds a bucket covers; above 0.
        buckets: how many are in view; 1 or more.
    """

    __slots__ = ("_counts", "_tick", "_total", "_width")

    def __init__(self, *, width: float, buckets: int) -> None:
        self._width = width
        self._counts = [0] * buckets
        self._tick = 0
        self._total = 0

    def add(self, now: float) -> int:
        """Count one at ``now``; returns the number of its bucket, for `take_back`.

        A clock that went back counts in the newest bucket there is.
        """
        tick = now // self._width
        if tick > self._tick:
            self._move_on(int(tick))
        self._counts[self._tick % len(self._counts)] += 1
        self._total += 1
        return self._tick

    def take_back(self, tick: int, now: float) -> None:
        """Uncount one that `add` put into the bucket ``tick``; no matter when it is out of view."""
        self.total(now)
        if tick > self._tick - len(self._counts):
            self._counts[tick % len(self._counts)] -= 1
            self._total -= 1

    def total(self, now: float) -> int:
        """How many are in view at ``now``."""
        tick = now // self._width
        if tick > self._tick:
            self._move_on(int(tick))
        return self._total

    def _move_on(self, tick: int) -> None:
        size = len(self._counts)
        for passed in range(max(self._tick + 1, tick - size + 1), tick + 1):
            self._total -= self._counts[passed % size]
            self._counts[passed % size] = 0
        self._tick = tick
