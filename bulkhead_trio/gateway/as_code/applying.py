"""What there is, what a file makes of it, and doing that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import attrs
import msgspec

from bulkhead_trio.database._cursor_rules import MOST_ITEMS, Cursor
from bulkhead_trio.database.audit import Author
from bulkhead_trio.database.routes import RouteDraft, RouteStore
from bulkhead_trio.database.tenants import TenantStore
from bulkhead_trio.errors import Conflict
from bulkhead_trio.gateway.as_code._mask_rules import all_unmasked, still_masked
from bulkhead_trio.gateway.as_code._plan_rules import (
    Document,
    KeptRoute,
    KeptTenant,
    Plan,
    RouteKey,
    RouteStep,
    TenantStep,
    WantedTenant,
    plan,
    route_key,
    sorted_routes,
)
from bulkhead_trio.gateway.as_code.document import GatewayFile, route_document
from bulkhead_trio.gateway.saving import WHAT_IT_MATCHES, invalid
from bulkhead_trio.gateway.spec import read_spec, spec_json
from bulkhead_trio.tenancy.documents import changes_to, draft_of, tenant_document
from bulkhead_trio.tenancy.keys import KeyMaker

Stock: TypeAlias = Mapping[str, KeptTenant]
"""Every tenant there is, by name."""


@attrs.frozen
class Applied:
    """What came of a plan.

    Attributes:
        api_keys: the first key of each new tenant, by name; they are kept nowhere.
    """

    api_keys: Mapping[str, str] = attrs.field(repr=False)


async def read_stock(tenants: TenantStore, routes: RouteStore) -> Stock:
    """Everything there is.

    Raises:
        Conflict: two tenants have the same name, so that a file cannot tell them apart.
    """
    by_tenant: dict[str, list[KeptRoute]] = {}
    for route in await routes.all():
        kept = KeptRoute(route.id, route.version, route_document(read_spec(route.spec)))
        by_tenant.setdefault(route.tenant_id, []).append(kept)
    stock: dict[str, KeptTenant] = {}
    cursor: Cursor | None = None
    while True:
        page = await tenants.page(limit=MOST_ITEMS, cursor=cursor, newest_first=False)
        for tenant in page.items:
            if (other := stock.get(tenant.name)) is not None:
                raise Conflict(
                    f"Two tenants are called {tenant.name} ({other.id} and {tenant.id}); a file "
                    "knows tenants by their names: give one another name first."
                )
            stock[tenant.name] = KeptTenant(
                tenant.id,
                tenant.version,
                tenant_document(tenant),
                tuple(by_tenant.get(tenant.id, ())),
            )
        cursor = page.next_cursor
        if cursor is None:
            return stock


def plan_for(file: GatewayFile, stock: Stock, *, prune: bool) -> Plan:
    """What has to be done so that there is what ``file`` says.

    Args:
        file: what is wanted.
        stock: what there is.
        prune: whether tenants of whom the file says nothing are to be deleted.

    Raises:
        InvalidBody: the file has a masked secret where there is none to stay.
    """
    wanted = {
        name: _with_secrets(name, each, stock.get(name)) for name, each in file.tenants.items()
    }
    return plan(stock, wanted, prune=prune)


def _with_secrets(name: str, wanted: WantedTenant, kept: KeptTenant | None) -> WantedTenant:
    routes = _put_back(wanted.routes, () if kept is None else kept.routes)
    errors = [
        (path, "is masked, and there is no secret in its place that could stay")
        for number, route in enumerate(routes)
        for path in still_masked(route, f"$.tenants.{name}.routes[{number}]")
    ]
    if errors:
        raise invalid(errors)
    return WantedTenant(wanted.document, tuple(routes))


def _put_back(wanted: Sequence[Document], there: Iterable[KeptRoute]) -> list[Document]:
    """The routes with their secrets, each from one that matches the same."""
    kept: dict[RouteKey, list[Document]] = {}
    for document in sorted_routes(route.document for route in there):
        kept.setdefault(route_key(document), []).append(document)
    numbers: dict[RouteKey, list[int]] = {}
    for number, route in enumerate(wanted):
        numbers.setdefault(route_key(route), []).append(number)
    routes = list(wanted)
    for key, places in numbers.items():
        whole = all_unmasked([wanted[number] for number in places], kept.get(key, ()))
        for number, route in zip(places, whole, strict=True):
            routes[number] = route
    return routes


async def apply_plan(
    plan: Plan,
    *,
    tenants: TenantStore,
    routes: RouteStore,
    keys: KeyMaker,
    author: Author,
    progress: Callable[[TenantStep], None] = lambda _: None,
) -> Applied:
    """Do what a plan says; to be all or nothing, within one transaction of both stores.

    Args:
        plan: what to do.
        tenants: where they are kept.
        routes: where they are kept.
        keys: makes the first key of each new tenant.
        author: whom the audit names.
        progress: told of every tenant that is done.

    Raises:
        Conflict: something has been changed, or made, since the plan was made.
        NotFound: something has been deleted since.
    """
    work = _Work(tenants, routes, keys, author)
    # What goes makes room first.
    for step in sorted(plan.steps, key=lambda each: each.kind != "delete"):
        await work.do(step)
        progress(step)
    return Applied(work.api_keys)


class _Work:
    def __init__(
        self, tenants: TenantStore, routes: RouteStore, keys: KeyMaker, author: Author
    ) -> None:
        self.api_keys: dict[str, str] = {}
        self._tenants = tenants
        self._routes = routes
        self._keys = keys
        self._author = author

    async def do(self, step: TenantStep) -> None:
        tenant_id = "" if step.kept is None else step.kept.id
        if step.kept is not None and step.kind == "delete":
            await self._tenants.delete(tenant_id, step.kept.version, self._author)
            return
        if step.wanted is None:
            return
        draft = draft_of(step.wanted)
        if step.kept is None:
            key = self._keys.make()
            tenant, _ = await self._tenants.create(draft, key.record, self._author)
            tenant_id = tenant.id
            self.api_keys[step.name] = key.text
        elif step.kind == "update":
            await self._tenants.update(
                tenant_id, changes_to(draft), step.kept.version, self._author
            )
        for route in sorted(step.routes, key=lambda each: each.kind != "delete"):
            await self._do_route(tenant_id, route)

    async def _do_route(self, tenant_id: str, step: RouteStep) -> None:
        kept = step.kept
        if step.wanted is None:
            if kept is not None:
                await self._routes.delete(kept.id, kept.version, self._author)
            return
        document = msgspec.json.encode({"tenantId": tenant_id, **step.wanted})
        spec = spec_json(read_spec(document))  # as the admin API saves it
        if kept is None:
            # What somebody has made meanwhile is not known to the plan. What the plan changes has
            # been changed by now, and its file has each route once.
            draft = RouteDraft(tenant_id, spec)
            await self._routes.create(draft, self._author, unlike=WHAT_IT_MATCHES)
        else:
            await self._routes.update(kept.id, spec, kept.version, self._author)
