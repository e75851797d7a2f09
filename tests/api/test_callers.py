"""Requests that show a tenant's key, over ASGI: whose they are, and what that changes."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.api.census import Alone, ProcessReader
from bulkhead_trio.api.data import DataResource
from bulkhead_trio.api.drain import DrainGate
from bulkhead_trio.api.edge import Edge, RequestLimits
from bulkhead_trio.api.orders import OrdersResource
from bulkhead_trio.api.quart_app import create_quart_app
from bulkhead_trio.database import Pool
from bulkhead_trio.observe.access_log import JSONAccessLog
from bulkhead_trio.observe.metrics import Durations
from bulkhead_trio.orders import OrderDesk, OrderLimits, is_failure_of_the_store
from bulkhead_trio.policies.breaker import CircuitBreaker, Consecutive
from bulkhead_trio.policies.compartment import Compartment
from bulkhead_trio.policies.context import current_request
from bulkhead_trio.policies.rate import FixedWindow, RateLimiter
from bulkhead_trio.tenancy import ApiKeyGuard, TenantDirectory, TierResolver
from bulkhead_trio.testing import Answer, ASGIClient, ScriptedDatabase, ScriptedOrderStore
from bulkhead_trio.testing.tenants import PEPPER, ScriptedTenants
from bulkhead_trio.tiers import Tier, says_nothing_of_the_database

TIERS = ("free", "pro")


class Watched(ScriptedDatabase):
    """Notes whose request each query is for."""

    def __init__(self) -> None:
        super().__init__()
        self.tenants: list[str | None] = []

    async def answer(self, seconds: float) -> None:
        request = current_request()
        if self.open_connections:
            self.tenants.append(None if request is None else request.tenant)
        await super().answer(seconds)


@attrs.frozen
class House:
    client: ASGIClient
    tenants: ScriptedTenants
    database: Watched
    orders: ScriptedOrderStore
    log: io.StringIO

    def notes(self) -> list[dict[str, str]]:
        """What the access log says of whose each request was."""
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [{name: line[name] for name in ("tier", "tenant") if name in line} for line in lines]

    async def data(self, key: str | None, **headers: str) -> Answer:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.get("/api/data", with_key(key, fields))

    async def order(self, key: str | None, order_id: str = "o-1", user: str = "u") -> Answer:
        body = json.dumps({"orderId": order_id, "amount": 1}).encode()
        fields = {"x-user-id": user, "content-type": "application/json"}
        return await self.client.request("POST", "/api/orders", with_key(key, fields), body)

    async def look(self, key: str | None, order_id: str = "o-1") -> Answer:
        return await self.client.get(f"/api/orders/{order_id}", with_key(key, {}))


def with_key(key: str | None, fields: dict[str, str]) -> dict[str, str]:
    return fields if key is None else {**fields, "x-api-key": key}


def make_tier(name: str, database: ScriptedDatabase) -> Tier[Any]:
    return Tier(
        name,
        timeout=10,
        limiter=RateLimiter(FixedWindow(limit=100, seconds=60.0)),
        compartment=Compartment(name, workers=1, queue=1),
        breaker=CircuitBreaker(name, ignore=says_nothing_of_the_database),
        pool=Pool(name, database.connect, max_size=1),
    )


@asynccontextmanager
async def opened(*, is_production: bool = False) -> AsyncIterator[House]:
    tenants, database, log = ScriptedTenants(seconds=0.1), Watched(), io.StringIO()
    directory = TenantDirectory(tenants, PEPPER)
    tiers = {name: make_tier(name, database) for name in TIERS}
    orders = ScriptedOrderStore()
    breaker = CircuitBreaker("orders", window=Consecutive(5), record=is_failure_of_the_store)
    desk = OrderDesk(orders, limits=OrderLimits(burst=2, rate=0.001), breaker=breaker)
    census = Alone(ProcessReader(tiers, desk, Durations()))
    resolver = TierResolver(TIERS, trust_header=not is_production, directory=directory)
    guard = ApiKeyGuard(is_required=is_production, directory=directory)
    gate = DrainGate()
    app: Any = create_quart_app(
        (
            DataResource(tiers, resolver, allow_force_error=True),
            OrdersResource(desk, guard, census),
        ),
        gate=gate,
        max_body_bytes=1000,
    )
    access_log = JSONAccessLog(log)
    edge = Edge(app, gate=gate, limits=RequestLimits(), listener="public", access_log=access_log)
    async with trio.open_nursery() as nursery:
        for tier in tiers.values():
            await nursery.start(tier.run)
        await nursery.start(desk.run)
        yield House(ASGIClient(edge), tenants, database, orders, log)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_production", [False, True])
async def test_data_of_a_key_is_its_tiers(autojump_clock: MockClock, is_production: bool) -> None:
    """Answered, logged and queued as the tenant's, at the first request and at later ones."""
    async with opened(is_production=is_production) as house:
        key, tenant = house.tenants.add(tier="pro")
        for _ in range(2):
            answer = await house.data(key)
            assert answer.status == 200
            assert answer.headers["ratelimit-policy"].startswith('"pro"')
        assert house.notes() == [{"tier": "pro", "tenant": tenant.id}] * 2
        assert house.database.tenants == [tenant.id] * 2
        assert house.tenants.queries == 1
        assert current_request() is None


async def test_data_of_nobody_in_particular_is_as_it_was(autojump_clock: MockClock) -> None:
    """The plain header alone: no tenant anywhere, not even after a tenant's request."""
    async with opened() as house:
        key, _ = house.tenants.add()
        await house.data(key)
        answer = await house.data(None, x_tenant_tier="free")
        assert answer.status == 200
        assert house.notes()[1] == {"tier": "free"}
        assert house.database.tenants[1] is None


async def test_data_of_a_key_and_another_tier_is_refused(autojump_clock: MockClock) -> None:
    """With both, they must agree."""
    async with opened() as house:
        key, _ = house.tenants.add(tier="pro")
        assert (await house.data(key, x_tenant_tier="pro")).status == 200
        answer = await house.data(key, x_tenant_tier="free")
        assert (answer.status, answer.json()["code"]) == (400, "tenant_tier_invalid")


async def test_data_of_a_bad_key_is_refused(autojump_clock: MockClock) -> None:
    """403 for what is wrong or switched off, 401 for none, 503 where nobody can tell."""
    async with opened(is_production=True) as house:
        inactive, _ = house.tenants.add(active=False)
        good, _ = house.tenants.add()
        expected = [
            (None, 401, "api_key_missing"),
            ("x", 403, "api_key_invalid"),
            (house.tenants.keys[good.split("_")[1]].digest.hex(), 403, "api_key_invalid"),
            (inactive, 403, "tenant_inactive"),
        ]
        for key, status, code in expected * 2:
            answer = await house.data(key, x_tenant_tier="free")
            assert (answer.status, answer.json()["code"]) == (status, code)
            answer = await house.order(key)
            assert (answer.status, answer.json()["code"]) == (status, code)
            answer = await house.look(key)
            assert (answer.status, answer.json()["code"]) == (status, code)
        house.tenants.is_away = True
        for asked in (house.data(good), house.order(good), house.look(good)):
            answer = await asked
            assert (answer.status, answer.json()["code"]) == (503, "database_unavailable")
            assert "retry-after" in answer.headers
        assert not house.orders.records


async def test_orders_of_tenants_are_apart(autojump_clock: MockClock) -> None:
    """Two tenants' users of one name have a quota each, and neither sees the other's orders."""
    async with opened() as house:
        first, tenant = house.tenants.add()
        second, _ = house.tenants.add()
        for number in range(2):
            assert (await house.order(first, f"a-{number}")).status == 202
        assert (await house.order(first, "a-3")).status == 429
        assert (await house.order(second, "b-1")).status == 202
        assert (await house.look(first, "a-1")).status == 200
        for key in (second, None):
            answer = await house.look(key, "a-1")
            assert (answer.status, answer.json()["code"]) == (404, "not_found")
        answer = await house.order(second, "a-1")
        assert (answer.status, answer.json()["code"]) == (409, "conflict")
        assert house.notes()[0]["tenant"] == tenant.id


async def test_orders_of_nobody_in_particular_are_everybodys(autojump_clock: MockClock) -> None:
    """As they were: whoever knows the id may look."""
    async with opened() as house:
        key, _ = house.tenants.add()
        assert (await house.order(None)).status == 202
        for asking in (None, key):
            assert (await house.look(asking)).status == 200


async def test_orders_metrics_in_production_ask_for_a_key(autojump_clock: MockClock) -> None:
    """As the other two do."""
    async with opened(is_production=True) as house:
        key, _ = house.tenants.add()
        assert (await house.client.get("/api/metrics")).status == 401
        assert (await house.client.get("/api/metrics", {"x-api-key": key})).status == 200


async def test_key_is_nowhere_in_an_answer_or_a_log_line(autojump_clock: MockClock) -> None:
    """Neither a good one nor a bad one comes back."""
    async with opened() as house:
        key, _ = house.tenants.add(tier="pro")
        bad = f"bh_{'0' * 24}_{'A' * 43}"
        answers = [await house.data(each, x_tenant_tier="free") for each in (key, bad)]
        said = b"".join(answer.body for answer in answers) + house.log.getvalue().encode()
        assert key.encode() not in said
        assert bad.encode() not in said
