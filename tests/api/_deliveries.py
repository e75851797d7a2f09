"""What tenants may ask of the deliveries, over stores on any pool."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import attrs

from bulkhead_trio.api._tenant_door import EventQuota, TenantDoor
from bulkhead_trio.api._webhook_documents import webhook_urls
from bulkhead_trio.api.dead_letters import DeadLettersResource
from bulkhead_trio.api.deliveries import DeliveriesResource
from bulkhead_trio.api.events import EventsResource
from bulkhead_trio.api.notifications import NotificationsResource
from bulkhead_trio.api.routes import Resource
from bulkhead_trio.api.webhooks import Secrets, WebhooksResource
from bulkhead_trio.database import Pool
from bulkhead_trio.database.deliveries import DeliveryStore
from bulkhead_trio.database.events import EventStore
from bulkhead_trio.database.notifications import NotificationStore
from bulkhead_trio.database.tenants import TenantStore
from bulkhead_trio.database.webhook_tests import WebhookTests
from bulkhead_trio.database.webhooks import WebhookStore
from bulkhead_trio.database.work import NotificationWorkStore, WebhookWorkStore
from bulkhead_trio.delivery.events import EventWriter
from bulkhead_trio.delivery.sealing import Sealer
from bulkhead_trio.http.client.network import NetworkPolicy
from bulkhead_trio.policies.breaker import CircuitBreaker, Consecutive
from bulkhead_trio.policies.compartment import Compartment
from bulkhead_trio.policies.rate import KeyedRateLimiter, TokenBucket
from bulkhead_trio.tenancy import ApiKeyGuard
from bulkhead_trio.tenancy.identify import KeyDirectory
from bulkhead_trio.tiers import says_nothing_of_the_database

SECRET_KEY = "a secret key that is only for tests"


@attrs.frozen
class Stores:
    """Where everything is kept."""

    tenants: TenantStore
    events: EventStore
    webhooks: WebhookStore
    tests: WebhookTests
    deliveries: DeliveryStore
    notifications: NotificationStore
    webhook_work: WebhookWorkStore
    notification_work: NotificationWorkStore

    @classmethod
    def on(cls, pool: Pool[Any]) -> Stores:
        return cls(
            TenantStore(pool),
            EventStore(pool),
            WebhookStore(pool),
            WebhookTests(pool),
            DeliveryStore(pool),
            NotificationStore(pool),
            WebhookWorkStore(pool),
            NotificationWorkStore(pool),
        )


def make_door(directory: KeyDirectory | None) -> tuple[TenantDoor, Compartment]:
    """A door for whoever the directory knows, and what has to run for it."""
    compartment = Compartment("deliveries", workers=4, queue=100)
    breaker = CircuitBreaker(
        "deliveries", window=Consecutive(5), ignore=says_nothing_of_the_database
    )
    guard = ApiKeyGuard(is_required=False, directory=directory)
    return TenantDoor(guard, compartment, breaker), compartment


def delivery_resources(
    stores: Stores,
    writer: EventWriter,
    door: TenantDoor,
    *,
    rate: float = 1000.0,
    burst: int = 1000,
    channels: Collection[str] = ("smtp", "http"),
) -> tuple[Resource, ...]:
    """All that there are."""
    check_url = webhook_urls(NetworkPolicy(), https_only=False)
    quota = EventQuota(KeyedRateLimiter(TokenBucket(rate=rate, capacity=burst)))
    secrets = Secrets(Sealer(SECRET_KEY, purpose="webhook secrets"))
    return (
        EventsResource(writer, stores.events, stores.deliveries, door, quota),
        WebhooksResource(
            stores.webhooks, stores.tests, door, quota, secrets=secrets, check_url=check_url
        ),
        DeliveriesResource(stores.deliveries, door),
        DeadLettersResource(stores.deliveries, stores.notifications, door),
        NotificationsResource(
            stores.notifications, door, quota, channels=channels, check_url=check_url
        ),
    )
