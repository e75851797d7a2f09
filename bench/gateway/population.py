"""Tenants, keys and routes for a run: a first one of each as an operator makes them, the others
straight into the tables."""

from __future__ import annotations

import http.client
import json
import random
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import psycopg
import trio

from bench.client import Address
from bench.database import Database
from bench.failures import RunFailed
from bench.gateway.jobs import Population
from bulkhead_trio.tenancy._key_rules import RANDOM_BYTES, make_key

ADMIN_KEY = "admin-key-of-the-benchmark"
SECRET_KEY = "secret-key-of-the-benchmark-which-nobody-else-has"
SETTINGS = {
    "ADMIN_API_KEY": ADMIN_KEY,
    "SECRET_KEY": SECRET_KEY,
    # No line a request: the peers write none.
    "LOG_LEVEL": "warning",
}
ADMIN_SECONDS = 30.0
NO_LIMIT_HELD = 1_000_000_000
"""A rate limit that is counted and never reached: its check is part of the job."""
TIER = "enterprise"


@attrs.frozen
class Target:
    """One thing to ask: a path, and the key of whose it is."""

    path: str
    key: str


@attrs.frozen
class Tenant:
    """A tenant as the admin API made it, and its route."""

    id: str
    key: str
    route: str


def route_path(number: int) -> str:
    """The path of a route; as long for the last of many as for an only one."""
    return f"/r/{number:05}/items"


def target_path(number: int) -> str:
    """A path that this route, and no other, is for."""
    return f"{route_path(number)}/1"


def route_document(tenant_id: str, upstream: str, number: int = 0) -> dict[str, Any]:
    """A route with a breaker, as the contract writes it."""
    return {
        "tenantId": tenant_id,
        "method": "*",
        "path": route_path(number),
        "pathType": "prefix",
        "upstreams": [{"url": upstream}],
        "resilience": {
            "circuitBreaker": {
                "enabled": True,
                "failureThreshold": 5,
                "successThreshold": 1,
                "timeout": 30_000,
            },
            "timeout": {"default": 10_000},
        },
    }


# --- as an operator does --------------------------------------------------------------------------


async def add_tenant(server: Address, name: str, upstream: str, *, tier: str = TIER) -> Tenant:
    """A tenant with a key and a route to ``upstream``, made by the admin API.

    Raises:
        RunFailed: the server refused.
    """
    limit = {"limit": NO_LIMIT_HELD, "windowSeconds": 1}
    tenant = await _post(server, "/admin/tenants", {"name": name, "tier": tier, "rateLimit": limit})
    route = await _post(server, "/admin/routes", route_document(tenant["id"], upstream))
    return Tenant(tenant["id"], tenant["apiKey"], route["id"])


async def _post(server: Address, path: str, document: Any) -> Any:
    def exchange() -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(server.host, server.port, timeout=ADMIN_SECONDS)
        try:
            headers = {"X-Admin-Key": ADMIN_KEY, "Content-Type": "application/json"}
            connection.request("POST", path, json.dumps(document), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    status, body = await trio.to_thread.run_sync(exchange)
    if status != 201:
        raise RunFailed(f"POST {path} answers {status}: {body[:500]!r}")
    return json.loads(body)


# --- and the rest ---------------------------------------------------------------------------------


def spec_of(model: str, tenant_id: str, number: int) -> str:
    """The document of another route like ``model``, which is one as the server has saved it."""
    document = json.loads(model)
    document["path"] = route_path(number)
    if "tenantId" in document:
        document["tenantId"] = tenant_id
    return json.dumps(document)


def more_tenants(count: int) -> Iterator[tuple[str, str, bytes, str]]:
    """``count`` tenants with a key each, the same ones each time: the tenant's id, the key's, its
    digest, and its text."""
    draw = random.Random("tenants of the gateway's benchmark")
    for _ in range(count):
        tenant_id = str(uuid.UUID(int=draw.getrandbits(128), version=4))
        key = make_key(SECRET_KEY.encode(), draw.randbytes(RANDOM_BYTES))
        yield tenant_id, key.id, key.digest, key.text


async def fill(database: Database, population: Population, first: Tenant) -> list[Target]:
    """Make what ``population`` lacks beside the first tenant and route; all that can be asked.

    Raises:
        psycopg.Error: the tables are not as expected.
    """

    def work() -> list[Target]:
        with psycopg.connect(database.conninfo) as connection:
            if population.tenants > 1:
                return _fill_tenants(connection, population.tenants, first)
            return _fill_routes(connection, population.routes, first)

    return await trio.to_thread.run_sync(work)


def _fill_tenants(connection: psycopg.Connection[Any], count: int, first: Tenant) -> list[Target]:
    model = _spec_text(connection, first.route)
    made = list(more_tenants(count - 1))
    tenants = ((each[0], f"tenant {n}", TIER, NO_LIMIT_HELD, 1.0) for n, each in enumerate(made))
    _copy(connection, "tenants (id, name, tier, rate_limit, rate_window)", tenants)
    _copy(connection, "api_keys (id, tenant_id, digest)", ((k, t, d) for t, k, d, _ in made))
    specs = ((each[0], spec_of(model, each[0], 0)) for each in made)
    _copy(connection, "routes (tenant_id, spec)", specs)
    keys = [first.key, *(text for *_, text in made)]
    return [Target(target_path(0), key) for key in keys]


def _fill_routes(connection: psycopg.Connection[Any], count: int, first: Tenant) -> list[Target]:
    model = _spec_text(connection, first.route)
    specs = ((first.id, spec_of(model, first.id, number)) for number in range(1, count))
    _copy(connection, "routes (tenant_id, spec)", specs)
    return [Target(target_path(number), first.key) for number in range(count)]


def _spec_text(connection: psycopg.Connection[Any], route: str) -> str:
    row = connection.execute("SELECT spec::text FROM routes WHERE id = %s", (route,)).fetchone()
    if row is None:
        raise RunFailed("the route that was made is not in the database")
    return str(row[0])


def _copy(connection: psycopg.Connection[Any], columns: str, rows: Iterator[Sequence[Any]]) -> None:
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY {columns} FROM STDIN".encode()) as copy,
    ):
        for row in rows:
            copy.write_row(row)


# --- asking in turn -------------------------------------------------------------------------------

_SCRIPT = """\
local targets = {
%s
}
local requests, at = {}, 0

function init()
  for number, target in ipairs(targets) do
    requests[number] = wrk.format("GET", target[1], {["X-API-Key"] = target[2]})
  end
end

function request()
  at = at %% #requests + 1
  return requests[at]
end
"""


def wrk_script(targets: Sequence[Target]) -> str:
    """A script for wrk that asks for one after the other, in an order that is mixed."""
    mixed = list(targets)
    random.Random(len(mixed)).shuffle(mixed)
    return _SCRIPT % "\n".join(f'  {{"{target.path}", "{target.key}"}},' for target in mixed)
