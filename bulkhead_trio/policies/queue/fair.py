"""A bounded line that serves keys, such as tenants, in turn: none of them can hold up the rest."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from bulkhead_trio.errors import BulkheadFull
from bulkhead_trio.policies._checks import check_positive
from bulkhead_trio.policies.queue.line import Ticket, TicketLine, said_or_current

T = TypeVar("T")


def _equal(_: Hashable) -> float:
    return 1.0


class _Flow(Generic[T]):
    """What waits of one key, and what it may still take in its turn."""

    __slots__ = ("credit", "tickets", "weight")

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.credit = 0.0
        self.tickets: OrderedDict[Ticket[T], None] = OrderedDict()


class FairQueue(TicketLine[T]):
    """Deficit round robin over keys (Shreedhar and Varghese, SIGCOMM 1995), one unit a ticket.

    Keys that have something waiting stand in a ring. A key's turn lets it take as many as its
    weight says, a fraction being kept for its next turn; then it goes to the end. A key with
    nothing left is forgotten with what it had saved: nobody saves up a burst by being away.

    So between two takings of one key with weight w, every other key takes at most its own weight,
    rounded up, for each turn that it has to wait: with n keys of equal weight that is n - 1 others,
    however much one of them has put in.

    Every step takes O(1), however many keys there are: weights are at least 1, so that each turn
    takes at least one ticket.

    Args:
        places: how many may wait; 0 means that nobody ever waits.
        weight: a key's weight, 1 or more; asked when the key comes into the line.
        reserved_share: share of the places that no single key can have, 0 up to but not including
            1: one key may hold ``places * (1 - reserved_share)`` of them, rounded down, but one at
            least. 0 lets one key fill the line.

    Raises:
        ValueError: a parameter makes no sense; it is named.
    """

    def __init__(
        self,
        places: int,
        *,
        weight: Callable[[Hashable], float] = _equal,
        reserved_share: float = 0.5,
    ) -> None:
        super().__init__(places)
        if not 0 <= reserved_share < 1:
            raise ValueError(
                f"reserved_share must be 0 or more and below 1, not {reserved_share!r}"
            )
        self.places_a_key = max(1, math.floor(places * (1 - reserved_share)))
        self._weight = weight
        self._ring: OrderedDict[Hashable, _Flow[T]] = OrderedDict()
        self._weights = 0.0

    def has_room(self, *, priority: int | None = None, key: Hashable = None) -> bool:
        """Whether a place is free, and the key has not had its share of them."""
        _, key = said_or_current(priority, key)
        return len(self) < self.places and self.waiting(key) < self.places_a_key

    def waiting(self, key: Hashable) -> int:
        """How many of ``key`` wait."""
        flow = self._ring.get(key)
        return 0 if flow is None else len(flow.tickets)

    def ahead(self, *, priority: int | None = None, key: Hashable = None) -> int:
        """How many would be taken before a newcomer of ``key``, if nobody else came."""
        _, key = said_or_current(priority, key)
        flow = self._ring.get(key)
        weight = self._weight_of(key) if flow is None else flow.weight
        own = 0 if flow is None else len(flow.tickets)
        others = self._weights - (0.0 if flow is None else flow.weight)
        turns = (own + 1) / weight
        return min(len(self), own + math.ceil(turns * others))

    def _weight_of(self, key: Hashable) -> float:
        weight = self._weight(key)
        check_positive("weight", weight)
        return max(1.0, weight)

    def _add(self, ticket: Ticket[T], retry_after: float | None) -> Ticket[T] | None:
        if len(self) >= self.places:
            raise BulkheadFull("every waiting place is taken", retry_after=retry_after)
        flow = self._ring.get(ticket.key)
        if flow is None:
            flow = _Flow(self._weight_of(ticket.key))
            self._ring[ticket.key] = flow
            self._weights += flow.weight
        elif len(flow.tickets) >= self.places_a_key:
            raise BulkheadFull(
                "this key has its share of the waiting places", retry_after=retry_after
            )
        flow.tickets[ticket] = None
        return None

    def _next(self) -> Ticket[T]:
        key, flow = next(iter(self._ring.items()))
        if flow.credit < 1:  # its turn begins
            flow.credit += flow.weight
        ticket, _ = flow.tickets.popitem(last=False)
        flow.credit -= 1
        if not flow.tickets:
            self._forget(key, flow)
        elif flow.credit < 1:
            self._ring.move_to_end(key)
        return ticket

    def _remove(self, ticket: Ticket[T]) -> None:
        flow = self._ring[ticket.key]
        del flow.tickets[ticket]
        if not flow.tickets:
            self._forget(ticket.key, flow)

    def _forget(self, key: Hashable, flow: _Flow[T]) -> None:
        del self._ring[key]
        self._weights = max(0.0, self._weights - flow.weight)
