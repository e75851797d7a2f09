"""That the benchmark's tenants and routes fit the tables."""

from __future__ import annotations

import json

import psycopg
import pytest

from bench.database import Database
from bench.gateway.jobs import Population
from bench.gateway.population import Target, Tenant, fill, route_document, route_path, target_path


@pytest.mark.parametrize(
    ("population", "rows"),
    [
        (Population("one"), (1, 1, 1)),
        (Population("crowd", tenants=100), (100, 100, 100)),
        (Population("map", routes=100), (1, 1, 100)),
    ],
)
async def test_population_is_what_it_says(
    database: str, population: Population, rows: tuple[int, int, int]
) -> None:
    """So many tenants, keys and routes, each route with its own path or its own tenant."""
    with psycopg.connect(database, autocommit=True) as connection:
        (tenant_id,) = connection.execute(
            "INSERT INTO tenants (name, tier) VALUES ('first', 'enterprise') RETURNING id::text"
        ).fetchone() or ("",)
        connection.execute(
            "INSERT INTO api_keys (id, tenant_id, digest) VALUES ('a', %s, %s)",
            (tenant_id, bytes(32)),
        )
        spec = json.dumps(route_document(tenant_id, "http://127.0.0.1:1"))
        (route_id,) = connection.execute(
            "INSERT INTO routes (tenant_id, spec) VALUES (%s, %s) RETURNING id::text",
            (tenant_id, spec),
        ).fetchone() or ("",)
        targets = await fill(Database(database), population, Tenant(tenant_id, "key", route_id))
        counts = tuple(
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # type: ignore[index]
            for table in ("tenants", "api_keys", "routes")
        )
        paths = {row[0] for row in connection.execute("SELECT spec ->> 'path' FROM routes")}
    assert counts == rows
    assert len(targets) == max(population.tenants, population.routes)
    assert len({target.key for target in targets}) == population.tenants
    assert targets[0] == Target(target_path(0), "key")
    assert paths == {route_path(number) for number in range(population.routes)}
