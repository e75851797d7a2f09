"""Puts the stages together, and owns them for a block.

    domain events --> tier events --+
                                    v
    requests ------------------> writer --> [outbox] --> fan-out --> [work] --> webhooks
    requests -----------------------------------------------------> [work] --> notifications

What is in brackets is in PostgreSQL, and all that the stages share: each has its own task, its own
supervisor and its own room, so that none is held up by another that is stuck.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol, TypeVar

import attrs
import trio

from bulkhead_trio.database.work_records import Backlog, Finished, NotificationWork, WebhookWork
from bulkhead_trio.delivery.backlog import BacklogWatch
from bulkhead_trio.delivery.domain import DomainEvents
from bulkhead_trio.delivery.endpoint_breakers import BreakersStatistics
from bulkhead_trio.delivery.events import EventWriter
from bulkhead_trio.delivery.fan_out import FanOut
from bulkhead_trio.delivery.pipeline import DeliveryPipeline
from bulkhead_trio.delivery.prune import Pruner
from bulkhead_trio.delivery.settings import DeliverySettings
from bulkhead_trio.delivery.statistics import DeliveryStatistics, snapshot_of
from bulkhead_trio.delivery.stores import EventSink, Outbox, Prunable, Work, WorkStore
from bulkhead_trio.delivery.tier_events import TierEvents
from bulkhead_trio.delivery.waking import Waking
from bulkhead_trio.observe.delivery_snapshots import SEVERITY, DeliverySnapshot

W = TypeVar("W", bound=Work)


class EventStore(EventSink, Outbox, Protocol):
    """Where events are kept, and wait until they are fanned out."""

    async def waiting(self) -> int:
        """How many wait for that, over all instances; beyond some number, that number."""


class Sender(Protocol):
    """Sends webhooks; `bulkhead_trio.delivery.webhook_sender.WebhookSender` does."""

    async def send(self, work: WebhookWork) -> Finished:
        """Try once."""

    def statistics(self) -> BreakersStatistics:
        """What is known of the endpoints."""


class Channels(Protocol):
    """Sends notifications; `bulkhead_trio.delivery.channels.Channels` does."""

    async def send(self, work: NotificationWork) -> Finished:
        """Try once."""

    def statistics(self) -> Mapping[str, BreakersStatistics]:
        """What is known of the services behind each channel."""

    @property
    def shared(self) -> Collection[str]:
        """The channels behind which there is one service, for all tenants."""


@attrs.frozen(kw_only=True)
class DeliveryStores:
    """Where everything is kept; see `bulkhead_trio.database`.

    Attributes:
        events: events and the outbox.
        webhooks: the work of delivering webhooks.
        notifications: the work of sending notifications.
        history: what has ended, and is forgotten after a while.
    """

    events: EventStore
    webhooks: WorkStore[WebhookWork]
    notifications: WorkStore[NotificationWork]
    history: Prunable


class Delivery:
    """Everything between an event and its receivers; `open_delivery` makes and runs one.

    Attributes:
        domain: the bus of this process's domain events.
        events: takes events in.
        fan_out: makes deliveries of them.
        webhooks: delivers them.
        notifications: sends notifications.
        pruner: forgets what has ended.
        waking: what the feed of work should tell.
    """

    def __init__(
        self,
        stores: DeliveryStores,
        sender: Sender,
        channels: Channels,
        settings: DeliverySettings,
        *,
        instance: str,
        uniform: Callable[[], float],
    ) -> None:
        self._sender = sender
        self._channels = channels
        self._backlog = BacklogWatch(
            {
                "outbox": partial(_outbox, stores.events),
                "webhooks": stores.webhooks.backlog,
                "notifications": stores.notifications.backlog,
            },
            uniform=uniform,
        )
        self.webhooks = _pipeline(
            "webhooks",
            stores.webhooks,
            sender.send,
            settings.webhooks_parallel,
            settings,
            uniform,
        )
        self.notifications = _pipeline(
            "notifications",
            stores.notifications,
            channels.send,
            settings.notifications_parallel,
            settings,
            uniform,
        )
        self.fan_out = FanOut(
            stores.events,
            on_made=self.webhooks.wake,
            poll_seconds=settings.poll_seconds,
            uniform=uniform,
        )
        self.events = EventWriter(
            stores.events, on_written=self.fan_out.wake, places=settings.event_places
        )
        self.domain = DomainEvents()
        self.domain.subscribe(
            "tier events",
            TierEvents(self.events, instance=instance, uniform=uniform),
            places=settings.domain_places,
        )
        self.pruner = Pruner(
            stores.history, retention_seconds=settings.retention_seconds, uniform=uniform
        )
        self.waking = Waking(
            {
                "events": self.fan_out.wake,
                "webhooks": self.webhooks.wake,
                "notifications": self.notifications.wake,
            }
        )

    def statistics(self) -> DeliveryStatistics:
        """What all stages hold now; of the database, what it was seconds ago."""
        channels = self._channels.statistics()
        return DeliveryStatistics(
            domain=self.domain.statistics(),
            events=self.events.statistics(),
            fan_out=self.fan_out.statistics(),
            outbox_waiting=self._backlog["outbox"].pending,
            webhooks=self.webhooks.statistics(),
            webhooks_waiting=self._backlog["webhooks"],
            webhook_breakers=self._sender.statistics().states,
            notifications=self.notifications.statistics(),
            notifications_waiting=self._backlog["notifications"],
            channel_breakers=_states(channels),
            shared_breakers=_worst({name: channels[name] for name in self._channels.shared}),
            pruning=self.pruner.statistics(),
            count_crashes=self._backlog.crashes,
        )

    def snapshot(self) -> DeliverySnapshot:
        """The same, as it is sent and added up."""
        return snapshot_of(self.statistics())

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own all stages until cancelled; sends under way are given their grace time then."""
        async with trio.open_nursery() as nursery:
            for stage in (
                self.events,
                self.fan_out,
                self.webhooks,
                self.notifications,
                self.domain,
                self.pruner,
                self._backlog,
            ):
                await nursery.start(stage.run)
            task_status.started()
            await trio.sleep_forever()


async def _outbox(events: EventStore) -> Backlog:
    return Backlog(pending=await events.waiting(), retrying=0, dead=0, leased=0)


def _states(channels: Mapping[str, BreakersStatistics]) -> dict[str, int]:
    """How many breakers of all channels are in which state."""
    found = Counter[str]()
    for known in channels.values():
        found.update(known.states)
    return dict(found)


def _worst(channels: Mapping[str, BreakersStatistics]) -> dict[str, str]:
    """The state of each channel's breaker that is worst off."""
    return {
        name: next((state for state in reversed(SEVERITY) if known.states.get(state)), SEVERITY[0])
        for name, known in channels.items()
    }


def _pipeline(
    name: str,
    store: WorkStore[W],
    send: Callable[[W], Awaitable[Finished]],
    parallel: int,
    settings: DeliverySettings,
    uniform: Callable[[], float],
) -> DeliveryPipeline[W]:
    return DeliveryPipeline(
        name,
        store,
        send,
        parallel=parallel,
        lease_seconds=settings.lease_seconds,
        schedule=settings.schedule,
        limit_seconds=settings.limit_seconds,
        grace_seconds=settings.grace_seconds,
        poll_seconds=settings.poll_seconds,
        uniform=uniform,
    )


@asynccontextmanager
async def open_delivery(
    stores: DeliveryStores,
    *,
    sender: Sender,
    channels: Channels,
    settings: DeliverySettings,
    instance: str,
    uniform: Callable[[], float] = random.random,
) -> AsyncIterator[Delivery]:
    """All stages, running for a block; leaving it stops them, and takes the grace time at most.

    Args:
        stores: where everything is kept.
        sender: sends webhooks.
        channels: sends notifications.
        settings: how much of everything there is.
        instance: the name of this one, for events of tiers.
        uniform: a source of numbers in [0, 1) that keeps instances apart.
    """
    delivery = Delivery(
        stores,
        sender,
        channels,
        settings,
        instance=instance,
        uniform=uniform,
    )
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(delivery.run)
        try:
            yield delivery
        except Exception as error:  # noqa: BLE001  raised below, where no nursery makes a group of it
            failure = error
        finally:
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
