"""The whole way of a request, on virtual time, with a scripted database at its end."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkhead_trio.api.data import DataResource
from bulkhead_trio.api.drain import DrainGate
from bulkhead_trio.api.edge import Edge, RequestLimits
from bulkhead_trio.api.health import HealthResource
from bulkhead_trio.api.quart_app import create_quart_app
from bulkhead_trio.database import Pool
from bulkhead_trio.policies.breaker import CircuitBreaker, Consecutive
from bulkhead_trio.policies.compartment import Compartment
from bulkhead_trio.policies.rate import FixedWindow, RateLimiter
from bulkhead_trio.tenancy import TierResolver
from bulkhead_trio.testing import (
    Answer,
    ASGIClient,
    CancellationPoint,
    ScriptedConnection,
    ScriptedDatabase,
    sweep_cancellations,
    tenant_rows,
)
from bulkhead_trio.tiers import Tier, says_nothing_of_the_database

TIMEOUT = 10.0
COOLDOWN = 15.0

Clock = trio.testing.MockClock


@attrs.frozen
class House:
    """A served application and what it stands on."""

    client: ASGIClient
    database: ScriptedDatabase
    gate: DrainGate
    tiers: dict[str, Tier[ScriptedConnection]]

    async def data(self, tier: str = "free", query: str = "", **headers: str) -> Answer:
        fields = {"X-Tenant-Tier": tier}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.get(f"/api/data{query}", fields)

    def assert_at_rest(self) -> None:
        for tier in self.tiers.values():
            statistics = tier.statistics()
            assert (statistics.compartment.active, statistics.compartment.queued) == (0, 0)
            assert (statistics.pool.active, statistics.pool.pending) == (0, 0)
            assert statistics.breaker.probes == 0
        assert self.database.running_queries == 0
        assert self.gate.in_flight == 0


def make_tier(
    name: str, database: ScriptedDatabase, *, rate: int | None, workers: int = 2, queue: int = 3
) -> Tier[ScriptedConnection]:
    rule = None if rate is None else FixedWindow(limit=rate, seconds=60)
    return Tier(
        name,
        timeout=TIMEOUT,
        limiter=None if rule is None else RateLimiter(rule, name=name),
        compartment=Compartment(name, workers=workers, queue=queue),
        breaker=CircuitBreaker(
            name,
            window=Consecutive(5),
            wait_in_open=COOLDOWN,
            ignore=says_nothing_of_the_database,
        ),
        pool=Pool(name, database.connect, max_size=workers, uniform=lambda: 0.5),
    )


@asynccontextmanager
async def open_house(
    *, rate: int | None = None, trust_header: bool = True, force_error: bool = True
) -> AsyncIterator[House]:
    """Everything but sockets; after the block every permit, place and connection is back."""
    database = ScriptedDatabase(tenant_rows("free"))
    tiers = {
        "free": make_tier("free", database, rate=rate),
        "pro": make_tier("pro", database, rate=None),
    }
    gate = DrainGate()
    resolver = TierResolver(tuple(tiers), trust_header=trust_header)
    app: Any = create_quart_app(
        (
            HealthResource({}, gate),
            DataResource(tiers, resolver, allow_force_error=force_error),
        ),
        gate=gate,
        max_body_bytes=1000,
    )
    edge = Edge(app, gate=gate, limits=RequestLimits(), listener="public")
    async with trio.open_nursery() as nursery:
        for tier in tiers.values():
            await nursery.start(tier.run)
        house = House(ASGIClient(edge), database, gate, tiers)
        yield house
        await trio.sleep(1)
        house.assert_at_rest()
        nursery.cancel_scope.cancel()
    assert database.open_connections == 0


def assert_problem(answer: Answer, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    assert (answer.status, body["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["status"] == status
    assert body["title"] == body["error"]
    assert body["instance"] == "/api/data"
    assert body["detail"]
    if "retryAfter" in body:
        assert answer.headers["retry-after"] == str(body["retryAfter"])
        assert body["retryAfter"] >= 1
    return body


async def test_data_answers_rows_in_the_contracts_form(autojump_clock: Clock) -> None:
    """A row has four members, its time in UTC with milliseconds and a Z."""
    async with open_house() as house:
        answer = await house.data()
        assert answer.status == 200
        assert answer.json()[0] == {
            "id": 1,
            "tier": "free",
            "payload": {"message": "Free tier data point 1"},
            "created_at": "2026-02-11T12:00:00.000Z",
        }
        assert "x-ratelimit-limit" not in answer.headers


async def test_data_carries_the_quota_on_every_answer(autojump_clock: Clock) -> None:
    """Good, refused and failed answers say what is left; a refusal uses none of it."""
    async with open_house(rate=3) as house:
        answers = [await house.data() for _ in range(2)]
        answers.append(await house.data(query="?force_error=true"))
        answers += [await house.data() for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 503, 429, 429, 429]
        assert [a.headers["x-ratelimit-remaining"] for a in answers] == list("210000")
        for answer in answers:
            assert answer.headers["x-ratelimit-limit"] == "3"
            assert answer.headers["ratelimit-policy"] == '"free";q=3;w=60'
            assert answer.headers["ratelimit"].startswith('"free";r=')
        body = assert_problem(answers[-1], 429, "rate_limited")
        assert body["type"].endswith("#quota-exceeded")
        assert body["error"] == "Rate limit exceeded"
        await trio.sleep(60)
        assert (await house.data()).status == 200


async def test_data_full_compartment_refuses_and_others_never_notice(
    autojump_clock: Clock,
) -> None:
    """A tier whose workers and places are taken refuses; another tier is served as ever."""
    async with open_house() as house:
        house.database.query_seconds = 2.0
        statuses: Counter[int] = Counter()

        async def caller() -> None:
            answer = await house.data()
            statuses[answer.status] += 1
            if answer.status == 503:
                body = assert_problem(answer, 503, "bulkhead_full")
                assert body["type"].endswith("#temporary-reduced-capacity")

        async with trio.open_nursery() as nursery:
            for _ in range(9):
                nursery.start_soon(caller)
            await trio.testing.wait_all_tasks_blocked()
            began = trio.current_time()
            assert (await house.data("pro")).status == 200
            assert trio.current_time() - began == pytest.approx(2.0)
        assert statuses == {200: 5, 503: 4}


async def test_data_deadline_while_running(autojump_clock: Clock) -> None:
    """A slow database costs the caller exactly the time it asked for."""
    async with open_house() as house:
        house.database.query_seconds = 60.0
        began = trio.current_time()
        assert_problem(await house.data(X_Request_Timeout="1.5"), 504, "deadline_exceeded")
        assert trio.current_time() - began == pytest.approx(1.5)
        began = trio.current_time()
        assert_problem(await house.data(), 504, "deadline_exceeded")
        assert trio.current_time() - began == pytest.approx(TIMEOUT)


async def test_data_deadline_while_queued(autojump_clock: Clock) -> None:
    """A deadline that passes in the queue is answered then, and counts against nobody."""
    async with open_house() as house:
        house.database.query_seconds = 9.0
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(house.data)
            await trio.testing.wait_all_tasks_blocked()
            began = trio.current_time()
            assert_problem(await house.data(X_Request_Timeout="2"), 504, "deadline_exceeded")
            assert trio.current_time() - began == pytest.approx(2.0)
        assert house.tiers["free"].statistics().breaker.failures == 0


async def test_data_unreachable_deadline_is_refused_at_once(autojump_clock: Clock) -> None:
    """When the wait is known to be too long, nobody is made to wait for it."""
    async with open_house() as house:
        house.database.query_seconds = 4.0
        await house.data()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(house.data)
            await trio.testing.wait_all_tasks_blocked()
            began = trio.current_time()
            refused = await house.data(X_Request_Timeout="1")
            assert trio.current_time() == pytest.approx(began)
            assert_problem(refused, 503, "deadline_unreachable")


async def test_data_congestion_never_opens_the_breaker(autojump_clock: Clock) -> None:
    """Time lost in the line or waiting for a connection is no failure of the database."""
    async with open_house() as house:
        house.database.query_seconds = 6.0

        async def caller(delay: float) -> None:
            await trio.sleep(delay)
            while trio.current_time() < began + 120:
                answer = await house.data()
                assert answer.status in {200, 503, 504}
                if answer.status == 503:
                    assert answer.json()["code"] in {"bulkhead_full", "deadline_unreachable"}
                    await trio.sleep(1)

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(caller, number / 10)
        assert house.tiers["free"].statistics().breaker.opened == 0


async def test_data_hanging_database_opens_the_breaker_whoever_waits(
    autojump_clock: Clock,
) -> None:
    """A database that is given its time and does not answer counts, our limit or the caller's."""
    async with open_house() as house:
        house.database.query_seconds = 600.0
        for _ in range(5):
            assert (await house.data(X_Request_Timeout="9")).status == 504
        assert (await house.data()).json()["code"] == "circuit_open"


async def test_data_impatient_callers_never_open_the_breaker(autojump_clock: Clock) -> None:
    """Deadlines that callers chose are no failures of the database; our own limit is."""
    async with open_house() as house:
        house.database.query_seconds = 60.0
        for _ in range(20):
            assert (await house.data(X_Request_Timeout="0.1")).status == 504
        assert house.tiers["free"].statistics().breaker.failures == 0
        for _ in range(5):
            assert (await house.data()).status == 504
        body = assert_problem(await house.data(), 503, "circuit_open")
        assert 1 <= body["retryAfter"] <= COOLDOWN


async def test_data_breaker_opens_probes_and_closes(autojump_clock: Clock) -> None:
    """Five failures open it, for its tier alone; after the cooldown one success closes it."""
    async with open_house() as house:
        for _ in range(5):
            forced = await house.data(query="?force_error=true")
            assert_problem(forced, 503, "database_unavailable")
        await trio.sleep(5)
        body = assert_problem(await house.data(), 503, "circuit_open")
        assert body["retryAfter"] == COOLDOWN - 5
        assert (await house.data("pro")).status == 200
        await trio.sleep(10)
        assert (await house.data()).status == 200
        assert house.tiers["free"].statistics().breaker.failures == 0


async def test_data_database_away_and_back(autojump_clock: Clock) -> None:
    """Away: 503 quickly, then the breaker; back: answers again, with nothing restarted."""
    async with open_house() as house:
        assert (await house.data()).status == 200
        house.database.is_away = True
        codes = [(await house.data()).json()["code"] for _ in range(8)]
        assert codes == ["database_unavailable"] * 5 + ["circuit_open"] * 3
        house.database.is_away = False
        await trio.sleep(COOLDOWN)
        assert (await house.data()).status == 200


async def test_data_force_error_can_be_switched_off(autojump_clock: Clock) -> None:
    """Switched off, the parameter is read and does nothing."""
    async with open_house(force_error=False) as house:
        assert (await house.data(query="?force_error=true")).status == 200


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 400, "tenant_tier_missing"),
        ({"X-Tenant-Tier": ""}, 400, "tenant_tier_missing"),
        ({"X-Tenant-Tier": "gold"}, 400, "tenant_tier_invalid"),
        ({"X-Tenant-Tier": "FREE"}, 400, "tenant_tier_invalid"),
        ({"X-Tenant-Tier": "fr\xe9e"}, 400, "tenant_tier_invalid"),
        ({"X-Tenant-Tier": "free, pro"}, 400, "tenant_tier_invalid"),
        ({"X-Tenant-Tier": "free", "X-API-Key": "bh_x_y"}, 403, "api_key_invalid"),
        ({"X-Tenant-Tier": "free", "X-Request-Timeout": "0"}, 400, "invalid_header"),
        ({"X-Tenant-Tier": "free", "X-Request-Timeout": "-1"}, 400, "invalid_header"),
        ({"X-Tenant-Tier": "free", "X-Request-Timeout": "nan"}, 400, "invalid_header"),
        ({"X-Tenant-Tier": "free", "X-Request-Timeout": "1e3"}, 400, "invalid_header"),
        ({"X-Tenant-Tier": "free", "X-Request-Timeout": ""}, 400, "invalid_header"),
        ({"X-Tenant-Tier": "free", "X-Request-Timeout": "\xb2"}, 400, "invalid_header"),
    ],
)
async def test_data_bad_headers(
    headers: dict[str, str], status: int, code: str, autojump_clock: Clock
) -> None:
    """Each mistake in a header has its own answer; once the tier is known, its quota counts."""
    async with open_house(rate=1) as house:
        answer = await house.client.get("/api/data", headers)
        assert_problem(answer, status, code)
        is_identified = "x-ratelimit-limit" in answer.headers
        assert is_identified == (code == "invalid_header")
        assert (await house.data()).status == (429 if is_identified else 200)


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "limit=-1", "limit=", "limit=1.5", "limit=%C2%B2", "limit=1&limit=2",
     "force_error=yes", "limit=%ff", "&".join(f"p{i}=1" for i in range(101))],
)  # fmt: skip
async def test_data_bad_queries(query: str, autojump_clock: Clock) -> None:
    """A parameter that cannot be meant is refused by name."""
    async with open_house() as house:
        assert_problem(await house.data(query=f"?{query}"), 400, "bad_request")


@pytest.mark.parametrize("limit", [1, 100])
async def test_data_limits_at_the_edges(limit: int, autojump_clock: Clock) -> None:
    """Both ends of the range are inside it."""
    async with open_house() as house:
        assert (await house.data(query=f"?limit={limit}")).status == 200


async def test_data_untrusted_header_asks_for_a_key(autojump_clock: Clock) -> None:
    """Where the plain header is not believed, it is no identification at all."""
    async with open_house(trust_header=False) as house:
        answer = await house.data()
        assert_problem(answer, 401, "api_key_missing")
        assert "X-API-Key" in answer.headers["www-authenticate"]


async def test_data_client_that_leaves_cancels_its_work(autojump_clock: Clock) -> None:
    """Wherever a request is cancelled, everything it held is back a moment later."""

    async def scenario(point: CancellationPoint) -> None:
        async with open_house() as house:
            house.database.query_seconds = 1.0
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(house.data)
                await trio.testing.wait_all_tasks_blocked()
                with point:
                    await house.data()
            await trio.sleep(10)
            assert (await house.data()).status == 200

    assert await sweep_cancellations(scenario) >= 1


async def test_data_client_leaves_at_any_time(autojump_clock: Clock) -> None:
    """A client can leave while queued, while connecting and in the query; all is given back."""
    async with open_house() as house:
        house.database.query_seconds = 1.0
        house.database.connect_seconds = 0.3
        for tenth in range(30):
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(house.data)
                await trio.testing.wait_all_tasks_blocked()
                with trio.move_on_after(tenth / 10 + 0.05):
                    await house.data()
            await trio.sleep(0.1)
            house.assert_at_rest()


async def test_data_storm_with_a_third_cancelled(autojump_clock: Clock) -> None:
    """Thousands of requests, a third of them abandoned at random: the statistics end at rest."""
    rng = random.Random(20)
    async with open_house() as house:
        house.database.query_seconds = 0.02
        house.database.connect_seconds = 0.01
        statuses: Counter[int] = Counter()

        async def caller(patience: float) -> None:
            await trio.sleep(rng.uniform(0, 20))
            with trio.move_on_after(patience):
                answer = await house.data(rng.choice(["free", "pro"]))
                statuses[answer.status] += 1

        async with trio.open_nursery() as nursery:
            for number in range(2000):
                patience = rng.uniform(0, 0.04) if number % 3 == 0 else 60.0
                nursery.start_soon(caller, patience)
        assert set(statuses) <= {200, 503}
        assert statuses[200] > 1000


async def test_draining_refuses_new_work_and_finishes_the_old(autojump_clock: Clock) -> None:
    """Once draining, probes say so, work is refused, and what runs is waited for."""
    async with open_house() as house:
        house.database.query_seconds = 3.0
        statuses: list[int] = []

        async def caller() -> None:
            statuses.append((await house.data()).status)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller)
            await trio.testing.wait_all_tasks_blocked()
            house.gate.close()
            refused = await house.data()
            assert_problem(refused, 503, "draining")
            assert refused.headers["connection"] == "close"
            ready = await house.client.get("/ready")
            assert (ready.status, ready.json()["status"]) == (503, "not_ready")
            assert (await house.client.get("/health")).status == 200
            await house.gate.wait_idle()
        assert statuses == [200]


async def test_draining_cut_off_answers_what_is_left(autojump_clock: Clock) -> None:
    """When the grace is over, what still runs is cancelled and answered."""
    async with open_house() as house:
        house.database.query_seconds = 9.0
        answers: list[Answer] = []

        async def caller() -> None:
            answers.append(await house.data())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller)
            await trio.testing.wait_all_tasks_blocked()
            house.gate.close()
            house.gate.cut_off()
        assert_problem(answers[0], 503, "draining")


@given(
    name=st.sampled_from(["X-Tenant-Tier", "X-Request-Timeout", "X-API-Key", "X-Request-Id",
                          "traceparent", "X-Admin-Key"]),
    value=st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=300),
    query=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=80),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_parsers_survive_anything(name: str, value: str, query: str) -> None:
    """No header and no query, however odd, makes anything but one of the contract's answers."""

    async def ask() -> None:
        async with open_house(rate=1) as house:
            fields = {"X-Tenant-Tier": "free", name: value}
            answer = await house.client.get(f"/api/data?{query}", fields)
            assert answer.status in {200, 400, 401, 403, 414, 429}
            if answer.status != 200:
                assert_problem(answer, answer.status, answer.json()["code"])
            assert 1 <= len(answer.headers["x-request-id"]) <= 128

    trio.run(ask, clock=trio.testing.MockClock(autojump_threshold=0))
