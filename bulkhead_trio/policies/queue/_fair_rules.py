"""Whose turn it is, where many share one line: deficit round robin. Pure.

Shreedhar and Varghese, "Efficient Fair Queueing Using Deficit Round Robin", SIGCOMM 1995, with one
unit an entry, and a quantum of each key's own.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from bulkhead_trio.policies.queue._longest_rules import LongestLine

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
        knows_longest: whether `can_make_room` will be asked; a step then costs the logarithm of the
            number of keys, on average.
    """

    __slots__ = ("_longest", "_most_a_round", "_ring", "_size", "places", "places_a_key")

    def __init__(self, places: int, places_a_key: int, *, knows_longest: bool = False) -> None:
        self.places = places
        self.places_a_key = places_a_key
        self._longest = LongestLine() if knows_longest else None
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
        others = self._most_a_round - (math.ceil(weight) if own else 0)
        return min(self._size, own + math.ceil((own + 1) / weight) * others)

    def ahead_of_newest(self, key: Hashable) -> int:
        """What `ahead` said, or would have, of the newest entry of a key that has one."""
        flow = self._ring[key]
        own = len(flow.entries)
        others = self._most_a_round - math.ceil(flow.weight)
        return min(self._size - 1, own - 1 + math.ceil(own / flow.weight) * others)

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
        if self._longest is not None:
            self._longest.set(key, len(flow.entries) / flow.weight)

    def can_make_room(self, key: Hashable, weight: float) -> bool:
        """Whether somebody's newest entry has to go for one more of ``key``, every place taken.

        That of the key with the longest line for its weight, as fq_codel drops from the longest
        flow (RFC 8290, section 4.1), if it still has at least as much for its weight as ``key``
        then has. So nobody yields to who has more, and it ends when all are level.
        """
        if self._longest is None or not self._ring:
            return False
        flow = self._ring[self._longest.longest()]
        return (len(flow.entries) - 1) / flow.weight >= (self.count(key) + 1) / weight

    def make_room(self) -> E:
        """Remove the newest entry of the key with the longest line for its weight; there is one.

        Raises:
            ValueError: nobody was to know which that is.
        """
        if self._longest is None:
            raise ValueError("it was made without knows_longest")
        key = self._longest.longest()
        flow = self._ring[key]
        entry, _ = flow.entries.popitem(last=True)
        self._left(key, flow)
        return entry

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
        if self._longest is not None:
            self._longest.set(key, len(flow.entries) / flow.weight)
        if not flow.entries:
            del self._ring[key]
            self._most_a_round -= math.ceil(flow.weight)
