"""One quota and the tasks that wait for it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, Generic, TypeVar

import attrs
import trio

from bulkhead_trio.policies.rate._decision import Decision, seconds_until
from bulkhead_trio.policies.rate._line_rules import Line, Place

S = TypeVar("S")


@attrs.define
class Counts:
    """What a limiter has counted since it was made."""

    allowed: int = 0
    refused: int = 0
    exempted: int = 0
    turned_away: int = 0
    given_back: int = 0
    forgotten: int = 0


class Waiter:
    """A task that waits for a place: how to wake it, and the scope that is its timer."""

    __slots__ = ("event", "scope")

    def __init__(self) -> None:
        self.event = trio.Event()
        self.scope = trio.CancelScope()


class Account(Generic[S]):
    """A line, and the tasks in it. Everything but `wait_for` decides without waiting."""

    __slots__ = ("_counts", "line")

    def __init__(self, line: Line[S], counts: Counts) -> None:
        self.line = line
        self._counts = counts

    def take(self, now: float, cost: int) -> Decision:
        """Take ``cost`` units if they can be had without overtaking anybody."""
        if self.line.first is not None:
            self.settle(now)
        decision = self.line.decide(now, cost)
        if decision.allowed:
            self._counts.allowed += 1
        return decision

    def settle(self, now: float, before: Place[S] | None = None) -> None:
        """Let everybody (``before`` a place) go whose moment has come; set the next one's timer."""
        line = self.line
        while (place := line.next_to_go(now, before)) is not None:
            self._counts.allowed += 1
            if place.waiter is not None:
                place.waiter.event.set()
        first = line.first_with_waiter()
        if first is not None:
            first.waiter.scope.deadline = first.at

    def give_back(self, place: Place[S]) -> bool:
        """Give ``place`` back if it was not used, which its owner knows; says whether it could be.

        One that has gone can be given back until something else goes.
        """
        now = trio.current_time()
        if place.is_in_line:
            self.settle(now, place)
            self.line.leave(place, now)
        elif self.line.take_back(place, now):
            self._counts.allowed -= 1
        else:
            return False
        self._counts.given_back += 1
        if place.waiter is not None:
            place.waiter.event.set()
        self.settle(now)
        return True

    async def wait_for(self, place: Place[S]) -> Decision:
        """Wait until ``place`` may go; cancelled, it is given back."""
        waiter = place.waiter = Waiter()
        try:
            while place.is_in_line:
                self.line.refresh(place)
                # A scope serves once; until this one, the timer may have been set for an earlier.
                waiter.scope = trio.CancelScope(deadline=place.at)
                with waiter.scope:
                    await waiter.event.wait()
                self.settle(trio.current_time())
        except BaseException:
            place.waiter = None
            self.give_back(place)
            raise
        place.waiter = None
        if not place.has_gone:
            raise RuntimeError("the reservation was given back while this task waited for it")
        return place.decision


class Reservation:
    """Units that are set aside for a moment that will come.

    ``await reservation`` sleeps until then, and ``async with reservation:`` does so on its way in;
    whoever is cancelled in that sleep gives the units back. Nobody has to wait for it: the units
    are used at that moment, unless `cancel` gives them back.
    """

    __slots__ = ("_account", "_is_awaited", "_on_end", "_place")

    def __init__(
        self,
        account: Account[Any] | None,
        place: Place[Any],
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self._account = account
        self._place: Place[Any] = place
        self._on_end = on_end
        self._is_awaited = False

    @property
    def cost(self) -> int:
        """The units set aside."""
        return self._place.cost

    @property
    def wait(self) -> float:
        """Seconds until it may go; less than at first once somebody in front has given up.

        Raises:
            RuntimeError: it was given back.
        """
        place, now = self._place, trio.current_time()
        if self._account is not None:
            self._account.settle(now)
            if place.is_in_line:
                self._account.line.refresh(place)
                return seconds_until(place.at, now)
        if not place.has_gone:
            raise RuntimeError("this reservation was given back")
        return 0.0

    def cancel(self) -> bool:
        """Give the units back, so that whoever is behind goes earlier.

        Returns:
            whether they could be: not once it was waited for to the end, nor when its moment has
            come and something else has gone since.
        """
        if self._account is None:
            return False
        self._account.settle(trio.current_time())
        is_given_back = self._account.give_back(self._place)
        self._end()
        return is_given_back

    async def _sleep(self) -> Decision:
        if self._is_awaited:
            raise RuntimeError("a reservation is waited for once")
        self._is_awaited = True
        try:
            await trio.lowlevel.checkpoint()
            if self._account is not None and self._place.is_in_line:
                await self._account.wait_for(self._place)
        except BaseException:
            self.cancel()
            raise
        if not self._place.has_gone:
            raise RuntimeError("this reservation was given back")
        self._end()
        return self._place.decision

    def _end(self) -> None:
        """It was used or given back: nothing more can come of it."""
        self._account = None
        if self._on_end is not None:
            self._on_end()

    def __await__(self) -> Generator[object, None, Decision]:
        return self._sleep().__await__()

    async def __aenter__(self) -> Decision:
        return await self._sleep()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing: what was reserved is used."""
