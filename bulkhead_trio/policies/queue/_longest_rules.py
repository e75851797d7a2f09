"""Whose line is the longest for its weight, as lines grow and shrink. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Hashable


class LongestLine:
    """Knows the longest of many lines; a step costs the logarithm of their number, on average.

    A heap with one entry for each line, which says how long it is at most. A line that grows beyond
    that gets a new entry, and one that shrinks keeps its own, to be put right when it comes to the
    top: most steps touch nothing but a dict.
    """

    __slots__ = ("_entries", "_heap", "_lengths", "_number")

    def __init__(self) -> None:
        self._lengths: dict[Hashable, float] = {}
        self._entries: dict[Hashable, tuple[int, float]] = {}  # number and length of the valid one
        self._heap: list[tuple[float, int, Hashable]] = []  # by length, the longest first
        self._number = 0

    def __len__(self) -> int:
        """How many lines there are."""
        return len(self._lengths)

    def set(self, key: Hashable, length: float) -> None:
        """Say how long a line is; 0 forgets it."""
        if not length:
            self._lengths.pop(key, None)
            self._entries.pop(key, None)
            return
        self._lengths[key] = length
        entry = self._entries.get(key)
        if entry is None or length > entry[1]:
            self._put(key, length)

    def longest(self) -> Hashable:
        """The key of the longest line; there is one."""
        while True:
            negative, number, key = self._heap[0]
            entry = self._entries.get(key)
            if entry is None or entry[0] != number:
                heapq.heappop(self._heap)  # of a line that is gone, or has a newer one
            elif -negative > self._lengths[key]:
                heapq.heappop(self._heap)
                self._put(key, self._lengths[key])
            else:
                return key

    def _put(self, key: Hashable, length: float) -> None:
        self._number += 1
        self._entries[key] = (self._number, length)
        heapq.heappush(self._heap, (-length, self._number, key))
        if len(self._heap) > 2 * len(self._entries) + 16:
            self._heap = [
                (-length, number, each) for each, (number, length) in self._entries.items()
            ]
            heapq.heapify(self._heap)
