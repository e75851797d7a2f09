"""Settings become the gateway: tenants' keys, routes, upstreams, and what instances share."""

from __future__ import annotations

import datetime
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
import structlog
import trio

from bulkhead_trio.api.admin import AdminDoor, AdminGuard
from bulkhead_trio.api.audit import AuditResource
from bulkhead_trio.api.drain import DrainGate
from bulkhead_trio.api.gateway_plane import GatewayPlane
from bulkhead_trio.api.gateway_routes import RoutesResource
from bulkhead_trio.api.routes import Resource
from bulkhead_trio.api.tenants import TenantsResource
from bulkhead_trio.app.gateway_numbers import GatewayNumbers
from bulkhead_trio.app.ground import Ground
from bulkhead_trio.config import Settings
from bulkhead_trio.database import PoolSettings, create_pool
from bulkhead_trio.database.audit import AuditStore
from bulkhead_trio.database.changes import Changed, create_change_feed
from bulkhead_trio.database.routes import RouteStore
from bulkhead_trio.database.tenants import TenantStore
from bulkhead_trio.gateway.breaker import local_breaker
from bulkhead_trio.gateway.groups import Groups
from bulkhead_trio.gateway.proxy import Proxy
from bulkhead_trio.gateway.reports import UpstreamHealthChanged
from bulkhead_trio.gateway.routing import RouteHealth, Routing
from bulkhead_trio.gateway.traffic import Traffic
from bulkhead_trio.http.client import ClientLimits, HTTPClient
from bulkhead_trio.http.client.identity import Identities
from bulkhead_trio.http.client.network import NetworkPolicy, guarded_resolve
from bulkhead_trio.state import (
    LocalTenantLimits,
    OnStateError,
    RedisChanged,
    Shared,
    SharedTenantLimits,
)
from bulkhead_trio.tenancy import TenantDirectory
from bulkhead_trio.tenancy.keys import KeyMaker
from bulkhead_trio.tiers import Tier

TENANTS_CONNECTIONS = 4
TENANTS_SECONDS = 5.0
"""For one use of a connection: a statement that takes milliseconds."""

UPSTREAM_CONNECTIONS = 1024
"""To one origin; a tier's compartment, and a route's bulkhead, bound it sooner."""

_log = structlog.get_logger("bulkhead_trio.gateway")


@attrs.frozen
class Ledger:
    """Who the tenants are: what the rest of the application asks, whether it proxies or not.

    Attributes:
        directory: whose keys are.
        tenants: where they are kept.
        routes: where theirs are.
        audit: who has changed them.
        keys: makes keys.
        shared: what instances have in common; ``None`` for one that is alone.
        pool: of connections.
        conninfo: PostgreSQL's connection string.
    """

    directory: TenantDirectory
    tenants: TenantStore
    routes: RouteStore
    audit: AuditStore
    keys: KeyMaker
    shared: Shared | None
    conninfo: str = attrs.field(repr=False)


@asynccontextmanager
async def open_ledger(settings: Settings, ground: Ground, *, workers: int) -> AsyncIterator[Ledger]:
    """Open what knows tenants, and Redis where there is one.

    Args:
        settings: those of this process.
        ground: what it stands on.
        workers: how many processes this server is; to Redis each is an instance.
    """
    async with trio.open_nursery() as nursery:
        shared = None
        if settings.redis_url is not None:
            shared = Shared(
                settings.redis_url,
                on_error=OnStateError(settings.on_state_error),
                listeners=(_log_redis,),
                at_least=workers,
            )
            await nursery.start(shared.run)
        pool = create_pool(
            "tenants", PoolSettings(ground.conninfo, TENANTS_CONNECTIONS, TENANTS_SECONDS)
        )
        await nursery.start(pool.run)
        store = TenantStore(pool)
        pepper = ground.secret_key.encode()
        directory = TenantDirectory(store, pepper, shared=None if shared is None else shared.keys)
        await nursery.start(directory.run)
        yield Ledger(
            directory=directory,
            tenants=store,
            routes=RouteStore(pool),
            audit=AuditStore(pool),
            keys=KeyMaker(pepper),
            shared=shared,
            conninfo=ground.conninfo,
        )
        nursery.cancel_scope.cancel()


@attrs.frozen
class Gateway:
    """The gateway, running.

    Attributes:
        plane: serves what is no path of ours.
        resources: of the admin surface.
        numbers: reads what all of it has counted.
    """

    plane: GatewayPlane
    resources: tuple[Resource, ...]
    numbers: GatewayNumbers


@asynccontextmanager
async def open_gateway(
    settings: Settings,
    ledger: Ledger,
    tiers: Mapping[str, Tier[Any]],
    gate: DrainGate,
    guard: AdminGuard,
    identities: Identities,
    *,
    worker: int,
    workers: int,
) -> AsyncIterator[Gateway]:
    """Read the routes, begin to check their upstreams, and hear of changes.

    Args:
        settings: those of this process.
        ledger: who the tenants are.
        tiers: by name.
        gate: counts requests under way.
        guard: knows the admin key.
        identities: as whom requests may go out.
        worker: the number of this process, from 0.
        workers: how many processes this server is. Tenants' limits are divided among them, unless
            Redis counts for all.
    """
    policy = NetworkPolicy(settings.allowed_private_networks)
    client = HTTPClient(
        ClientLimits(connections=UPSTREAM_CONNECTIONS), resolve=guarded_resolve(policy)
    )
    shared = ledger.shared
    limits: LocalTenantLimits | SharedTenantLimits = (
        LocalTenantLimits(worker=worker, workers=workers) if shared is None else shared.limits
    )
    groups = _groups(client, shared)
    routing, traffic = Routing(ledger.routes, groups, identities), Traffic()
    proxy = Proxy(
        routing,
        client,
        tiers,
        workers={each.name: each.workers for each in settings.tiers},
        random=random.random,
        max_body_bytes=settings.max_proxy_body_bytes,
        traffic=traffic,
    )
    feed = create_change_feed(ledger.conninfo, [ledger.directory.on_change, routing.on_change])
    resources = _resources(settings, ledger, guard, policy, routing, groups, identities)
    async with trio.open_nursery() as nursery:
        for part in (client, groups, routing, feed):
            await nursery.start(part.run)
        yield Gateway(
            plane=GatewayPlane(
                proxy,
                ledger.directory,
                limits,
                tiers=tuple(tiers),
                gate=gate,
                trusted_proxies=settings.trusted_proxies,
            ),
            resources=resources,
            numbers=GatewayNumbers(
                routing, groups, traffic, proxy, client, limits, ledger.directory, feed, shared
            ),
        )
        nursery.cancel_scope.cancel()


def _groups(client: HTTPClient, shared: Shared | None) -> Groups:
    return Groups(
        check=_check_by(client),
        random=random.SystemRandom().random,
        listeners=(_log_health,),
        board=None if shared is None else shared.health,
        make_breaker=local_breaker if shared is None else shared.breakers.breaker,
    )


def _resources(
    settings: Settings,
    ledger: Ledger,
    guard: AdminGuard,
    policy: NetworkPolicy,
    routing: Routing,
    groups: Groups,
    identities: Identities,
) -> tuple[Resource, ...]:
    door = AdminDoor(guard, has_own_listener=settings.admin_bind is not None)
    tiers = tuple(tier.name for tier in settings.tiers)

    def changed(event: Changed) -> None:
        ledger.directory.on_change(event)
        routing.on_change(event)

    return (
        TenantsResource(ledger.tenants, ledger.keys, door, tiers=tiers, changed=changed),
        RoutesResource(
            ledger.routes,
            ledger.tenants,
            door,
            check_url=policy.check_url,
            health=RouteHealth(groups, _utc_now),
            changed=changed,
            identities={name: each.audience for name, each in identities.items()},
        ),
        AuditResource(ledger.audit, door),
    )


def _utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _check_by(client: HTTPClient) -> Any:
    async def check(url: str, timeout: float) -> bool:
        async with client.request("GET", url, timeout=timeout) as response:
            return 200 <= response.status < 300

    return check


def _log_health(change: UpstreamHealthChanged) -> None:
    _log.warning("upstream_health_changed", **attrs.asdict(change))


def _log_redis(change: RedisChanged) -> None:
    _log.warning("redis_changed", **attrs.asdict(change))
