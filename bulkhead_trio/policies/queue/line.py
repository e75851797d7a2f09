"""What every waiting line is, and what a place in one is."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import attrs
import outcome
import trio

from bulkhead_trio.errors import Rejected, Shed
from bulkhead_trio.policies._checks import check_priority, check_whole
from bulkhead_trio.policies.context import current_request
from bulkhead_trio.policies.listeners import tell

T = TypeVar("T")


class Priority(enum.IntEnum):
    """How urgent something is; lower numbers come first. Any other whole number will do as well."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


@attrs.frozen
class QueueStatistics:
    """What a waiting line holds at one moment, and has counted since it was made.

    Attributes:
        waiting: how many wait.
        places: how many may.
        taken: how many got what they waited for.
        refused: how many were refused a place.
        shed: how many lost theirs.
    """

    waiting: int
    places: int
    taken: int = 0
    refused: int = 0
    shed: int = 0


class WaitingLine(ABC, Generic[T]):
    """A bounded line of what waits, which says itself whom it has room for and who is next.

    Attributes:
        places: how many may wait.
    """

    places: int

    @abstractmethod
    def __len__(self) -> int:
        """How many wait now."""

    @property
    @abstractmethod
    def nonempty_since(self) -> float:
        """When the line last began to have somebody in it; means nothing while it is empty."""

    @abstractmethod
    def has_room(self, *, priority: int | None = None, key: Hashable = None) -> bool:
        """Whether a newcomer would get a place now, perhaps another's."""

    @abstractmethod
    def ahead(self, *, priority: int | None = None, key: Hashable = None) -> int:
        """How many of those who wait would be taken before a newcomer, as far as one can tell."""

    @abstractmethod
    async def put(
        self,
        item: T,
        *,
        priority: int | None = None,
        key: Hashable = None,
        retry_after: float | None = None,
    ) -> None:
        """Wait in line with ``item`` until somebody takes it.

        Either this returns and ``item`` was taken, or it raises and ``item`` never will be.

        Args:
            item: what the taker gets.
            priority: how urgent it is, for lines that care.
            key: whose it is, for lines that care.
            retry_after: what to tell a caller who is refused, in seconds.

        Raises:
            BulkheadFull: there is no place for it.
            Shed: it lost its place, or the line broke off.
        """

    @abstractmethod
    def take_nowait(self) -> T:
        """Take the item that is next, and let its owner go on.

        Raises:
            trio.WouldBlock: nobody waits.
        """

    @abstractmethod
    def break_off(self, *, down_for: float) -> None:
        """Send everybody who waits away with `Shed`.

        Args:
            down_for: seconds after which waiting makes sense again, told to those sent away.
        """

    @abstractmethod
    def statistics(self) -> QueueStatistics:
        """What the line holds now."""


class Ticket(Generic[T]):
    """A place in a line that nobody has to stand in: it is told what becomes of it.

    Attributes:
        item: what the taker gets.
        priority: how urgent it is.
        key: whose it is.
        is_waiting: whether it is still in the line.
    """

    __slots__ = ("is_waiting", "item", "key", "on_dropped", "on_taken", "priority")

    def __init__(
        self,
        item: T,
        *,
        priority: int,
        key: Hashable,
        on_taken: Callable[[], None] | None,
        on_dropped: Callable[[Rejected], None] | None,
    ) -> None:
        self.item = item
        self.priority = priority
        self.key = key
        self.on_taken = on_taken
        self.on_dropped = on_dropped
        self.is_waiting = True


class TicketLine(WaitingLine[T]):
    """A line of tickets. Subclasses say who is next and who has to go.

    Args:
        places: how many may wait; 0 means that nobody ever waits.

    Raises:
        ValueError: ``places`` is negative.
    """

    _why_displaced = "something more urgent came"

    def __init__(self, places: int) -> None:
        check_whole("places", places, minimum=0)
        self.places = places
        self._waiting = 0
        self._nonempty_since = 0.0
        self._taken = 0
        self._refused = 0
        self._shed = 0

    # --- what differs ----------------------------------------------------------------------------

    @abstractmethod
    def _add(self, ticket: Ticket[T], retry_after: float | None) -> Ticket[T] | None:
        """Put ``ticket`` in its place; answers with whom it displaces.

        Raises:
            BulkheadFull: there is no place for it.
        """

    @abstractmethod
    def _next(self) -> Ticket[T]:
        """Remove the next one; there is one."""

    @abstractmethod
    def _remove(self, ticket: Ticket[T]) -> None:
        """Remove one that waits."""

    # --- what does not ---------------------------------------------------------------------------

    def __len__(self) -> int:
        """How many wait now."""
        return self._waiting

    @property
    def nonempty_since(self) -> float:
        """When the line last began to have somebody in it; means nothing while it is empty."""
        return self._nonempty_since

    def put_nowait(
        self,
        item: T,
        *,
        priority: int | None = None,
        key: Hashable = None,
        retry_after: float | None = None,
        on_taken: Callable[[], None] | None = None,
        on_dropped: Callable[[Rejected], None] | None = None,
    ) -> Ticket[T]:
        """Take a place for ``item`` without standing in it.

        What is not said of priority and key comes from the request that the task works for.

        Args:
            item: what the taker gets.
            priority: how urgent it is, for lines that care.
            key: whose it is, for lines that care.
            retry_after: the wait that is predicted for it, in seconds: what it is told if it is
                refused, and what is told to whom it displaces, in proportion.
            on_taken: called when it has been taken; must not raise.
            on_dropped: called with the reason when it has lost its place; what it raises is logged.

        Raises:
            BulkheadFull: there is no place for it.
        """
        priority, key = said_or_current(priority, key)
        ticket = Ticket(item, priority=priority, key=key, on_taken=on_taken, on_dropped=on_dropped)
        try:
            displaced = self._add(ticket, retry_after)
        except Rejected:
            self._refused += 1
            raise
        if displaced is None:
            if not self._waiting:
                self._nonempty_since = trio.current_time()
            self._waiting += 1
        else:
            self._displaced(displaced, ticket, retry_after)
        return ticket

    async def put(
        self,
        item: T,
        *,
        priority: int | None = None,
        key: Hashable = None,
        retry_after: float | None = None,
    ) -> None:
        """Wait in line with ``item`` until somebody takes it; see `WaitingLine.put`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        task = trio.lowlevel.current_task()
        ticket = self.put_nowait(
            item,
            priority=priority,
            key=key,
            retry_after=retry_after,
            on_taken=lambda: trio.lowlevel.reschedule(task),
            on_dropped=lambda error: trio.lowlevel.reschedule(task, outcome.Error(error)),
        )

        def leave(_: object) -> trio.lowlevel.Abort:
            self.withdraw(ticket)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)

    def withdraw(self, ticket: Ticket[T]) -> bool:
        """Give a place up; whether it was still waiting. Nobody is told."""
        if not ticket.is_waiting:
            return False
        ticket.is_waiting = False
        self._remove(ticket)
        self._waiting -= 1
        return True

    def take_nowait(self) -> T:
        """Take the item that is next, and let its owner go on.

        Raises:
            trio.WouldBlock: nobody waits.
        """
        if not self._waiting:
            raise trio.WouldBlock
        ticket = self._next()
        ticket.is_waiting = False
        self._waiting -= 1
        self._taken += 1
        if ticket.on_taken is not None:
            ticket.on_taken()
        return ticket.item

    def break_off(self, *, down_for: float) -> None:
        """Send everybody who waits away with `Shed`; the most urgent hear it first."""
        # All leave before the first one hears of it: it may come again at once.
        leaving = [self._next() for _ in range(self._waiting)]
        self._waiting = 0
        for ticket in leaving:
            ticket.is_waiting = False
        for ticket in leaving:
            self._drop(ticket, Shed("the waiting line broke off", retry_after=down_for))

    def statistics(self) -> QueueStatistics:
        """What the line holds now."""
        return QueueStatistics(
            waiting=self._waiting,
            places=self.places,
            taken=self._taken,
            refused=self._refused,
            shed=self._shed,
        )

    def _displaced(self, loser: Ticket[T], winner: Ticket[T], wait: float | None) -> None:
        """Tell ``loser`` when to come again, from the wait that is predicted for ``winner``.

        A predicted wait is in proportion to the departures that it takes, one's own with them. The
        winner is behind the others of its priority; the loser would be behind the whole line.
        """
        loser.is_waiting = False
        if wait is not None:
            wait *= (self._waiting + 1) / (self._ahead_of_newest(winner) + 1)
        self._drop(loser, Shed(self._why_displaced, retry_after=wait))

    def _ahead_of_newest(self, ticket: Ticket[T]) -> int:
        """How many are ahead of one that has just come."""
        return self.ahead(priority=ticket.priority, key=ticket.key) - 1  # itself not

    def _drop(self, ticket: Ticket[T], reason: Rejected) -> None:
        self._shed += 1
        if ticket.on_dropped is not None:
            tell((ticket.on_dropped,), reason)


def said_or_current(priority: int | None, key: Hashable) -> tuple[int, Hashable]:
    """What was said; otherwise what the current request says; otherwise ordinary, and nobody's.

    Raises:
        ValueError: the priority is no whole number.
    """
    if priority is None or key is None:
        request = current_request()
        if request is not None:
            priority = request.priority if priority is None else priority
            key = request.tenant if key is None else key
    if priority is None:
        return Priority.NORMAL, key
    check_priority(priority)
    return priority, key
