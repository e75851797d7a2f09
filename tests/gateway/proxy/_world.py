"""The gateway from its edge to its upstreams, in one event loop: all real but the database."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

import attrs
import msgspec
import trio
import trio.testing

from bulkhead_trio.api.drain import DrainGate
from bulkhead_trio.api.edge import Edge, RequestLimits
from bulkhead_trio.api.gateway_plane import GatewayPlane
from bulkhead_trio.database import Pool
from bulkhead_trio.database.changes import Changed
from bulkhead_trio.database.routes import RouteRecord
from bulkhead_trio.errors import DatabaseUnavailable
from bulkhead_trio.gateway.group import UpstreamGroup
from bulkhead_trio.gateway.groups import Groups
from bulkhead_trio.gateway.identity import Authorizer
from bulkhead_trio.gateway.proxy import Proxy
from bulkhead_trio.gateway.routing import Routing
from bulkhead_trio.gateway.traffic import Traffic
from bulkhead_trio.gateway.upstream import Upstream
from bulkhead_trio.http.client import ClientLimits, HTTPClient
from bulkhead_trio.http.client.dialling import Resolve
from bulkhead_trio.policies.breaker import CircuitBreaker, Consecutive
from bulkhead_trio.policies.compartment import Compartment
from bulkhead_trio.policies.queue import FairQueue
from bulkhead_trio.policies.retry import RetryBudgetStatistics
from bulkhead_trio.state import LocalTenantLimits
from bulkhead_trio.tenancy import TenantDirectory
from bulkhead_trio.testing import ScriptedDatabase
from bulkhead_trio.testing.tenants import PEPPER, ScriptedTenants
from bulkhead_trio.testing.upstream import Script, ScriptedUpstream, resolve_to_loopback
from bulkhead_trio.tiers import Tier, says_nothing_of_the_database

from ._front import UPGRADE, Body, Kind, Notes, Visit, visit_of

_EPOCH: Final = datetime.datetime(2026, 2, 11, 12, 0, tzinfo=datetime.UTC)
SETTLING_SECONDS: Final = 0.5


class Chance:
    """Not left to chance: the number that the test says, each time."""

    def __init__(self) -> None:
        self.value = 0.5
        self.source: Callable[[], float] | None = None

    def __call__(self) -> float:
        return self.value if self.source is None else self.source()


class ScriptedRoutes:
    """Behaves as `bulkhead_trio.database.routes.RouteStore` does, as far as routing asks.

    Attributes:
        records: by id.
        asked: what was read, each time: a tenant's id, or ``*`` for all.
        is_away: reading fails.
        seconds: that reading takes.
    """

    def __init__(self) -> None:
        self.records: dict[str, RouteRecord] = {}
        self.asked: list[str] = []
        self.is_away = False
        self.seconds = 0.0
        self._numbers = itertools.count(1000)

    def save(self, tenant_id: str, spec: bytes, route_id: str | None = None) -> str:
        """Keep a document as it is; the route's id."""
        if route_id is None:
            route_id = str(UUID(int=next(self._numbers)))
        before = self.records.get(route_id)
        version = 1 if before is None else before.version + 1
        self.records[route_id] = RouteRecord(route_id, tenant_id, spec, version, _EPOCH, _EPOCH)
        return route_id

    async def all(self) -> list[RouteRecord]:
        return await self._read("*", list(self.records.values()))

    async def all_of(self, tenant_id: str) -> list[RouteRecord]:
        found = [each for each in self.records.values() if each.tenant_id == tenant_id]
        return await self._read(tenant_id, found)

    async def _read(self, what: str, records: list[RouteRecord]) -> list[RouteRecord]:
        self.asked.append(what)
        await trio.sleep(self.seconds)
        if self.is_away:
            raise DatabaseUnavailable("scripted: away")
        return records


@attrs.frozen
class Customer:
    """A tenant as its clients know it."""

    id: str
    key: str


@attrs.frozen(kw_only=True)
class World:
    """All of the gateway, running."""

    tenants: ScriptedTenants
    routes: ScriptedRoutes
    directory: TenantDirectory
    tiers: Mapping[str, Tier[Any]]
    gate: DrainGate
    chance: Chance
    groups: Groups
    routing: Routing
    traffic: Traffic
    client: HTTPClient
    proxy: Proxy
    edge: Edge
    notes: Notes
    nursery: trio.Nursery
    stack: AsyncExitStack
    upstreams: list[ScriptedUpstream]

    # --- making ----------------------------------------------------------------------------------

    def customer(self, tier: str = "free", **members: Any) -> Customer:
        """A new tenant with a key."""
        key, tenant = self.tenants.add(tier=tier, **members)
        return Customer(tenant.id, key)

    async def upstream(self, script: Script = Script()) -> ScriptedUpstream:  # noqa: B008  frozen
        """A new upstream."""
        upstream = await self.stack.enter_async_context(ScriptedUpstream(script))
        self.upstreams.append(upstream)
        return upstream

    async def route(
        self,
        customer: Customer,
        *upstreams: ScriptedUpstream | str | Mapping[str, Any],
        path: str = "/",
        **members: Any,
    ) -> str:
        """A new route, in use when this returns; its id."""
        route_id = self.routes.save(
            customer.id, document(customer, *upstreams, path=path, **members)
        )
        self.routing.on_change(Changed("route", customer.id))
        await trio.testing.wait_all_tasks_blocked()
        return route_id

    # --- asking ----------------------------------------------------------------------------------

    def visit(
        self,
        customer: Customer | None,
        method: str = "GET",
        target: str = "/x",
        *,
        body: Body = b"",
        headers: Mapping[str, str] | None = None,
        kind: Kind = "cancels",
    ) -> Visit:
        """A request that is still to be made: ``await visit.run(world.edge)``."""
        key = {} if customer is None else {"x-api-key": customer.key}
        return visit_of(kind, method, target, {**key, **(headers or {})}, body)

    def begin(self, customer: Customer | None, *args: Any, **options: Any) -> Visit:
        """A request that is under way from now on; arguments as of `visit`."""
        visit = self.visit(customer, *args, **options)
        self.nursery.start_soon(visit.run, self.edge)
        return visit

    async def ask(self, customer: Customer | None, *args: Any, **options: Any) -> Visit:
        """A request and its whole answer, within 300 s; arguments as of `visit`."""
        visit = self.visit(customer, *args, **options)
        with trio.fail_after(300):
            await visit.run(self.edge)
        return visit

    def web_socket(self, customer: Customer, **options: Any) -> Visit:
        """A handshake that is still to be made."""
        return self.visit(customer, headers=UPGRADE, **options)

    # --- looking ---------------------------------------------------------------------------------

    def group(self, route_id: str) -> UpstreamGroup:
        """The upstreams of a route."""
        group = self.groups.get(route_id)
        assert group is not None
        return group

    def one(self, route_id: str) -> Upstream:
        """The one upstream of a route."""
        (upstream,) = self.group(route_id).upstreams
        return upstream

    def budget(self, customer: Customer, target: str = "/x") -> RetryBudgetStatistics:
        """That of the route for a path."""
        found = self.routing.match(customer.id, "GET", target.encode())
        assert found is not None
        assert found.route.retrying is not None
        return found.route.retrying.budget.statistics()

    async def assert_at_rest(self) -> None:
        """Nothing is left of any request: no place, permit, probe, tunnel, connection or count."""
        await trio.sleep(SETTLING_SECONDS)
        for name, tier in self.tiers.items():
            compartment = tier.statistics().compartment
            assert (name, compartment.active, compartment.queued) == (name, 0, 0)
        assert not any(self.proxy.tunnels.values()), self.proxy.tunnels
        assert self.gate.in_flight == 0
        for group in self.groups:
            for each in group.upstreams:
                _assert_upstream_at_rest(each)
        client = self.client.statistics()
        assert client.connections == client.idle
        for origin in client.origins.values():
            assert (origin.active, origin.waiting) == (0, 0)
        for upstream in self.upstreams:
            seen = upstream.seen()
            assert seen.in_flight == 0
            assert seen.open <= client.connections


def _assert_upstream_at_rest(upstream: Upstream) -> None:
    now = upstream.statistics()
    assert now.in_flight == 0
    if now.bulkhead is not None:
        assert (now.bulkhead.active, now.bulkhead.queued) == (0, 0)
    if now.breaker is not None:
        assert now.breaker.probes == 0


def document(
    customer: Customer,
    *upstreams: ScriptedUpstream | str | Mapping[str, Any],
    path: str = "/",
    **members: Any,
) -> bytes:
    """A route's JSON."""
    return msgspec.json.encode(
        {
            "tenantId": customer.id,
            "path": path,
            "upstreams": [_upstream(each) for each in upstreams],
            **members,
        }
    )


def _upstream(what: ScriptedUpstream | str | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(what, ScriptedUpstream):
        return {"url": what.url}
    return {"url": what} if isinstance(what, str) else dict(what)


def retry(**members: Any) -> dict[str, Any]:
    """Three retries, after up to 1, 2 and 4 s."""
    return {"retry": {"maxRetries": 3, "baseDelayMs": 1000, "maxDelayMs": 10_000, **members}}


def _make_tier(
    name: str, workers: int, queue: int, weight: Callable[[Any], float], database: ScriptedDatabase
) -> Tier[Any]:
    return Tier(
        name,
        timeout=10,
        limiter=None,
        compartment=Compartment(
            name,
            workers=workers,
            queue=FairQueue(queue, weight=weight, reserved_share=0, makes_room=True),
        ),
        breaker=CircuitBreaker(
            name, window=Consecutive(2), wait_in_open=15, ignore=says_nothing_of_the_database
        ),
        pool=Pool(name, database.connect, max_size=1),
    )


@asynccontextmanager
async def open_world(
    *,
    tiers: Sequence[str] = ("free", "pro"),
    workers: int = 4,
    queue: int = 8,
    max_body_bytes: int | None = None,
    processes: int = 1,
    limits: ClientLimits = ClientLimits(connections=1024),  # noqa: B008  frozen
    resolve: Resolve = resolve_to_loopback,
    identities: Mapping[str, Authorizer] = MappingProxyType({}),
) -> AsyncIterator[World]:
    """A gateway, one of so many; each tier with so many workers and waiting places."""
    tenants, routes, chance, gate = ScriptedTenants(), ScriptedRoutes(), Chance(), DrainGate()
    directory = TenantDirectory(tenants, PEPPER)
    database = ScriptedDatabase()
    made = {name: _make_tier(name, workers, queue, directory.weight_of, database) for name in tiers}
    client = HTTPClient(limits, resolve=resolve)

    async def check(url: str, timeout: float) -> bool:
        async with client.request("GET", url, timeout=timeout) as response:
            return 200 <= response.status < 300

    groups = Groups(check=check, random=chance)
    routing, traffic, notes = Routing(routes, groups, identities), Traffic(), Notes()
    proxy = Proxy(
        routing,
        client,
        made,
        workers=dict.fromkeys(made, workers),
        random=chance,
        max_body_bytes=max_body_bytes,
        traffic=traffic,
    )
    quotas = LocalTenantLimits(workers=processes)
    plane: Any = GatewayPlane(proxy, directory, quotas, tiers=tuple(made), gate=gate)
    edge = Edge(plane, gate=gate, limits=RequestLimits(), listener="public", access_log=notes)
    async with trio.open_nursery() as nursery:
        parts: list[Any] = [client, groups, routing, directory, *made.values()]
        for part in parts:
            await nursery.start(part.run)
        async with AsyncExitStack() as stack:
            yield World(
                tenants=tenants,
                routes=routes,
                directory=directory,
                tiers=made,
                gate=gate,
                chance=chance,
                groups=groups,
                routing=routing,
                traffic=traffic,
                client=client,
                proxy=proxy,
                edge=edge,
                notes=notes,
                nursery=nursery,
                stack=stack,
                upstreams=[],
            )
        nursery.cancel_scope.cancel()
