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

    Every step takes O(1), however many keys there are; with ``makes_room``, O(log n) on average.

    Args:
        places: how many may wait; 0 means that nobody ever waits.
        weight: a key's weight, 1 or more, fractions allowed; asked when the key comes into the
            line. What is below 1 raises `ValueError` there.
        reserved_share: share of the places that no single key can have, 0 up to but not including
            1: one key may hold ``places * (1 - reserved_share)`` of them, rounded down, but one at
            least. 0 lets one key fill the line.
        makes_room: whether a newcomer to a full line gets the place of the newest of the key that
            has the longest line for its weight, whose owner gets `Shed`; provided that this key
            still has at least as much for its weight as the newcomer's then has. Otherwise a full
            line refuses everybody. With ``reserved_share=0`` one key may have all the places for as
            long as nobody else wants them.

    Raises:
        ValueError: a parameter makes no sense; it is named.
    """

    _why_displaced = "a key with less waiting came"

    def __init__(
        self,
        places: int,
        *,
        weight: Callable[[Hashable], float] = _equal,
        reserved_share: float = 0.5,
        makes_room: bool = False,
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
        self._makes_room = makes_room
        self._order = FairOrder[Ticket[T]](places, self.places_a_key, knows_longest=makes_room)

    def has_room(self, *, priority: int | None = None, key: Hashable = None) -> bool:
        """Whether a place is free or would be made, and the key has not had its share of them."""
        _, key = said_or_current(priority, key)
        if self._order.has_share(key):
            return False
        return not self._order.is_full() or self._can_make_room(key)

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

    def _can_make_room(self, key: Hashable) -> bool:
        return self._makes_room and self._order.can_make_room(key, self._weight_of(key))

    def _add(self, ticket: Ticket[T], retry_after: float | None) -> Ticket[T] | None:
        key = ticket.key
        is_full = self._order.is_full()
        if is_full and not self._can_make_room(key):
            raise BulkheadFull("every waiting place is taken", retry_after=retry_after)
        if self._order.has_share(key):
            raise BulkheadFull(
                "this key has its share of the waiting places", retry_after=retry_after
            )
        weight = self._weight_of(key)
        loser = self._order.make_room() if is_full else None
        self._order.add(ticket, key, weight)
        return loser

    def _ahead_of_newest(self, ticket: Ticket[T]) -> int:
        return self._order.ahead_of_newest(ticket.key)

    def _next(self) -> Ticket[T]:
        return self._order.pop_next()

    def _remove(self, ticket: Ticket[T]) -> None:
        self._order.remove(ticket, ticket.key)
