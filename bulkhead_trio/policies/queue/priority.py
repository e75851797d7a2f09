"""A bounded line in which the urgent come first, and the least urgent make room for them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar

from bulkhead_trio.errors import BulkheadFull
from bulkhead_trio.policies.queue._priority_rules import PriorityOrder
from bulkhead_trio.policies.queue.line import Ticket, TicketLine, said_or_current

T = TypeVar("T")


class PriorityQueue(TicketLine[T]):
    """The most urgent first, and among equals who came first.

    A newcomer to a full line displaces the newest of the least urgent, whose owner gets `Shed`, if
    it is more urgent than that one; otherwise it is refused itself. So whatever waits longest among
    equals is not the one to go.

    The urgent can starve the rest, as priorities are meant to. Where that must not be, a
    `FairQueue` is wanted.

    Made for a handful of priorities. With p different ones in the line, a step finds its own in
    O(log p), and the prediction of a wait adds up those that are more urgent, O(p).

    Args:
        places: how many may wait; 0 means that nobody ever waits.

    Raises:
        ValueError: ``places`` is negative.
    """

    def __init__(self, places: int) -> None:
        super().__init__(places)
        self._order = PriorityOrder[Ticket[T]](places)

    def has_room(self, *, priority: int | None = None, key: Hashable = None) -> bool:
        """Whether a place is free, or held by something less urgent."""
        priority, _ = said_or_current(priority, key)
        return self._order.has_room(priority)

    def ahead(self, *, priority: int | None = None, key: Hashable = None) -> int:
        """How many are as urgent or more."""
        priority, _ = said_or_current(priority, key)
        return self._order.ahead(priority)

    def _add(self, ticket: Ticket[T], retry_after: float | None) -> Ticket[T] | None:
        if not self._order.has_room(ticket.priority):
            raise BulkheadFull(
                "every waiting place is taken by something as urgent", retry_after=retry_after
            )
        return self._order.add(ticket, ticket.priority)

    def _next(self) -> Ticket[T]:
        return self._order.pop_next()

    def _remove(self, ticket: Ticket[T]) -> None:
        self._order.remove(ticket, ticket.priority)
