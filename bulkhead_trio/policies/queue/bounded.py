"""A bounded waiting line, first in first out."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar

import trio

from bulkhead_trio.errors import BulkheadFull, Shed
from bulkhead_trio.policies._checks import check_whole
from bulkhead_trio.policies.queue.line import QueueStatistics, WaitingLine

T = TypeVar("T")


class BoundedQueue(WaitingLine[T]):
    """Tasks that wait, in order, until each is taken; refuses when every place is taken.

    The places are the parked senders of a memory channel without a buffer. Trio itself removes a
    sender that is cancelled, in constant time, so that nobody who has left ever holds a place; a
    buffered channel would keep what a cancelled caller put into it.

    Args:
        places: how many may wait; 0 means that nobody ever waits.

    Raises:
        ValueError: ``places`` is negative.
    """

    def __init__(self, places: int) -> None:
        check_whole("places", places, minimum=0)
        self.places = places
        self._send, self._receive = trio.open_memory_channel[T](0)
        self._nonempty_since = 0.0
        self._down_until = float("-inf")
        self._taken = 0
        self._refused = 0
        self._shed = 0

    def __len__(self) -> int:
        """How many wait now."""
        return self._receive.statistics().tasks_waiting_send

    @property
    def nonempty_since(self) -> float:
        """When the line last began to have somebody in it; means nothing while it is empty."""
        return self._nonempty_since

    def has_room(
        self,
        *,
        priority: int | None = None,  # noqa: ARG002  to this line all are alike
        key: Hashable = None,  # noqa: ARG002
    ) -> bool:
        """Whether a place is free."""
        return len(self) < self.places

    def ahead(
        self,
        *,
        priority: int | None = None,  # noqa: ARG002
        key: Hashable = None,  # noqa: ARG002
    ) -> int:
        """All who wait."""
        return len(self)

    async def put(
        self,
        item: T,
        *,
        priority: int | None = None,  # noqa: ARG002
        key: Hashable = None,  # noqa: ARG002
        retry_after: float | None = None,
    ) -> None:
        """Wait in line with ``item`` until somebody takes it.

        Either this returns and ``item`` was taken, or it raises and ``item`` never will be.

        Args:
            item: what the taker gets.
            priority: makes no difference here.
            key: makes no difference here.
            retry_after: what to tell a caller who is refused, in seconds.

        Raises:
            BulkheadFull: every place is taken.
            Shed: the line broke off (see `break_off`) while this was waiting.
        """
        waiting = len(self)
        if waiting >= self.places:
            self._refused += 1
            raise BulkheadFull("every waiting place is taken", retry_after=retry_after)
        if waiting == 0:
            self._nonempty_since = trio.current_time()
        try:
            await self._send.send(item)
        except trio.BrokenResourceError:
            wait = max(0.0, self._down_until - trio.current_time())
            raise Shed("the waiting line broke off", retry_after=wait) from None

    def take_nowait(self) -> T:
        """Take the item that has waited longest, and let its owner go on.

        Raises:
            trio.WouldBlock: nobody waits.
        """
        item = self._receive.receive_nowait()
        self._taken += 1
        return item

    def break_off(self, *, down_for: float) -> None:
        """Send everybody who waits away with `Shed`, and start an empty line.

        Args:
            down_for: seconds after which waiting makes sense again, told to those sent away.
        """
        self._down_until = trio.current_time() + down_for
        self._shed += len(self)
        self._receive.close()
        self._send, self._receive = trio.open_memory_channel[T](0)

    def statistics(self) -> QueueStatistics:
        """What the line holds now."""
        return QueueStatistics(
            waiting=len(self),
            places=self.places,
            taken=self._taken,
            refused=self._refused,
            shed=self._shed,
        )
