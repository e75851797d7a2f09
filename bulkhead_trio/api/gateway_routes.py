"""``/admin/routes``: where tenants' requests go, for whoever has the admin key."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from bulkhead_trio.api._documents import changed_document, read_object
from bulkhead_trio.api._paging import page_answer, page_asked
from bulkhead_trio.api._version_rules import Precondition, etag_of
from bulkhead_trio.api._wire import wire_time
from bulkhead_trio.api.admin import AdminDoor
from bulkhead_trio.api.messages import Request, Response, invalid_body
from bulkhead_trio.api.own_paths import hidden_by_ours
from bulkhead_trio.api.routes import Route
from bulkhead_trio.database.audit import Author
from bulkhead_trio.database.changes import Changed
from bulkhead_trio.database.routes import RouteDraft, RouteRecord, RouteStore
from bulkhead_trio.database.tenants import TenantStore
from bulkhead_trio.errors import AlreadyThere, Conflict, NotFound
from bulkhead_trio.gateway.reports import HealthReport, UpstreamReport
from bulkhead_trio.gateway.saving import (
    NO_IDENTITIES,
    WHAT_IT_MATCHES,
    Audiences,
    CheckURL,
    read_route,
)
from bulkhead_trio.gateway.spec import RouteSpec, read_spec, spec_json

PATCH_TRIES: Final = 32
"""How often a patch without a version begins again because somebody was quicker."""

READ_ONLY: Final = ("id", "tenantId", "createdAt", "updatedAt", "version")


class HealthReader(Protocol):
    """Knows how the upstreams of routes are."""

    def report(self, route_id: str) -> HealthReport | None:
        """How those of one route are; ``None`` where this instance does not use them (yet)."""


class RoutesResource:
    """Makes, shows, changes and deletes routes, and says how their upstreams are.

    Args:
        store: where they are kept.
        tenants: whose they may be.
        door: who may come.
        check_url: refuses upstreams that nobody may connect to.
        health: knows how upstreams are.
        changed: told of every change as soon as it is made, before the database tells everybody.
        identities: as whom requests may go out, each with whom that is for.
    """

    name = "routes"

    def __init__(
        self,
        store: RouteStore,
        tenants: TenantStore,
        door: AdminDoor,
        *,
        check_url: CheckURL,
        health: HealthReader,
        changed: Callable[[Changed], None],
        identities: Audiences = NO_IDENTITIES,
    ) -> None:
        self._store = store
        self._tenants = tenants
        self._door = door
        self._check_url = check_url
        self._health = health
        self._changed = changed
        self._identities = identities

    def routes(self) -> tuple[Route, ...]:
        """All six."""
        around = self._door.around
        one = "/admin/routes/{id}"
        return (
            Route("GET", "/admin/tenants/{id}/routes", around(self.page), is_admin=True),
            Route("POST", "/admin/routes", around(self.post), is_admin=True, reads_body=True),
            Route("GET", one, around(self.get), is_admin=True),
            Route("PATCH", one, around(self.patch), is_admin=True, reads_body=True),
            Route("DELETE", one, around(self.delete), is_admin=True),
            Route("GET", f"{one}/health", around(self.health), is_admin=True),
        )

    async def page(self, request: Request, author: Author) -> Response:  # noqa: ARG002
        """Some of a tenant's routes, newest first."""
        asked = page_asked(request)
        page = await self._store.page(_id(request), limit=asked.limit, cursor=asked.cursor)
        return page_answer(page, wire_route)

    async def post(self, request: Request, author: Author) -> Response:
        """A new route."""
        spec = self._read(read_object(request))
        draft = RouteDraft(spec.tenant_id, spec_json(spec))
        try:
            route = await self._store.create(draft, author, unlike=WHAT_IT_MATCHES)
        except NotFound:
            raise invalid_body("$.tenantId", "is no tenant's id") from None
        self._changed(Changed("route", route.tenant_id))
        location = (b"location", f"/admin/routes/{route.id}".encode("ascii"))
        made = Response.json(wire_route(route), status=201)
        return made.with_headers((_etag(route), location))

    async def get(self, request: Request, author: Author) -> Response:  # noqa: ARG002
        """One route."""
        return _answer(await self._store.get(_id(request)))

    async def patch(self, request: Request, author: Author) -> Response:
        """Change what a JSON merge patch (RFC 7396) says."""
        patch = read_object(request, is_patch=True)
        precondition = Precondition.of(request.headers.get("if-match"))
        for _ in range(PATCH_TRIES):
            before = await self._store.get(_id(request))
            expected = precondition.expected(before.version)
            try:
                return _answer(await self._apply(patch, before, author))
            except AlreadyThere:
                raise
            except Conflict:
                if expected is not None:
                    raise  # otherwise the last one wins, but nobody's change is lost
        raise Conflict("The route is being changed by others all the time.")

    def _read(self, document: dict[str, Any]) -> RouteSpec:
        return read_route(
            document,
            check_url=self._check_url,
            hidden=hidden_by_ours,
            identities=self._identities,
        )

    async def _apply(
        self, patch: dict[str, Any], before: RouteRecord, author: Author
    ) -> RouteRecord:
        document = changed_document(wire_route(before), patch, read_only=READ_ONLY)
        spec = self._read({"tenantId": before.tenant_id, **document})
        text = spec_json(spec)
        if text == spec_json(read_spec(before.spec)):
            return before
        after = await self._store.update(
            before.id, text, before.version, author, unlike=WHAT_IT_MATCHES
        )
        self._changed(Changed("route", after.tenant_id))
        return after

    async def delete(self, request: Request, author: Author) -> Response:
        """Delete a route."""
        precondition = Precondition.of(request.headers.get("if-match"))
        route = await self._store.get(_id(request))
        await self._store.delete(route.id, precondition.expected(route.version), author)
        self._changed(Changed("route", route.tenant_id))
        return Response(204, b"")

    async def health(self, request: Request, author: Author) -> Response:  # noqa: ARG002
        """How this instance finds the route's upstreams."""
        route = await self._store.get(_id(request))
        report = self._health.report(route.id) or _unknown(route.id, read_spec(route.spec))
        told = msgspec.to_builtins(report, builtin_types=(datetime.datetime,))
        return Response.json(_with_wire_times(told))


def wire_route(route: RouteRecord) -> dict[str, Any]:
    """A route in JSON."""
    document: dict[str, Any] = msgspec.json.decode(route.spec)
    document.pop("tenantId", None)
    return {
        "id": route.id,
        "tenantId": route.tenant_id,
        **document,
        "createdAt": wire_time(route.created_at),
        "updatedAt": wire_time(route.updated_at),
        "version": route.version,
    }


def _unknown(route_id: str, spec: RouteSpec) -> HealthReport:
    """What is said of upstreams that nothing has been heard of."""
    upstreams = tuple(
        UpstreamReport(
            url=upstream.url,
            weight=upstream.weight,
            healthy=True,
            state="unknown",
            last_check=None,
            consecutive_successes=0,
            consecutive_failures=0,
            failed_requests=0,
            ejected_until=None,
            ejections=0,
            in_flight=0,
            circuit_breaker=None,
        )
        for upstream in spec.upstreams
    )
    return HealthReport(route_id=route_id, healthy=True, upstreams=upstreams)


def _with_wire_times(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return wire_time(value)
    if isinstance(value, dict):
        return {name: _with_wire_times(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_with_wire_times(member) for member in value]
    return value


def _answer(route: RouteRecord) -> Response:
    return Response.json(wire_route(route)).with_headers([_etag(route)])


def _etag(route: RouteRecord) -> tuple[bytes, bytes]:
    return (b"etag", etag_of(route.version).encode("ascii"))


def _id(request: Request) -> str:
    return request.path_values["id"]
