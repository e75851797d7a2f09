"""A bounded line that serves keys, such as tenants, in turn: none of them can hold up the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import TypeVar

from bulkhead_trio.errors import BulkheadFull
from bulkhead_trio.policies._checks import is_finite
from bulkhead_trio.policies.queue._fair_rules import FairOrder
from bulkhead_trio.policies.queue.line import Ticket, TicketLine, said_or_current

T = TypeVar("T")


def _equal(_: Hashable) -> float:
    return 1.0


class FairQueue(TicketLine[T]):
    """Deficit round robin over keys (Shreedhar and Varghese, SIGCOMM 1995), one unit a ticket.

    Keys that have something waiting stand in a ring. A key's turn lets it take as many as its
    weight says, a fraction being kept for its next turn; then it goes to the end. A key with
    nothing left is forgotten with what it had saved: nobody saves up a burst by being away.

    So between two turns of one key, every other key takes at most its own weight, rounded up: with
    n keys of equal weight, n - 1 others are taken between two of one key, however much one of them
    has put in.

    Every step takes O(1), however many keys there are.

    Args:
        places: how many may wait; 0 means that nobody ever waits.
        weight: a key's weight, 1 or more, fractions allowed; asked when the key comes into the
            line. What is below 1 raises `ValueError` there.
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
        if not is_finite(reserved_share) or not 0 <= reserved_share < 1:
            raise ValueError(
                f"reserved_share must be 0 or more and below 1, not {reserved_share!r}"
            )
        # Rounded first: 0.9 of 100 is 90, whatever binary fractions make of it.
        reserved = math.ceil(round(places * reserved_share, 9))
        self.places_a_key = max(1, places - reserved)
        self._weight = weight
        self._order = FairOrder[Ticket[T]](places, self.places_a_key)

    def has_room(self, *, priority: int | None = None, key: Hashable = None) -> bool:
        """Whether a place is free, and the key has not had its share of them."""
        _, key = said_or_current(priority, key)
        return not (self._order.is_full() or self._order.has_share(key))

    def waiting(self, key: Hashable) -> int:
        """How many of ``key`` wait."""
        return self._order.count(key)

    def ahead(self, *, priority: int | None = None, key: Hashable = None) -> int:
        """How many would be taken before a newcomer of ``key`` at most, if nobody else came."""
        _, key = said_or_current(priority, key)
        return self._order.ahead(key, self._weight_of(key))

    def _weight_of(self, key: Hashable) -> float:
        known = self._order.weight(key)
        if known is not None:
            return known
        weight = self._weight(key)
        if not (weight >= 1 and math.isfinite(weight)):
            raise ValueError(f"weight must be 1 or more, not {weight!r}, which {key!r} has")
        return weight

    def _add(self, ticket: Ticket[T], retry_after: float | None) -> Ticket[T] | None:
        if self._order.is_full():
            raise BulkheadFull("every waiting place is taken", retry_after=retry_after)
        if self._order.has_share(ticket.key):
            raise BulkheadFull(
                "this key has its share of the waiting places", retry_after=retry_after
            )
        self._order.add(ticket, ticket.key, self._weight_of(ticket.key))
        return None

    def _next(self) -> Ticket[T]:
        return self._order.pop_next()

    def _remove(self, ticket: Ticket[T]) -> None:
        self._order.remove(ticket, ticket.key)
