"""Settings become events, webhooks and notifications: their stores, stages and resources."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from contextlib import asynccontextmanager

import attrs
import msgspec
import structlog
import trio

from bulkhead_trio.api._tenant_door import EventQuota, TenantDoor
from bulkhead_trio.api._webhook_documents import webhook_urls
from bulkhead_trio.api.dead_letters import DeadLettersResource
from bulkhead_trio.api.deliveries import DeliveriesResource
from bulkhead_trio.api.events import EventsResource
from bulkhead_trio.api.notifications import NotificationsResource
from bulkhead_trio.api.routes import Resource
from bulkhead_trio.api.webhooks import Secrets, WebhooksResource
from bulkhead_trio.app.gateway import Ledger
from bulkhead_trio.app.ground import Ground
from bulkhead_trio.config import Settings
from bulkhead_trio.database import Connection, Pool, PoolSettings, create_pool
from bulkhead_trio.database.deliveries import DeliveryStore
from bulkhead_trio.database.events import EventStore, new_id
from bulkhead_trio.database.notifications import NotificationStore
from bulkhead_trio.database.pruning import Pruning
from bulkhead_trio.database.webhook_tests import WebhookTests
from bulkhead_trio.database.webhooks import WebhookStore
from bulkhead_trio.database.work import NotificationWorkStore, WebhookWorkStore
from bulkhead_trio.database.work_feed import create_work_feed
from bulkhead_trio.delivery._schedule_rules import RetrySchedule
from bulkhead_trio.delivery.channels import (
    ATTEMPT_SECONDS,
    Channel,
    Channels,
    HTTPChannel,
    SMTPChannel,
    ThreadedMailDrop,
    read_smtp_url,
)
from bulkhead_trio.delivery.opening import Delivery, DeliveryStores, open_delivery
from bulkhead_trio.delivery.sealing import WEBHOOK_SECRETS, Sealer
from bulkhead_trio.delivery.settings import DAY_SECONDS, DeliverySettings
from bulkhead_trio.delivery.webhook_sender import WebhookSender
from bulkhead_trio.http.client import ClientLimits, HTTPClient
from bulkhead_trio.http.client.identity import Identity
from bulkhead_trio.http.client.network import NetworkPolicy, guarded_resolve
from bulkhead_trio.observe.delivery_snapshots import DeliverySnapshot
from bulkhead_trio.policies.breaker import BreakerTransition, CircuitBreaker, Consecutive
from bulkhead_trio.policies.compartment import Compartment
from bulkhead_trio.policies.queue import FairQueue
from bulkhead_trio.policies.rate import KeyedRateLimiter, TokenBucket
from bulkhead_trio.tenancy import ApiKeyGuard
from bulkhead_trio.tiers import says_nothing_of_the_database

STATEMENT_SECONDS = 10.0
"""For one use of a connection: a batch that takes milliseconds."""

MARGIN_SECONDS = 10.0
"""What a send has beyond what it may take by itself, before it is taken to hang."""

WAITING_PLACES = 64
"""For those who ask for what is theirs; a line that tenants share fairly."""

FAILURE_THRESHOLD = 5
COOLDOWN_SECONDS = 15.0

_log = structlog.get_logger("bulkhead_trio.delivery")


@attrs.frozen
class Deliveries:
    """Events, webhooks and notifications, running.

    Attributes:
        delivery: the stages.
        door: into what is a tenant's own.
        resources: of the HTTP API.
    """

    delivery: Delivery
    door: TenantDoor
    resources: tuple[Resource, ...]

    def snapshot(self) -> DeliverySnapshot:
        """What all of it holds now."""
        now = self.delivery.snapshot()
        return msgspec.structs.replace(now, intake=self.door.intake(now.intake))


@asynccontextmanager
async def open_deliveries(
    settings: Settings,
    ground: Ground,
    ledger: Ledger,
    guard: ApiKeyGuard,
    identities: Mapping[str, Identity],
    *,
    worker: int,
) -> AsyncIterator[Deliveries]:
    """Start the stages, and hear of work.

    Args:
        settings: those of this process.
        ground: what it stands on.
        ledger: who the tenants are.
        guard: knows their keys.
        identities: as whom requests may go out.
        worker: the number of this process, from 0.
    """
    policy = NetworkPolicy(settings.allowed_private_networks)
    sealer = Sealer(ground.secret_key, purpose=WEBHOOK_SECRETS)
    schedule = RetrySchedule(settings.webhook_retry_schedule)
    async with trio.open_nursery() as nursery:
        # Whoever asks for what is theirs, and what works through it, each have connections of their
        # own: neither waits for the other's.
        of_door = max(1, settings.deliveries_connections // 2)
        asking = await _open_pool("deliveries", of_door, ground, nursery)
        working = await _open_pool(
            "delivery stages", max(1, settings.deliveries_connections - of_door), ground, nursery
        )
        webhook_client, notification_client = _client(policy), _client(policy)
        await nursery.start(webhook_client.run)
        await nursery.start(notification_client.run)
        channels = _channels(settings, notification_client, identities, schedule)
        sender = WebhookSender(
            webhook_client,
            sealer,
            schedule=schedule,
            random=random.random,
            timeout=settings.webhook_timeout_seconds,
            disable_after=settings.webhook_disable_after_seconds,
        )
        stores = DeliveryStores(
            events=EventStore(working),
            webhooks=WebhookWorkStore(working),
            notifications=NotificationWorkStore(working),
            history=Pruning(working),
        )
        door = await _open_door(guard, of_door, ledger.directory.weight_of, nursery)
        async with open_delivery(
            stores,
            sender=sender,
            channels=channels,
            settings=delivery_settings(settings),
            instance=f"{socket.gethostname()}:{os.getpid()}:{worker}",
        ) as delivery:
            nursery.start_soon(create_work_feed(ground.conninfo, [delivery.waking]).run)
            resources = _resources(settings, asking, door, delivery, channels, sealer, policy)
            yield Deliveries(delivery, door, resources)
        nursery.cancel_scope.cancel()


def _resources(
    settings: Settings,
    pool: Pool[Connection],
    door: TenantDoor,
    delivery: Delivery,
    channels: Channels,
    sealer: Sealer,
    policy: NetworkPolicy,
) -> tuple[Resource, ...]:
    check_url = webhook_urls(policy, https_only=settings.is_production)
    deliveries, notifications = DeliveryStore(pool), NotificationStore(pool)
    quota = EventQuota(
        KeyedRateLimiter(
            TokenBucket(rate=settings.events_rate, capacity=settings.events_burst),
            name="events a tenant",
            exempt=[str(tenant) for tenant in settings.events_exempt_tenants],
        ),
        parts=settings.workers,
    )
    return (
        WebhooksResource(
            WebhookStore(pool),
            WebhookTests(pool),
            door,
            quota,
            secrets=Secrets(sealer),
            make_id=new_id,
            check_url=check_url,
            grace_seconds=settings.webhook_secret_grace_seconds,
        ),
        EventsResource(delivery.events, EventStore(pool), deliveries, door, quota),
        DeliveriesResource(deliveries, door),
        DeadLettersResource(deliveries, notifications, door),
        NotificationsResource(
            notifications,
            door,
            quota,
            channels=[name for name in ("smtp", "http") if channels.is_available(name)],
            check_url=check_url,
        ),
    )


def _channels(
    settings: Settings,
    client: HTTPClient,
    identities: Mapping[str, Identity],
    schedule: RetrySchedule,
) -> Channels:
    name = settings.notifications_http_identity
    by_name: dict[str, Channel] = {
        "http": HTTPChannel(client, identity=None if name is None else identities[name])
    }
    if settings.smtp_url is not None:
        drop = ThreadedMailDrop(
            read_smtp_url(settings.smtp_url),
            parallel=settings.notifications_max_parallel_deliveries,
        )
        by_name["smtp"] = SMTPChannel(drop, sender=settings.smtp_from)
    return Channels(by_name, schedule=schedule, random=random.random)


def delivery_settings(settings: Settings) -> DeliverySettings:
    """How much of everything the stages get."""
    return DeliverySettings(
        webhooks_parallel=settings.webhooks_max_parallel_deliveries,
        notifications_parallel=settings.notifications_max_parallel_deliveries,
        schedule=RetrySchedule(settings.webhook_retry_schedule),
        timeout_seconds=settings.webhook_timeout_seconds,
        lease_seconds=settings.delivery_lease_seconds,
        limit_seconds=max(ATTEMPT_SECONDS, settings.webhook_timeout_seconds) + MARGIN_SECONDS,
        retention_seconds=settings.deliveries_retention_days * DAY_SECONDS,
        grace_seconds=settings.shutdown_grace_seconds,
    )


def _client(policy: NetworkPolicy) -> HTTPClient:
    return HTTPClient(ClientLimits(), resolve=guarded_resolve(policy))


async def _open_pool(
    name: str, connections: int, ground: Ground, nursery: trio.Nursery
) -> Pool[Connection]:
    pool = create_pool(name, PoolSettings(ground.conninfo, connections, STATEMENT_SECONDS))
    await nursery.start(pool.run)
    return pool


async def _open_door(
    guard: ApiKeyGuard,
    workers: int,
    weight: Callable[[Hashable], float],
    nursery: trio.Nursery,
) -> TenantDoor:
    compartment = Compartment(
        "deliveries",
        workers=workers,
        queue=FairQueue(WAITING_PLACES, weight=weight, reserved_share=0, makes_room=True),
    )
    await nursery.start(compartment.run)
    breaker = CircuitBreaker(
        "deliveries",
        window=Consecutive(FAILURE_THRESHOLD),
        wait_in_open=COOLDOWN_SECONDS,
        ignore=says_nothing_of_the_database,
        listeners=(_log_transition,),
    )
    return TenantDoor(guard, compartment, breaker)


def _log_transition(moved: BreakerTransition) -> None:
    _log.warning(
        "breaker_moved", breaker=moved.breaker, before=moved.before.value, after=moved.after.value
    )
