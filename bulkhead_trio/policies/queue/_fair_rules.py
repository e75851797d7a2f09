"""Whose turn it is, where many share one line: deficit round robin. Pure.

Shreedhar and Varghese, "Efficient Fair Queueing Using Deficit Round Robin", SIGCOMM 1995, with one
unit an entry, and a quantum of each key's own.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

E = TypeVar("E", bound=Hashable)


class _Flow(Generic[E]):
    """What waits of one key, and what it may still take in its turn."""

    __slots__ = ("credit", "entries", "weight")

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.credit = 0.0
        self.entries: OrderedDict[E, None] = OrderedDict()


class FairOrder(Generic[E]):
    """Keys that have entries stand in a ring, in front the one whose turn it is.

    Every step takes O(1), however many keys there are: a weight is at least 1, so that no turn
    passes without an entry being taken, and a key with no entries leaves the ring at once.

    Args:
        places: how many entries it may hold; 0 or more.
        places_a_key: how many of them one key may have.
    """

    __slots__ = ("_most_a_round", "_ring", "_size", "places", "places_a_key")

    def __init__(self, places: int, places_a_key: int) -> None:
        self.places = places
        self.places_a_key = places_a_key
        self._size = 0
        self._ring: OrderedDict[Hashable, _Flow[E]] = OrderedDict()
        self._most_a_round = 0  # what all keys together can take in one turn of each

    def __len__(self) -> int:
        """How many entries there are."""
        return self._size

    @property
    def keys(self) -> int:
        """How many keys have entries."""
        return len(self._ring)

    def weight(self, key: Hashable) -> float | None:
        """What ``key`` came in with; ``None`` for a key that has no entries."""
        flow = self._ring.get(key)
        return None if flow is None else flow.weight

    def count(self, key: Hashable) -> int:
        """How many entries ``key`` has."""
        flow = self._ring.get(key)
        return 0 if flow is None else len(flow.entries)

    def is_full(self) -> bool:
        """Whether every place is taken."""
        return self._size >= self.places

    def has_share(self, key: Hashable) -> bool:
        """Whether ``key`` has all the places that one key may have."""
        return self.count(key) >= self.places_a_key

    def ahead(self, key: Hashable, weight: float) -> int:
        """How many could be taken before a new entry of ``key``, if none came after it.

        Never less than it turns out to be. The key needs so many turns for what it has already and
        the new one; in each round every other key takes its weight, rounded up, at most.
        """
        own = self.count(key)
        rounds = math.ceil((own + 1) / weight)
        others = self._most_a_round - (math.ceil(weight) if own else 0)
        return min(self._size, own + rounds * others)

    def add(self, entry: E, key: Hashable, weight: float) -> None:
        """Put ``entry`` behind the others of its key; there is a place for it.

        Args:
            entry: what waits.
            key: whose it is.
            weight: the key's, 1 or more; heeded as the key comes into the ring.
        """
        flow = self._ring.get(key)
        if flow is None:
            flow = self._ring[key] = _Flow(weight)
            self._most_a_round += math.ceil(weight)
        flow.entries[entry] = None
        self._size += 1

    def pop_next(self) -> E:
        """Remove the entry whose turn it is; there is one."""
        key, flow = next(iter(self._ring.items()))
        if flow.credit < 1:  # its turn begins
            flow.credit += flow.weight
        entry, _ = flow.entries.popitem(last=False)
        flow.credit -= 1
        if flow.credit < 1:
            self._ring.move_to_end(key)
        self._left(key, flow)
        return entry

    def remove(self, entry: E, key: Hashable) -> None:
        """Remove an entry that is there."""
        flow = self._ring[key]
        del flow.entries[entry]
        self._left(key, flow)

    def _left(self, key: Hashable, flow: _Flow[E]) -> None:
        self._size -= 1
        if not flow.entries:
            del self._ring[key]
            self._most_a_round -= math.ceil(flow.weight)
