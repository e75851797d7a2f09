"""The way into what is a tenant's own, on virtual time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import msgspec
import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.api._tenant_door import EventQuota, TenantDoor, spending
from bulkhead_trio.api.messages import Headers, Request, Response
from bulkhead_trio.api.routes import answer
from bulkhead_trio.database.tenant_records import TenantRecord
from bulkhead_trio.errors import DatabaseUnavailable, NotFound
from bulkhead_trio.policies.breaker import CircuitBreaker, Consecutive
from bulkhead_trio.policies.compartment import Compartment
from bulkhead_trio.policies.context import current_request
from bulkhead_trio.policies.queue import FairQueue
from bulkhead_trio.policies.rate import KeyedRateLimiter, TokenBucket
from bulkhead_trio.tenancy import ApiKeyGuard, TenantDirectory
from bulkhead_trio.testing import CancellationPoint, sweep_cancellations
from bulkhead_trio.testing.tenants import PEPPER, ScriptedTenants
from bulkhead_trio.tiers import says_nothing_of_the_database


@attrs.frozen
class House:
    """A door, whoever comes in by it, and a handler that does as it is told."""

    door: TenantDoor
    tenants: ScriptedTenants
    compartment: Compartment
    breaker: CircuitBreaker
    served: list[str] = attrs.field(factory=list)

    async def handler(self, request: Request, tenant: TenantRecord) -> Response:
        """Take as long, and end so, as the path says."""
        _, how, long = request.path.split("/")
        await trio.sleep(float(long))
        if how == "away":
            raise DatabaseUnavailable("the database is away")
        if how == "missing":
            raise NotFound("nothing")
        self.served.append(tenant.id)
        return Response.json({"tenant": tenant.id})

    async def ask(self, key: str | None, path: str = "/well/0", **headers: str) -> Response:
        return await answer(self.door.around(self.handler), make_request(key, path, **headers))


def make_request(key: str | None, path: str = "/well/0", **headers: str) -> Request:
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    if key is not None:
        fields.append((b"x-api-key", key.encode()))
    return Request("GET", path, b"", Headers(fields), target=path, notes={})


@asynccontextmanager
async def house(
    *, workers: int = 1, places: int = 2, timeout: float = 10.0
) -> AsyncIterator[House]:
    tenants = ScriptedTenants()
    guard = ApiKeyGuard(is_required=False, directory=TenantDirectory(tenants, PEPPER))
    queue: FairQueue[object] = FairQueue(places, reserved_share=0, makes_room=True)
    compartment = Compartment("deliveries", workers=workers, queue=queue)  # type: ignore[arg-type]
    breaker = CircuitBreaker(
        "deliveries",
        window=Consecutive(2),
        wait_in_open=15,
        ignore=says_nothing_of_the_database,
    )
    door = TenantDoor(guard, compartment, breaker, timeout=timeout)
    async with trio.open_nursery() as nursery:
        await nursery.start(compartment.run)
        yield House(door, tenants, compartment, breaker)
        nursery.cancel_scope.cancel()


def code_of(response: Response) -> tuple[int, str]:
    """The status, and the error's code."""
    return response.status, msgspec.json.decode(response.body)["code"]


async def test_key_is_asked_for_whatever_the_guard_lets_pass(autojump_clock: MockClock) -> None:
    """401 without one, 403 for a wrong one and for one of a tenant that is switched off."""
    async with house() as here:
        key, tenant = here.tenants.add()
        assert code_of(await here.ask(None)) == (401, "api_key_missing")
        assert code_of(await here.ask("nobody's")) == (403, "api_key_invalid")
        assert (await here.ask(key)).status == 200
        here.tenants.change(tenant.id, active=False)
        await trio.sleep(6)
        assert code_of(await here.ask(key)) == (403, "tenant_inactive")
        assert here.served == [tenant.id]


async def test_request_is_known_to_be_the_tenants(autojump_clock: MockClock) -> None:
    """To its log line, and to whatever it waits in."""
    seen: list[str | None] = []

    async with house() as here:
        key, tenant = here.tenants.add()

        async def handler(request: Request, tenant: TenantRecord) -> Response:
            context = current_request()
            seen.append(None if context is None else context.tenant)
            return Response(204, b"")

        request = make_request(key)
        assert (await answer(here.door.around(handler), request)).status == 204
    assert seen == [tenant.id]
    assert request.notes["tenant"] == tenant.id


async def test_full_door_refuses_and_nobody_is_forgotten(autojump_clock: MockClock) -> None:
    """One runs, two wait, one more is sent away; and afterwards all places are free."""
    async with house() as here:
        key, _ = here.tenants.add()
        await here.ask(key)
        answers: list[tuple[int, str]] = []

        async def ask() -> None:
            response = await here.ask(key, "/well/1")
            answers.append((response.status, ""))
            if response.status != 200:
                answers[-1] = code_of(response)

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(ask)
        assert sorted(answers) == [(200, "")] * 3 + [(503, "bulkhead_full")]
        statistics = here.compartment.statistics()
        assert (statistics.active, statistics.queued) == (0, 0)


async def test_greedy_tenant_leaves_room_for_another(autojump_clock: MockClock) -> None:
    """Its newest place in the line goes to whoever has fewer."""
    async with house() as here:
        greedy, _ = here.tenants.add()
        modest, tenant = here.tenants.add()
        for key in (greedy, modest):
            await here.ask(key)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(here.ask, greedy, "/well/1")
            await trio.sleep(0.5)
            assert (await here.ask(modest)).status == 200
            nursery.cancel_scope.cancel()
        assert here.served[-1] == tenant.id


async def test_database_that_is_away_opens_the_breaker(autojump_clock: MockClock) -> None:
    """After that nothing is tried, until a probe finds it well; mistakes of callers say nothing."""
    async with house() as here:
        key, _ = here.tenants.add()
        assert code_of(await here.ask(key, "/away/0")) == (503, "database_unavailable")
        assert code_of(await here.ask(key, "/missing/0")) == (404, "not_found")
        assert code_of(await here.ask(key, "/away/0")) == (503, "database_unavailable")
        refused = await here.ask(key)
        assert code_of(refused) == (503, "circuit_open")
        assert (b"retry-after", b"15") in refused.headers
        await trio.sleep(15)
        assert (await here.ask(key)).status == 200
        assert (await here.ask(key)).status == 200


async def test_hanging_database_counts_and_a_hurried_caller_does_not(
    autojump_clock: MockClock,
) -> None:
    """504 for both; only a database that had its time opens the breaker."""
    async with house() as here:
        key, _ = here.tenants.add()
        for _ in range(3):
            answered = await here.ask(key, "/well/100", x_request_timeout="0.5")
            assert code_of(answered) == (504, "deadline_exceeded")
        for _ in range(2):
            assert code_of(await here.ask(key, "/well/100")) == (504, "deadline_exceeded")
        assert code_of(await here.ask(key)) == (503, "circuit_open")


async def test_wait_in_the_line_does_not_count_as_the_databases(autojump_clock: MockClock) -> None:
    """The deadline holds in the line, and what ends there says nothing of the database."""
    async with house(places=8) as here:
        key, _ = here.tenants.add()
        await here.ask(key)

        async def ask(results: list[tuple[int, str]]) -> None:
            results.append(code_of(await here.ask(key, "/well/9", x_request_timeout="5")))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.ask, key, "/well/9.5")
            await trio.sleep(0.1)
            results: list[tuple[int, str]] = []
            for _ in range(3):
                nursery.start_soon(ask, results)
            await trio.sleep(6)
            assert results == [(504, "deadline_exceeded")] * 3
        assert here.breaker.statistics().failures == 0


async def test_request_timeout_that_is_none_is_refused(autojump_clock: MockClock) -> None:
    """400, before anything is waited for."""
    async with house() as here:
        key, _ = here.tenants.add()
        answered = await here.ask(key, x_request_timeout="soon")
        assert code_of(answered) == (400, "invalid_header")


async def test_everything_is_given_back_wherever_a_client_goes(autojump_clock: MockClock) -> None:
    """Cancelled at every checkpoint, in the line and inside: no place stays taken."""

    async def scenario(point: CancellationPoint) -> None:
        async with house() as here:
            key, _ = here.tenants.add()
            other, _ = here.tenants.add()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(here.ask, other, "/well/1")
                await trio.sleep(0.5)
                with point:
                    await here.ask(key, "/well/1")
            statistics = here.compartment.statistics()
            assert (statistics.active, statistics.queued) == (0, 0)
            assert here.breaker.statistics().failures == 0
            assert (await here.ask(key)).status == 200

    assert await sweep_cancellations(scenario) >= 3


async def test_refusal_by_a_part_of_the_quota_says_so(autojump_clock: MockClock) -> None:
    """The number is the process's own; whoever reads it as the whole would send too little."""
    async with house() as here:
        key, _ = here.tenants.add()
        for parts, words in (
            (1, "Your tenant may send 2 events per 4 s."),
            (
                2,
                "Your tenant may send 2 events per 4 s to the process that answers, which has one"
                " of 2 parts of its quota.",
            ),
        ):
            limiter = KeyedRateLimiter(TokenBucket(rate=0.5, capacity=2))
            handler = spending(here.door, EventQuota(limiter, parts=parts), here.handler)
            for _ in range(3):
                refused = await answer(handler, make_request(key))
            assert json.loads(refused.body)["detail"] == words


@pytest.mark.parametrize("is_known", [True, False])
async def test_quota_is_a_tenants_own_and_told_on_every_answer(
    autojump_clock: MockClock, is_known: bool
) -> None:
    """Used up, it refuses with how long to wait; another tenant has its own; exempt ones pass."""
    async with house() as here:
        key, _ = here.tenants.add()
        other, _ = here.tenants.add()
        free, exempt = here.tenants.add()
        limiter = KeyedRateLimiter(TokenBucket(rate=0.5, capacity=2), exempt=[exempt.id])
        handler = spending(here.door, EventQuota(limiter), here.handler)
        if is_known:
            for each in (key, other, free):
                await here.ask(each)
        for left in (b"1", b"0"):
            response = await answer(handler, make_request(key))
            assert response.status == 200
            assert (b"x-ratelimit-remaining", left) in response.headers
        refused = await answer(handler, make_request(key))
        assert code_of(refused) == (429, "rate_limited")
        headers = dict(refused.headers)
        assert headers[b"retry-after"] == b"2"
        assert headers[b"ratelimit-policy"] == b'"events";q=2;w=4'
        assert (await answer(handler, make_request(other))).status == 200
        for _ in range(5):
            assert (await answer(handler, make_request(free))).status == 200
        missing = await answer(handler, make_request(other, "/missing/0"))
        assert code_of(missing) == (404, "not_found")
        assert (b"x-ratelimit-limit", b"2") in missing.headers
        await trio.sleep(2)
        assert (await answer(handler, make_request(key))).status == 200
        assert code_of(await answer(handler, make_request(None))) == (401, "api_key_missing")
