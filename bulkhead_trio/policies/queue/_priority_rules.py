"""Who is next, and who has to go, where some are more urgent than others. Pure."""

from __future__ import annotations

import bisect
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

E = TypeVar("E", bound=Hashable)


class PriorityOrder(Generic[E]):
    """Entries by priority, lower numbers first, and within one in the order of their coming.

    Adding, taking and removing look one priority up in a sorted list of those that are there and
    change that list only as a priority comes or goes; nothing stays of an entry that has left.

    Args:
        places: how many entries it may hold; 0 or more.
    """

    __slots__ = ("_by_priority", "_priorities", "_size", "places")

    def __init__(self, places: int) -> None:
        self.places = places
        self._size = 0
        self._priorities: list[int] = []
        self._by_priority: dict[int, OrderedDict[E, None]] = {}

    def __len__(self) -> int:
        """How many entries there are."""
        return self._size

    def has_room(self, priority: int) -> bool:
        """Whether a place is free, or held by something less urgent."""
        if self._size < self.places:
            return True
        return bool(self._priorities) and priority < self._priorities[-1]

    def ahead(self, priority: int) -> int:
        """How many are as urgent or more; O(p) for p different priorities."""
        end = bisect.bisect_right(self._priorities, priority)
        if end == len(self._priorities):
            return self._size
        return sum(len(self._by_priority[each]) for each in self._priorities[:end])

    def add(self, entry: E, priority: int) -> E | None:
        """Put ``entry`` in its place; there `has_room`. Answers with the entry that had to go."""
        displaced = None
        if self._size >= self.places:
            displaced = self._pop(self._priorities[-1], newest=True)
        line = self._by_priority.get(priority)
        if line is None:
            line = self._by_priority[priority] = OrderedDict()
            bisect.insort(self._priorities, priority)
        line[entry] = None
        self._size += 1
        return displaced

    def pop_next(self) -> E:
        """Remove the oldest of the most urgent; there is one."""
        return self._pop(self._priorities[0], newest=False)

    def remove(self, entry: E, priority: int) -> None:
        """Remove an entry that is there."""
        line = self._by_priority[priority]
        del line[entry]
        self._left(priority, line)

    def _pop(self, priority: int, *, newest: bool) -> E:
        line = self._by_priority[priority]
        entry, _ = line.popitem(last=newest)
        self._left(priority, line)
        return entry

    def _left(self, priority: int, line: OrderedDict[E, None]) -> None:
        self._size -= 1
        if not line:
            del self._by_priority[priority]
            self._priorities.pop(bisect.bisect_left(self._priorities, priority))
