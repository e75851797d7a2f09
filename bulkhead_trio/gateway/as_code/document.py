"""``gateway.toml``: tenants by name, each with what it may and with its routes.

::

    [tenants.acme]
    tier = "pro"
    weight = 2

    [tenants.acme.rateLimit]
    limit = 100
    windowSeconds = 1

    [[tenants.acme.routes]]
    path = "/api/users"
    upstreams = [{ url = "https://users.example.com" }]

Members are those of the admin API. There are no ids: a tenant is known by its name, a route by what
it matches. There are no keys either, and secrets that routes hold are masked unless asked for.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

import attrs
import msgspec
import tomli_w

from bulkhead_trio.errors import InvalidBody
from bulkhead_trio.gateway.as_code._mask_rules import masked
from bulkhead_trio.gateway.as_code._plan_rules import (
    Document,
    KeptTenant,
    WantedTenant,
    sorted_routes,
)
from bulkhead_trio.gateway.saving import (
    NO_IDENTITIES,
    WHAT_IT_MATCHES,
    Audiences,
    CheckURL,
    Hidden,
    invalid,
    nothing_is_hidden,
    read_route,
    what_it_matches,
)
from bulkhead_trio.gateway.spec import RouteSpec
from bulkhead_trio.tenancy.documents import read_tenant, tenant_document

NO_TENANT: Final = "00000000-0000-0000-0000-000000000000"
"""Whose a route in a file is, until its tenant is known."""

FREE_FORM: Final = frozenset(["set", "add", "byMethod"])
"""Members of routes that are objects of names that anybody may choose; they are written sorted."""

_HEADER: Final = """\
# Tenants and routes, as `bulkhead-trio gateway export` writes them. Change them here, look with
# `bulkhead-trio gateway apply gateway.toml --dry-run`, then apply without it.
# A value of *** is a secret that is not shown; it stays as it is.
"""


ReadRoute: TypeAlias = Callable[[Mapping[str, Any]], RouteSpec]


@attrs.frozen
class GatewayFile:
    """What a file says: tenants by name."""

    tenants: Mapping[str, WantedTenant]


def write_file(tenants: Mapping[str, KeptTenant], *, show_secrets: bool = False) -> str:
    """The file that says what there is; always the same for the same.

    Args:
        tenants: by name.
        show_secrets: whether secrets that routes hold are written out.
    """
    written = {}
    for name in sorted(tenants):
        tenant = tenants[name]
        routes = sorted_routes(each.document for each in tenant.routes)
        shown = [route if show_secrets else masked(route) for route in routes]
        written[name] = {
            **_without_nulls({k: v for k, v in tenant.document.items() if k != "name"}),
            **({"routes": [_ordered(route) for route in shown]} if shown else {}),
        }
    text = tomli_w.dumps({"tenants": written}) if written else ""
    return f"{_HEADER}\n{text}" if text else _HEADER


def read_file(
    text: str,
    *,
    tiers: Collection[str],
    check_url: CheckURL,
    hidden: Hidden = nothing_is_hidden,
    identities: Audiences = NO_IDENTITIES,
) -> GatewayFile:
    """What a file says, checked.

    Args:
        text: TOML.
        tiers: the names that exist.
        check_url: refuses upstreams that nobody may connect to.
        hidden: refuses paths that are the server's own.
        identities: what requests may go out as.

    Raises:
        InvalidBody: with every mistake there is.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise invalid([("$", f"is not TOML: {error}")]) from None
    except ValueError:
        raise invalid([("$", "has a number of too many digits")]) from None
    except RecursionError:
        raise invalid([("$", "has too many tables or arrays within each other")]) from None
    errors = [(f"$.{name}", "is not known here") for name in document if name != "tenants"]
    tables = document.get("tenants", {})
    tenants: dict[str, WantedTenant] = {}
    read = partial(read_route, check_url=check_url, hidden=hidden, identities=identities)
    if isinstance(tables, dict):
        for name, table in tables.items():
            where = f"$.tenants.{_key(name)}"
            try:
                tenants[name] = _read_tenant(name, table, tiers=tiers, read=read)
            except InvalidBody as error:
                errors += _moved(error, where)
    else:
        errors.append(("$.tenants", "must be a table"))
    if errors:
        raise invalid(errors)
    return GatewayFile(tenants)


def route_document(spec: RouteSpec) -> Document:
    """A route in the one form for everything that means the same, without its tenant.

    What has its default is left out, but that something is enabled stays to be seen.
    """
    document = _short(spec)
    del document["tenantId"]
    return document


def _short(part: msgspec.Struct) -> dict[str, Any]:
    document = {}
    for field in msgspec.structs.fields(part):
        value = getattr(part, field.name)
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        else:
            default = field.default
        if value != default or field.name == "enabled":
            document[field.encode_name] = _short_value(value)
    return document


def _short_value(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return _short(value)
    if isinstance(value, tuple):
        return [_short_value(each) for each in value]
    # 3.0 is 3.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _read_tenant(
    name: str, table: object, *, tiers: Collection[str], read: ReadRoute
) -> WantedTenant:
    if not isinstance(table, dict):
        raise invalid([("$", "must be a table")])
    errors: list[tuple[str, str]] = []
    if "name" in table:
        errors.append(("$.name", "is in the table's own name"))
    members = {k: v for k, v in table.items() if k not in ("routes", "name")}
    tenant: Document = {}
    try:
        tenant = tenant_document(read_tenant({"name": name, **members}, tiers=tiers))
    except InvalidBody as error:
        errors += [(each["path"], each["message"]) for each in error.errors]
    routes, mistakes = _read_routes(table.get("routes", []), read)
    errors += mistakes
    if errors:
        raise invalid(errors)
    return WantedTenant(tenant, tuple(routes))


def _read_routes(tables: object, read: ReadRoute) -> tuple[list[Document], list[tuple[str, str]]]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        return [], [("$.routes", "must be tables: [[tenants.NAME.routes]]")]
    routes: list[Document] = []
    errors: list[tuple[str, str]] = []
    first: dict[object, int] = {}
    for number, table in enumerate(tables):
        where = f"$.routes[{number}]"
        if "tenantId" in table:
            errors.append((f"{where}.tenantId", "is the tenant that it stands under"))
        try:
            spec = read({**table, "tenantId": NO_TENANT})
        except InvalidBody as error:
            errors += _moved(error, where)
            continue
        routes.append(route_document(spec))
        other = first.setdefault(what_it_matches(spec), number)
        if other != number:
            said = f"is there already: routes[{other}] has the same {', '.join(WHAT_IT_MATCHES)}"
            errors.append((f"{where}.path", said))
    return routes, errors


def _moved(error: InvalidBody, where: str) -> Iterable[tuple[str, str]]:
    """The same mistakes, of something that stands at ``where``."""
    return [(where + each["path"].removeprefix("$"), each["message"]) for each in error.errors]


def _key(name: str) -> str:
    """A name as TOML writes it."""
    is_bare = name != "" and all(c.isascii() and (c.isalnum() or c in "-_") for c in name)
    return name if is_bare else msgspec.json.encode(name).decode()


def _without_nulls(value: Any) -> Any:
    """TOML has no null: what is null is left out."""
    if isinstance(value, Mapping):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    return value


def _ordered(value: Any, name: str = "") -> Any:
    """Without nulls, and with free names in order."""
    if isinstance(value, Mapping):
        members = sorted(value.items()) if name in FREE_FORM else value.items()
        return {each: _ordered(inner, each) for each, inner in members if inner is not None}
    if isinstance(value, list):
        return [_ordered(each) for each in value]
    return value
