"""The composition root: settings become resources, nurseries and an application.

The only place that knows every part. It starts them from the inside out (database, tiers, HTTP) and
takes them down in the opposite order.
"""

from __future__ import annotations

import resource
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, TypeAlias

import attrs
import structlog
import trio

from bulkhead_trio.api.admin import AdminGuard
from bulkhead_trio.api.data import DataResource
from bulkhead_trio.api.description import DescriptionResource
from bulkhead_trio.api.drain import DrainGate
from bulkhead_trio.api.edge import Edge, RequestLimits, unreadable_request
from bulkhead_trio.api.health import HealthResource
from bulkhead_trio.api.messages import Listener
from bulkhead_trio.api.metrics import MetricsResource
from bulkhead_trio.api.orders import OrdersResource
from bulkhead_trio.api.quart_app import create_quart_app
from bulkhead_trio.config import Settings, TierSettings
from bulkhead_trio.config.secret_files import kept_secret
from bulkhead_trio.database import Connection, Pool, PoolSettings, create_pool, open_connection
from bulkhead_trio.database.embedded import open_embedded_server
from bulkhead_trio.database.migrate import migrate, seed
from bulkhead_trio.database.orders import PostgresOrderStore
from bulkhead_trio.http.engine.server import HTTPServer
from bulkhead_trio.http.hypercorn_front import HypercornFront
from bulkhead_trio.http.limits import ConnectionLimits
from bulkhead_trio.observe.logs import configure_logging
from bulkhead_trio.observe.metrics import Metrics
from bulkhead_trio.orders import OrderDesk, OrderLimits, is_failure_of_the_store
from bulkhead_trio.policies.breaker import BreakerTransition, CircuitBreaker, Consecutive
from bulkhead_trio.policies.compartment import Compartment, SupervisorCrashed
from bulkhead_trio.policies.rate import FixedWindow, RateLimiter
from bulkhead_trio.tenancy import ApiKeyGuard, TierResolver
from bulkhead_trio.tiers import Tier, TierSnapshots, says_nothing_of_the_database

Announce: TypeAlias = Callable[[str], None]
Front: TypeAlias = HTTPServer | HypercornFront

FRONTS: Mapping[str, type[Front]] = {"engine": HTTPServer, "hypercorn": HypercornFront}

_log = structlog.get_logger("bulkhead_trio.app")

REFUSALS = (
    "rate_limited", "bulkhead_full", "circuit_open", "deadline_unreachable", "shed",
)  # fmt: skip

CONNECT_SECONDS = 5
MIGRATION_SECONDS = 600.0
"""The longest that migrating at start may take: a large table takes minutes."""

OPERATIONS_CONNECTIONS = 2

ORDERS_FAILURE_THRESHOLD = 5
ORDERS_COOLDOWN_SECONDS = 15.0
"""The orders' breaker is as those of the default tiers."""

OWN_FILES = 100
"""File descriptors for listeners, logs, locks, cancel requests and connections turned away."""

CLOSING_SECONDS = 5.0
"""What open connections get after the last answer to read it and go."""


@attrs.frozen
class Application:
    """What is running: its ASGI sides by listener, and what shuts it down."""

    sides: Mapping[Listener, Any]
    gate: DrainGate
    tiers: Mapping[str, Tier[Connection]]


# --- serving -------------------------------------------------------------------------------------


async def serve(settings: Settings, *, announce: Announce) -> None:
    """Run the server until it is told to stop, and then until everything is given back.

    SIGTERM or SIGINT begins draining; a second SIGINT does not wait for what still runs.

    Args:
        settings: all of them.
        announce: told, in sentences for a person, what was done.
    """
    configure_logging(level=settings.log_level, format=settings.log_format)
    stopping = _Stopping(grace=settings.shutdown_grace_seconds)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stopping.watch, signals)
            with stopping.starting:
                async with open_application(settings, announce=announce) as application:
                    await _serve_application(settings, application, stopping, announce)
            nursery.cancel_scope.cancel()


class _Stopping:
    """What the signals mean at each stage: give up starting, drain, or stop waiting."""

    def __init__(self, *, grace: float) -> None:
        self.starting = trio.CancelScope()
        self.grace = trio.CancelScope()
        self.requested = trio.Event()
        self._grace_seconds = grace
        self._is_serving = False

    def serving(self) -> None:
        """From now on a signal begins to drain."""
        self._is_serving = True

    async def watch(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            if not self._is_serving:
                self.starting.cancel()
            elif not self.requested.is_set():
                _log.info("draining", signal=signal.Signals(number).name)
                self.grace.deadline = trio.current_time() + self._grace_seconds
                self.requested.set()
            elif number == signal.SIGINT:
                self.grace.cancel()


async def _serve_application(
    settings: Settings, application: Application, stopping: _Stopping, announce: Announce
) -> None:
    listeners = {"public": await _open_listeners(settings.api_host, settings.api_port)}
    if settings.admin_bind is not None:
        bind = settings.admin_bind
        listeners["admin"] = await _open_listeners(bind.host, bind.port)
    limits = ConnectionLimits(connections=_most_connections(settings))
    fronts: list[Front] = []
    async with trio.open_nursery() as nursery:
        for name, side in application.sides.items():
            if name not in listeners:
                continue
            front = FRONTS[settings.http](side, limits=limits, render_error=unreadable_request)
            await nursery.start(front.serve, listeners[name])
            fronts.append(front)
        _announce_ready(settings, listeners, announce)
        stopping.serving()
        await stopping.requested.wait()
        await _drain(application.gate, fronts, stopping.grace)
        nursery.cancel_scope.deadline = trio.current_time() + CLOSING_SECONDS
    announce("Stopped; everything is given back.")


async def _drain(gate: DrainGate, fronts: list[Front], grace: trio.CancelScope) -> None:
    """Refuse new work, wait for what runs as long as ``grace`` allows, then close."""
    gate.close()
    with grace:
        await gate.wait_idle()
    if grace.cancelled_caught:
        _log.warning("grace_passed", in_flight=gate.in_flight)
        gate.cut_off()
    for front in fronts:
        await front.close()


def _most_connections(settings: Settings) -> int:
    """As many as there are file descriptors for beside everything else that needs some.

    The usual soft limit of 1,024 is a default for programs that use `select`; it is raised to the
    hard one, as servers do.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return ConnectionLimits().connections
    spare = hard - settings.connections_needed - OWN_FILES
    if spare < OWN_FILES:
        _log.warning("few_open_files", limit=hard, left_for_clients=max(1, spare))
    return max(1, min(ConnectionLimits().connections, spare))


async def _open_listeners(host: str, port: int) -> list[trio.SocketListener]:
    try:
        return await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise OSError(
            error.errno, f"cannot listen on {host} port {port}: {error.strerror}"
        ) from error


def _announce_ready(
    settings: Settings, listeners: Mapping[str, list[trio.SocketListener]], announce: Announce
) -> None:
    host, port = listeners["public"][0].socket.getsockname()[:2]
    base = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    announce(f"Serving on {base}")
    if "admin" in listeners:
        admin_host, admin_port = listeners["admin"][0].socket.getsockname()[:2]
        announce(f"Admin surface on {admin_host} port {admin_port}")
    if not settings.trust_tier_header:
        return
    first, last = settings.tiers[0].name, settings.tiers[-1].name
    announce("Three to try:")
    announce(f"  curl -i {base}/api/data -H 'X-Tenant-Tier: {first}'")
    announce(f"  curl -i '{base}/api/data?limit=3' -H 'X-Tenant-Tier: {last}'")
    announce(f"  curl {base}/metrics/bulkheads")


# --- composing -----------------------------------------------------------------------------------


@asynccontextmanager
async def open_application(settings: Settings, *, announce: Announce) -> AsyncIterator[Application]:
    """Start everything behind HTTP, and take it down again on leaving.

    Raises:
        EmbeddedServerError: the embedded PostgreSQL cannot be started.
        psycopg.Error: the database cannot be reached or migrated.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    admin_key = kept_secret(
        settings.admin_api_key, settings.data_dir / "admin.key", "The admin key", announce
    )
    # Nothing is encrypted or peppered with it yet; it is made now so that it never changes later.
    kept_secret(settings.secret_key, settings.data_dir / "secret.key", "The secret key", announce)
    for variable in settings.short_secrets:
        _log.warning("secret_is_short", variable=variable)
    if settings.redis_url is not None:
        _log.warning("redis_not_used", reason="this version keeps its state in memory")
    async with _database(settings, announce) as conninfo:
        await _prepare_database(conninfo, settings, announce)
        async with trio.open_nursery() as nursery:
            tiers: dict[str, Tier[Connection]] = {}
            metrics = Metrics(TierSnapshots(tiers), reasons=REFUSALS)
            for tier_settings in settings.tiers:
                tier = _make_tier(tier_settings, conninfo, metrics)
                tiers[tier.name] = tier
                await nursery.start(tier.run)
            operations = create_pool(
                "ops", PoolSettings(conninfo, OPERATIONS_CONNECTIONS, CONNECT_SECONDS)
            )
            await nursery.start(operations.run)
            desk = await _open_order_desk(settings, conninfo, nursery)
            yield _compose(settings, tiers, metrics, operations, desk, admin_key)
            nursery.cancel_scope.cancel()


def _compose(
    settings: Settings,
    tiers: Mapping[str, Tier[Connection]],
    metrics: Metrics,
    operations: Pool[Connection],
    desk: OrderDesk,
    admin_key: str,
) -> Application:
    async def database_answers() -> None:
        async with operations.acquire() as connection:
            await connection.execute("SELECT 1")

    gate = DrainGate()
    guard = AdminGuard(admin_key, is_public=settings.metrics_public)
    names = tuple(tiers)
    resources = (
        HealthResource({"database": database_answers}, gate),
        DataResource(
            tiers,
            TierResolver(names, trust_header=settings.trust_tier_header),
            allow_force_error=settings.force_error_enabled,
        ),
        OrdersResource(desk, ApiKeyGuard(is_required=settings.is_production)),
        MetricsResource(tiers, metrics, guard),
        DescriptionResource(version=version("bulkhead-trio"), tiers=names, guard=guard),
    )
    app: Any = create_quart_app(resources, max_body_bytes=settings.max_body_bytes)
    limits = RequestLimits(max_body_bytes=settings.max_body_bytes)
    listeners: tuple[Listener, ...] = ("public", "admin")
    sides: dict[Listener, Any] = {
        name: Edge(app, gate=gate, limits=limits, listener=name) for name in listeners
    }
    return Application(sides=sides, gate=gate, tiers=tiers)


def _make_tier(settings: TierSettings, conninfo: str, metrics: Metrics) -> Tier[Connection]:
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
            queue=settings.queue,
            listeners=(_log_crash,),
        ),
        breaker=CircuitBreaker(
            settings.name,
            window=Consecutive(settings.failure_threshold),
            wait_in_open=settings.cooldown,
            ignore=says_nothing_of_the_database,
            listeners=(_log_transition,),
        ),
        pool=create_pool(
            settings.name, PoolSettings(conninfo, settings.connections, settings.timeout)
        ),
        listeners=(lambda ended: metrics.observe(ended.tier, ended.outcome, ended.seconds),),
    )


async def _open_order_desk(settings: Settings, conninfo: str, nursery: trio.Nursery) -> OrderDesk:
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
    desk = OrderDesk(PostgresOrderStore(pool), limits=limits, breaker=breaker)
    await nursery.start(pool.run)
    await nursery.start(desk.run)
    return desk


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


# --- the database --------------------------------------------------------------------------------


@asynccontextmanager
async def _database(settings: Settings, announce: Announce) -> AsyncIterator[str]:
    """The connection string of the configured server, or of the embedded one, kept running."""
    if settings.database_url is not None:
        announce("Using the PostgreSQL that DATABASE_URL names.")
        yield settings.database_url
        return
    directory = settings.data_dir / "postgres"
    announce(f"Starting the embedded PostgreSQL in {directory} ...")
    most = settings.embedded_connections
    async with (
        open_embedded_server(directory, max_connections=most) as server,
        trio.open_nursery() as nursery,
    ):
        if server.max_connections < most:
            # Whoever started it first decided; it may be too few for all of our tiers at once.
            _log.warning("postgres_allows_fewer", allows=server.max_connections, wanted=most)
        nursery.start_soon(server.supervise)
        yield server.conninfo
        nursery.cancel_scope.cancel()


async def _prepare_database(conninfo: str, settings: Settings, announce: Announce) -> None:
    opened = open_connection(
        conninfo, application_name="bulkhead-trio/migrate", connect_timeout=CONNECT_SECONDS
    )
    with trio.fail_after(MIGRATION_SECONDS):
        async with opened as connection:
            for migration in await migrate(connection):
                announce(f"Applied migration {migration.version} ({migration.name}).")
            if not settings.is_production:
                rows = await seed(connection, [tier.name for tier in settings.tiers])
                if rows:
                    announce(f"Seeded {rows} demonstration rows.")
