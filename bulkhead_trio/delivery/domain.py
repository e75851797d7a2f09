"""Domain events: what happened in this process, told to whoever in it wants to know.

They never leave the process by themselves. Publishing costs its caller a few microseconds, whatever
the subscribers do: each has a bounded queue and a task of its own, and loses what it does not take
in time, the oldest first, which is counted.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from uuid import UUID

import attrs
import trio

from bulkhead_trio.delivery._signal import Bell
from bulkhead_trio.delivery.supervision import Supervisor
from bulkhead_trio.policies._checks import check_whole

PLACES: Final = 1000
"""Events that wait for one subscriber, unless it says otherwise."""

_IDLE_SECONDS: Final = 3600.0

_log = logging.getLogger("bulkhead_trio.delivery")


@attrs.frozen
class DomainEvent:
    """Something that happened here.

    Attributes:
        type: such as ``tier.breaker_opened``.
        payload: what there is to say of it; JSON can hold it.
        tenant_id: whose it is; ``None``: nobody's alone.
        tier: the tier that it happened to, if it happened to one.
    """

    type: str
    payload: Mapping[str, Any]
    tenant_id: UUID | None = None
    tier: str | None = None


@attrs.frozen
class SubscriberStatistics:
    """How one subscriber is doing.

    Attributes:
        active: whether it is at work on an event.
        queued: events that wait for it.
        places: how many may.
        taken: events it has dealt with, well or not.
        failed: those of them at which it raised.
        dropped: events that it was too slow for.
        crashes: how often its task had to be started again.
    """

    name: str
    active: bool
    queued: int
    places: int
    taken: int
    failed: int
    dropped: int
    crashes: int


class Subscription:
    """One subscriber's queue and task; `DomainEvents.subscribe` makes it."""

    def __init__(
        self, name: str, handle: Callable[[DomainEvent], Awaitable[None]], *, places: int
    ) -> None:
        check_whole("places", places, minimum=1)
        self.name = name
        self._handle = handle
        self._waiting: deque[DomainEvent] = deque()
        self._places = places
        self._bell = Bell()
        self._supervisor = Supervisor(f"the subscriber {name}")
        self._is_active = False
        self._taken = 0
        self._failed = 0
        self._dropped = 0

    def _offer(self, event: DomainEvent) -> None:
        """Queue ``event``; the oldest makes room where there is none."""
        if len(self._waiting) >= self._places:
            self._waiting.popleft()
            self._dropped += 1
        self._waiting.append(event)
        self._bell.ring()

    async def _run(self) -> None:
        await self._supervisor.run(self._take_all)

    async def _take_all(self) -> None:
        while True:
            while self._waiting:
                await self._take(self._waiting.popleft())
            await self._bell.wait(_IDLE_SECONDS)

    async def _take(self, event: DomainEvent) -> None:
        self._is_active = True
        try:
            await self._handle(event)
        except Exception:
            self._failed += 1
            raise
        finally:
            self._is_active = False
            self._taken += 1

    def statistics(self) -> SubscriberStatistics:
        """How it is doing."""
        return SubscriberStatistics(
            name=self.name,
            active=self._is_active,
            queued=len(self._waiting),
            places=self._places,
            taken=self._taken,
            failed=self._failed,
            dropped=self._dropped,
            crashes=self._supervisor.crashes,
        )


class DomainEvents:
    """The bus. `run` must be running for subscribers to hear anything; publishing works always."""

    def __init__(self) -> None:
        self._subscriptions: list[Subscription] = []
        self._nursery: trio.Nursery | None = None
        self._published = 0

    def subscribe(
        self,
        name: str,
        handle: Callable[[DomainEvent], Awaitable[None]],
        *,
        places: int = PLACES,
    ) -> Subscription:
        """Have ``handle`` called with each event, one after the other, in a task of its own.

        What it raises is logged; it goes on with the next event after a moment, longer each time.

        Args:
            name: for statistics and logs.
            handle: takes one event.
            places: events that may wait for it; the oldest are dropped beyond that.

        Raises:
            ValueError: ``places`` is below 1.
        """
        subscription = Subscription(name, handle, places=places)
        self._subscriptions.append(subscription)
        if self._nursery is not None:
            self._nursery.start_soon(subscription._run)
        return subscription

    def publish(self, event: DomainEvent) -> None:
        """Tell all subscribers; never waits, and never raises."""
        self._published += 1
        for subscription in self._subscriptions:
            try:
                subscription._offer(event)
            except Exception:  # noqa: BLE001  whoever raises an event is never harmed by it
                _log.exception("%s could not be told of %s", subscription.name, event.type)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the subscribers' tasks until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                for subscription in self._subscriptions:
                    nursery.start_soon(subscription._run)
                self._nursery = nursery
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None

    @property
    def published(self) -> int:
        """How many events have been published."""
        return self._published

    def statistics(self) -> tuple[SubscriberStatistics, ...]:
        """How the subscribers are doing, in the order in which they came."""
        return tuple(each.statistics() for each in self._subscriptions)
