"""Settings become tiers, pools, resources and ASGI sides."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, TypeAlias

import attrs
import structlog
import trio

from bulkhead_trio.api.admin import AdminGuard
from bulkhead_trio.api.census import Alone, ProcessReader
from bulkhead_trio.api.data import DataResource
from bulkhead_trio.api.delivery_metrics import DeliveryMetricsResource
from bulkhead_trio.api.description import DescriptionResource
from bulkhead_trio.api.drain import DrainGate
from bulkhead_trio.api.edge import Edge, RequestLimits
from bulkhead_trio.api.health import HealthResource
from bulkhead_trio.api.messages import Listener
from bulkhead_trio.api.metrics import MetricsResource
from bulkhead_trio.api.orders import OrdersResource
from bulkhead_trio.api.quart_app import create_quart_app
from bulkhead_trio.api.routes import Resource
from bulkhead_trio.app.delivery import Deliveries, open_deliveries
from bulkhead_trio.app.domain_events import TierBreakerNews, order_news
from bulkhead_trio.app.gateway import Gateway, Ledger, open_gateway, open_ledger
from bulkhead_trio.app.ground import CONNECT_SECONDS, Ground
from bulkhead_trio.app.identities import open_identities
from bulkhead_trio.config import Settings, TierSettings
from bulkhead_trio.database import Connection, Pool, PoolSettings, create_pool
from bulkhead_trio.database.orders import PostgresOrderStore
from bulkhead_trio.http.engine.server import HTTPServer
from bulkhead_trio.http.hypercorn.front import HypercornFront
from bulkhead_trio.http.hypercorn.tls_front import TLSFront
from bulkhead_trio.observe._totals_rules import total_serving
from bulkhead_trio.observe.access_log import AccessLog, JSONAccessLog, open_access_log
from bulkhead_trio.observe.logs import log_outlet
from bulkhead_trio.observe.metrics import Durations
from bulkhead_trio.observe.outlet import Outlet
from bulkhead_trio.observe.snapshots import CensusTaker, ServingSnapshot
from bulkhead_trio.orders import OrderDesk, OrderEnded, OrderLimits, is_failure_of_the_store
from bulkhead_trio.policies.breaker import BreakerTransition, CircuitBreaker, Consecutive
from bulkhead_trio.policies.compartment import Compartment, SupervisorCrashed
from bulkhead_trio.policies.queue import FairQueue
from bulkhead_trio.policies.rate import FixedWindow, RateLimiter
from bulkhead_trio.tenancy import ApiKeyGuard, TierResolver
from bulkhead_trio.tiers import Tier, says_nothing_of_the_database

Front: TypeAlias = HTTPServer | HypercornFront | TLSFront
MakeCensus: TypeAlias = Callable[[ProcessReader], CensusTaker]
"""Makes of what reads this process's numbers what asks all processes for theirs."""

_log = structlog.get_logger("bulkhead_trio.app")

REFUSALS = (
    "rate_limited", "bulkhead_full", "circuit_open", "deadline_unreachable", "shed",
)  # fmt: skip

OPERATIONS_CONNECTIONS = 2

ORDERS_FAILURE_THRESHOLD = 5
ORDERS_COOLDOWN_SECONDS = 15.0
"""The orders' breaker is as those of the default tiers."""


@attrs.frozen
class Application:
    """What is running: its ASGI sides by listener, and what shuts it down.

    Attributes:
        fronts: who serves the sides; whoever starts one puts it here, and the metrics look.
    """

    sides: Mapping[Listener, Any]
    gate: DrainGate
    tiers: Mapping[str, Tier[Connection]]
    fronts: list[Front]


@asynccontextmanager
async def open_application(
    settings: Settings,
    ground: Ground,
    *,
    make_census: MakeCensus = Alone,
    logged: Mapping[str, object] = MappingProxyType({}),
    worker: int = 0,
    workers: int = 1,
) -> AsyncIterator[Application]:
    """Start everything behind HTTP, and take it down again on leaving.

    Args:
        settings: those of this process: of a server that is several, its share.
        ground: what it stands on.
        make_census: where there are other processes, something else than the default.
        logged: what every line of the access log says.
        worker: the number of this process, from 0.
        workers: how many processes this server is.
    """
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        fronts: list[Front] = []
        durations = Durations()
        ledger = await stack.enter_async_context(open_ledger(settings, ground, workers=workers))
        identities = await stack.enter_async_context(
            open_identities(settings, ground.secret_key, ledger.shared)
        )
        deliveries = await stack.enter_async_context(
            open_deliveries(
                settings, ground, ledger, _key_guard(settings, ledger), identities, worker=worker
            )
        )
        publish = deliveries.delivery.domain.publish
        tiers = {
            each.name: _make_tier(
                each,
                ground.conninfo,
                durations,
                ledger.directory.weight_of,
                TierBreakerNews(each.name, publish),
            )
            for each in settings.tiers
        }
        for tier in tiers.values():
            await nursery.start(tier.run)
        operations = create_pool(
            "ops", PoolSettings(ground.conninfo, OPERATIONS_CONNECTIONS, CONNECT_SECONDS)
        )
        await nursery.start(operations.run)
        desk = await _open_order_desk(settings, ground.conninfo, nursery, order_news(publish))
        access_log, outlet = await _open_logs(settings, logged, nursery)
        gate = DrainGate()
        guard = AdminGuard(
            ground.admin_key,
            is_public=settings.metrics_public,
            trusted_proxies=settings.trusted_proxies,
        )
        gateway = await stack.enter_async_context(
            open_gateway(
                settings, ledger, tiers, gate, guard, identities, worker=worker, workers=workers
            )
        )
        serving = partial(_serving, fronts, outlet)
        census = make_census(
            ProcessReader(tiers, desk, durations, serving, gateway.numbers, deliveries.snapshot)
        )
        yield _compose(
            settings, tiers, operations, desk, gate, guard, census, fronts, access_log, ledger,
            gateway, deliveries,
        )  # fmt: skip
        # While nothing is cancelled: deliveries under way may end, and say how they ended.
        await stack.aclose()
        nursery.cancel_scope.cancel()


async def _open_logs(
    settings: Settings, logged: Mapping[str, object], nursery: trio.Nursery
) -> tuple[AccessLog, Outlet]:
    access_log = open_access_log(
        level=settings.log_level, format=settings.log_format, always=logged
    )
    if isinstance(access_log, JSONAccessLog):
        await nursery.start(access_log.run)
    outlet = log_outlet()
    nursery.start_soon(outlet.run)
    return access_log, outlet


def _compose(
    settings: Settings,
    tiers: Mapping[str, Tier[Connection]],
    operations: Pool[Connection],
    desk: OrderDesk,
    gate: DrainGate,
    guard: AdminGuard,
    census: CensusTaker,
    fronts: list[Front],
    access_log: AccessLog,
    ledger: Ledger,
    gateway: Gateway,
    deliveries: Deliveries,
) -> Application:
    async def database_answers() -> None:
        async with operations.acquire() as connection:
            await connection.execute("SELECT 1")

    names = tuple(tiers)
    resources: tuple[Resource, ...] = (
        HealthResource({"database": database_answers}, gate),
        DataResource(
            tiers,
            TierResolver(
                names, trust_header=settings.trust_tier_header, directory=ledger.directory
            ),
            allow_force_error=settings.force_error_enabled,
        ),
        OrdersResource(desk, _key_guard(settings, ledger), census),
        MetricsResource(census, guard, reasons=REFUSALS),
        DescriptionResource(version=version("bulkhead-trio"), tiers=names, guard=guard),
        *gateway.resources,
        *deliveries.resources,
        DeliveryMetricsResource(census, guard),
    )
    app: Any = create_quart_app(
        resources,
        gate=gate,
        max_body_bytes=settings.max_body_bytes,
        gateway=gateway.plane,
    )
    limits = RequestLimits()
    listeners: tuple[Listener, ...] = ("public", "admin")
    sides: dict[Listener, Any] = {
        name: Edge(app, gate=gate, limits=limits, listener=name, access_log=access_log)
        for name in listeners
    }
    return Application(sides=sides, gate=gate, tiers=tiers, fronts=fronts)


def _key_guard(settings: Settings, ledger: Ledger) -> ApiKeyGuard:
    return ApiKeyGuard(is_required=settings.is_production, directory=ledger.directory)


def _make_tier(
    settings: TierSettings,
    conninfo: str,
    durations: Durations,
    weight: Callable[[Hashable], float],
    news: Callable[[BreakerTransition], None],
) -> Tier[Connection]:
    limiter = None
    if settings.rate_limit is not None:
        rule = FixedWindow(limit=settings.rate_limit, seconds=settings.window)
        limiter = RateLimiter(rule, name=settings.name)
    return Tier(
        settings.name,
        timeout=settings.timeout,
        limiter=limiter,
        compartment=Compartment(
            settings.name,
            workers=settings.workers,
            # Tenants that share the tier are served in turn; as long as the line is not full, any
            # of them may have all of it.
            queue=FairQueue(settings.queue, weight=weight, reserved_share=0, makes_room=True),
            listeners=(_log_crash,),
        ),
        breaker=CircuitBreaker(
            settings.name,
            window=Consecutive(settings.failure_threshold),
            wait_in_open=settings.cooldown,
            ignore=says_nothing_of_the_database,
            listeners=(_log_transition, news),
        ),
        pool=create_pool(
            settings.name, PoolSettings(conninfo, settings.connections, settings.timeout)
        ),
        listeners=(lambda ended: durations.observe(ended.tier, ended.outcome, ended.seconds),),
    )


async def _open_order_desk(
    settings: Settings,
    conninfo: str,
    nursery: trio.Nursery,
    news: Callable[[OrderEnded], None],
) -> OrderDesk:
    limits = OrderLimits(
        workers=settings.orders_workers,
        queue=settings.orders_queue,
        backlog=settings.orders_backlog,
        rate=settings.orders_rate,
        burst=settings.orders_burst,
        intake=settings.orders_connections,
    )
    pool = create_pool(
        "orders", PoolSettings(conninfo, settings.orders_connections, limits.query_timeout)
    )
    breaker = CircuitBreaker(
        "orders",
        window=Consecutive(ORDERS_FAILURE_THRESHOLD),
        wait_in_open=ORDERS_COOLDOWN_SECONDS,
        record=is_failure_of_the_store,
        listeners=(_log_transition,),
    )
    store = PostgresOrderStore(pool)
    desk = OrderDesk(store, limits=limits, breaker=breaker, listeners=(news,))
    await nursery.start(pool.run)
    await nursery.start(desk.run)
    return desk


def _serving(fronts: list[Front], outlet: Outlet) -> ServingSnapshot:
    """The numbers of the fronts, of which Hypercorn's have few, and of the log."""
    parts = [ServingSnapshot(log_lines_dropped=outlet.dropped)]
    for front in fronts:
        if not isinstance(front, HTTPServer):
            parts.append(ServingSnapshot(connections={"open": front.connections}))
            continue
        now = front.statistics()
        parts.append(
            ServingSnapshot(
                connections=dict(now.connections),
                parked=now.parked,
                loop_seconds=dict(now.loop_seconds),
                loop_lag=now.worst_loop_lag,
            )
        )
    return total_serving(parts)


def _log_crash(crash: SupervisorCrashed) -> None:
    _log.error(
        "supervisor_crashed",
        tier=crash.compartment,
        restart_in=crash.restart_in,
        exc_info=crash.error,
    )


def _log_transition(moved: BreakerTransition) -> None:
    _log.warning(
        "breaker_moved", tier=moved.breaker, before=moved.before.value, after=moved.after.value
    )
