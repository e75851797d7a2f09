"""All routes as they are now: read from the database, compiled, swapped in at once, kept true."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable
from types import MappingProxyType
from typing import Final, Protocol, TypeVarTuple

import attrs
import trio

from bulkhead_trio.database.changes import Changed, ChangeEvent, EverythingMayHaveChanged
from bulkhead_trio.database.routes import RouteRecord
from bulkhead_trio.errors import BulkheadTrioError
from bulkhead_trio.gateway._match_rules import RouteTable, TableRoute
from bulkhead_trio.gateway.compiling import compiled
from bulkhead_trio.gateway.group_of_spec import fallback_id, fallback_settings, group_settings
from bulkhead_trio.gateway.groups import Groups
from bulkhead_trio.gateway.identity import Authorizers, authorizer_of
from bulkhead_trio.gateway.reports import HealthReport
from bulkhead_trio.gateway.route import Route
from bulkhead_trio.gateway.spec import RouteSpec, read_spec

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 2.0
"""Between two attempts to read what has changed: with the feed's own, a change is known everywhere
within 5 s of the database's return."""

NOBODY: Final[Authorizers] = MappingProxyType({})

MOST_ON_THE_LOOP: Final = 200
"""Routes of one tenant that are compiled where they are; it takes some milliseconds at most."""

Args = TypeVarTuple("Args")

_log = logging.getLogger("bulkhead_trio.gateway")


class RouteSource(Protocol):
    """Where routes are kept; `bulkhead_trio.database.routes.RouteStore` has it."""

    async def all(self) -> list[RouteRecord]:
        """Every route, by tenant."""

    async def all_of(self, tenant_id: str) -> list[RouteRecord]:
        """Those of one tenant."""


@attrs.frozen
class Found:
    """The route of a request.

    Attributes:
        route: it.
        path: the request's path in its normal form.
        end: where in it that ends what the route matched.
    """

    route: Route
    path: bytes
    end: int


@attrs.frozen
class _Read:
    """A stored route as it was read: kept, so that what has not changed is not made anew."""

    version: int
    spec: RouteSpec
    route: Route


class Routing:
    """Finds the route of a request, and keeps all routes as the database has them.

    Args:
        source: where they are kept.
        groups: of their upstreams.
        identities: as whom requests may go out, by name.
    """

    def __init__(
        self, source: RouteSource, groups: Groups, identities: Authorizers = NOBODY
    ) -> None:
        self._source = source
        self._groups = groups
        self._identities = identities
        self._table = RouteTable.of(())
        self._tenants: dict[str, dict[str, _Read]] = {}
        self._routes: dict[str, Route] = {}
        self._stale: dict[str, None] = {}  # tenants, in the order of their changes
        self._all_is_stale = False
        self._news = trio.Event()

    def __len__(self) -> int:
        """How many routes there are."""
        return len(self._routes)

    def match(self, tenant_id: str, method: str, raw_path: bytes) -> Found | None:
        """The most specific route of a tenant for a request; ``None`` where there is none.

        Args:
            tenant_id: whose request it is.
            method: as it was sent.
            raw_path: as it was sent, without the query.
        """
        match = self._table.match(tenant_id, method, raw_path)
        if match is None:
            return None
        # While a table is being made, one that knew it may still be in use.
        route = self._routes.get(match.route_id)
        return None if route is None else Found(route, match.path, match.end)

    def group_ids(self) -> frozenset[str]:
        """The ids of all routes."""
        return frozenset(self._routes)

    # --- kept true -------------------------------------------------------------------------------

    def on_change(self, event: ChangeEvent) -> None:
        """Be told of a change; what it concerns is read again."""
        if isinstance(event, EverythingMayHaveChanged):
            self._all_is_stale = True
        elif isinstance(event, Changed) and event.kind == "route":
            self._stale[event.id] = None
        elif isinstance(event, Changed) and event.kind == "tenant" and event.id in self._tenants:
            self._stale[event.id] = None  # it may be gone, and its routes with it
        else:
            return
        self._news.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read all routes, then what changes, until cancelled.

        Raises:
            DatabaseUnavailable: they cannot be read at the start.
        """
        await self._read_all()
        task_status.started()
        pause = FIRST_PAUSE_SECONDS
        while True:
            await self._news.wait()
            self._news = trio.Event()
            try:
                await self._read_what_changed()
                pause = FIRST_PAUSE_SECONDS
            except BulkheadTrioError as error:
                _log.warning("routes cannot be read now: %s", error.message)
                await trio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                self._news.set()

    async def _read_what_changed(self) -> None:
        if self._all_is_stale:
            self._all_is_stale = False
            try:
                await self._read_all()
            except BaseException:
                self._all_is_stale = True
                raise
            return
        while self._stale:
            # In the order of the changes, so that nobody's many hold up another's one.
            tenant_id = next(iter(self._stale))
            del self._stale[tenant_id]
            try:
                records = await self._source.all_of(tenant_id)
            except BaseException:
                self._stale = {tenant_id: None, **self._stale}
                raise
            await self._install(tenant_id, records)

    async def _read_all(self) -> None:
        self._stale.clear()
        by_tenant: dict[str, list[RouteRecord]] = {}
        for record in await self._source.all():
            by_tenant.setdefault(record.tenant_id, []).append(record)
        for tenant_id in self._tenants.keys() - by_tenant.keys():
            self._take(tenant_id, [])
        table: list[TableRoute] = []
        for tenant_id, records in by_tenant.items():
            table += self._take(tenant_id, records)
        self._table = await _made(len(table), RouteTable.of, table)

    async def _install(self, tenant_id: str, records: list[RouteRecord]) -> None:
        routes = self._take(tenant_id, records)
        self._table = await _made(len(routes), self._table.with_tenant, tenant_id, routes)

    def _take(self, tenant_id: str, records: list[RouteRecord]) -> list[TableRoute]:
        """Make ready what is new of a tenant's routes, and drop what is gone."""
        before = self._tenants.pop(tenant_id, {})
        now: dict[str, _Read] = {}
        for record in records:
            known = before.get(record.id)
            if known is not None and known.version == record.version:
                now[record.id] = known
            elif (read := self._read(record)) is not None:
                now[record.id] = read
        for route_id in before.keys() - now.keys():
            self._groups.discard(route_id)
            self._groups.discard(fallback_id(route_id))
            del self._routes[route_id]
        if now:
            self._tenants[tenant_id] = now
        self._routes.update({route_id: read.route for route_id, read in now.items()})
        return [TableRoute.of(route_id, tenant_id, read.spec) for route_id, read in now.items()]

    def _read(self, record: RouteRecord) -> _Read | None:
        """One stored route; a bad one, which an older version may have saved, costs only itself."""
        try:
            spec = read_spec(record.spec)
            group = self._groups.put(group_settings(record.id, spec))
            fallback = fallback_settings(record.id, spec)
            spare = None if fallback is None else self._groups.put(fallback)
            if spare is None:
                self._groups.discard(fallback_id(record.id))
            identity = authorizer_of(spec.identity, self._identities)
            route = compiled(record.id, record.tenant_id, spec, group, spare, identity)
        except (BulkheadTrioError, ValueError):
            _log.exception("the route %s cannot be served", record.id)
            return None
        return _Read(record.version, spec, route)


async def _made(size: int, make: Callable[[*Args], RouteTable], *args: *Args) -> RouteTable:
    """A table of so many routes. It takes 15 us a route, and 35 for a regular expression: a large
    one is made in a thread, for nobody on the loop has to wait for that; what it is made of does
    not change.
    """
    if size <= MOST_ON_THE_LOOP:
        return make(*args)
    return await trio.to_thread.run_sync(make, *args)


class RouteHealth:
    """How the upstreams of routes are, for people.

    Args:
        groups: of the upstreams.
        now: tells the time of day.
    """

    def __init__(self, groups: Groups, now: Callable[[], datetime.datetime]) -> None:
        self._groups = groups
        self._now = now

    def report(self, route_id: str) -> HealthReport | None:
        """How a route's upstreams are; ``None`` where there is no such route here."""
        group = self._groups.get(route_id)
        return None if group is None else group.health_report(self._now())
