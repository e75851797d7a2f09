"""A bounded line in which the urgent come first, and the least urgent make room for them."""

from __future__ import annotations

import bisect
from collections import OrderedDict
from collections.abc import Hashable
from typing import TypeVar

from bulkhead_trio.errors import BulkheadFull
from bulkhead_trio.policies.queue.line import Ticket, TicketLine, said_or_current

T = TypeVar("T")


class PriorityQueue(TicketLine[T]):
    """The most urgent first, and among equals who came first.

    A newcomer to a full line displaces the newest of the least urgent, whose owner gets `Shed`, if
    it is more urgent than that one; otherwise it is refused itself. So whatever waits longest among
    equals is not the one to go.

    The urgent can starve the rest, as priorities are meant to. Where that must not be, a
    `FairQueue` is wanted.

    Steps take O(log p) for p different priorities in the line; one list of them is kept in order.

    Args:
        places: how many may wait; 0 means that nobody ever waits.

    Raises:
        ValueError: ``places`` is negative.
    """

    def __init__(self, places: int) -> None:
        super().__init__(places)
        self._priorities: list[int] = []
        self._by_priority: dict[int, OrderedDict[Ticket[T], None]] = {}

    def has_room(self, *, priority: int | None = None, key: Hashable = None) -> bool:
        """Whether a place is free, or held by something less urgent."""
        if len(self) < self.places:
            return True
        priority, _ = said_or_current(priority, key)
        return bool(self._priorities) and priority < self._priorities[-1]

    def ahead(self, *, priority: int | None = None, key: Hashable = None) -> int:
        """How many are as urgent or more."""
        priority, _ = said_or_current(priority, key)
        end = bisect.bisect_right(self._priorities, priority)
        return sum(len(self._by_priority[each]) for each in self._priorities[:end])

    def _add(self, ticket: Ticket[T], retry_after: float | None) -> Ticket[T] | None:
        displaced = None
        if len(self) >= self.places:
            if not self._priorities or ticket.priority >= self._priorities[-1]:
                raise BulkheadFull(
                    "every waiting place is taken by something as urgent", retry_after=retry_after
                )
            displaced = self._pop(self._priorities[-1], newest=True)
        line = self._by_priority.get(ticket.priority)
        if line is None:
            line = self._by_priority[ticket.priority] = OrderedDict()
            bisect.insort(self._priorities, ticket.priority)
        line[ticket] = None
        return displaced

    def _next(self) -> Ticket[T]:
        return self._pop(self._priorities[0], newest=False)

    def _remove(self, ticket: Ticket[T]) -> None:
        line = self._by_priority[ticket.priority]
        del line[ticket]
        self._forget_if_empty(ticket.priority, line)

    def _pop(self, priority: int, *, newest: bool) -> Ticket[T]:
        line = self._by_priority[priority]
        ticket, _ = line.popitem(last=newest)
        self._forget_if_empty(priority, line)
        return ticket

    def _forget_if_empty(self, priority: int, line: OrderedDict[Ticket[T], None]) -> None:
        if not line:
            del self._by_priority[priority]
            self._priorities.pop(bisect.bisect_left(self._priorities, priority))
