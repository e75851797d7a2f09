"""In which order keys come to rest: buckets of time, without a clock."""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

K = TypeVar("K")

MOST_BUCKETS = 4096
"""Buckets that the longest debt is divided into: enough keys share one to make it cheap."""

SHORTEST_BUCKET_SECONDS = 0.001

LARGEST_NUMBER = 2**62
"""Of a bucket; what a clock near the end of floats would ask for."""


class RestOrder(Generic[K]):
    """Keys, each in the bucket in which it may be looked at again.

    A key is in one bucket: where it was put last. A debt that has grown since moves it on only when
    its bucket is due, so that a request costs nothing here, and a key is moved no more often than
    it made requests.

    Args:
        longest_debt: seconds; the buckets are a 4096th of it wide, at least a millisecond.
    """

    def __init__(self, longest_debt: float) -> None:
        self.width = max(longest_debt / MOST_BUCKETS, SHORTEST_BUCKET_SECONDS)
        self._buckets: dict[int, list[K]] = {}
        self._numbers: list[int] = []

    def add(self, key: K, moment: float) -> None:
        """Have ``key`` looked at when ``moment`` has come, up to `width` later."""
        number = int(min(moment / self.width, LARGEST_NUMBER)) + 1
        bucket = self._buckets.get(number)
        if bucket is None:
            self._buckets[number] = [key]
            heapq.heappush(self._numbers, number)
        else:
            bucket.append(key)

    def take_due(self, now: float, most: int) -> list[K]:
        """Take out up to ``most`` keys whose bucket is due at ``now``, the earliest bucket first.

        What is not at rest has to be added again.
        """
        due: list[K] = []
        while len(due) < most and self.first_due() <= now:
            bucket = self._buckets[self._numbers[0]]
            while bucket and len(due) < most:
                due.append(bucket.pop())
            if not bucket:
                del self._buckets[heapq.heappop(self._numbers)]
        return due

    def first_due(self) -> float:
        """When the first bucket is due; ``math.inf`` where there is none."""
        return self._numbers[0] * self.width if self._numbers else float("inf")
