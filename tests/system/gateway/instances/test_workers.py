"""A gateway of two workers: one to its tenants, whether or not there is a Redis."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from bulkhead_trio.testing.redis import RedisServer
from bulkhead_trio.testing.upstream import Answer, ScriptedUpstreamProcess, always

from ..._client import Answer as Answered
from ..._client import ask
from ..._server import Server, wait_until
from ...conftest import CreateDatabase
from .._gateway import SEEN_SECONDS, Gateway, Tenant, running_gateway
from ._load import while_redis_answers

WORKERS = 2
Run = Callable[..., AbstractContextManager[Gateway]]


@pytest.fixture
def run(create_database: CreateDatabase, make_data_dir: Callable[[], Path]) -> Run:
    """Runs one server of two workers: ``run(redis_url=..., variables=...)``."""

    @contextmanager
    def running(redis_url: str | None = None, **variables: str) -> Iterator[Gateway]:
        with running_gateway(
            1,
            [make_data_dir()],
            database=create_database(),
            redis_url=redis_url,
            variables={"WORKERS": str(WORKERS), **variables},
        ) as found:
            yield found

    return running


async def until_serving(server: Server) -> None:
    """Until both do: one of them answers before that."""
    await wait_until(lambda: "Serving on" in server.output, "both serve", timeout=20)


def lines(server: Server) -> list[dict[str, Any]]:
    """What its access log says."""
    found = [json.loads(line) for line in server.output.splitlines() if line.startswith("{")]
    return [line for line in found if line["event"] == "request"]


async def spread(gateway: Gateway, tenant: Tenant, target: str, count: int) -> list[Answered]:
    """What so many requests get, each on a connection of its own: the kernel deals them out."""
    answers: list[Answered] = []

    async def some() -> None:
        for _ in range(count // 10):
            address = gateway.servers[0].address
            answers.append(await ask(address, target, headers=tenant.headers))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(some)
    return answers


async def until_all(gateway: Gateway, tenant: Tenant, target: str, status: int, what: str) -> None:
    """Until forty requests in a row, of which both workers get some, have this status."""
    with trio.move_on_after(SEEN_SECONDS):
        while True:
            answers = await spread(gateway, tenant, target, 40)
            if {answer.status for answer in answers} == {status}:
                return
    raise AssertionError(f"not within {SEEN_SECONDS} s: {what}")


def by_worker(server: Server, path: str) -> dict[int, Counter[int]]:
    """How many requests for a path each worker has answered, by status."""
    found: dict[int, Counter[int]] = {}
    for line in lines(server):
        if line["path"] == path:
            found.setdefault(line["worker"], Counter())[line["status"]] += 1
    return found


def has_answered(server: Server, path: str, count: int) -> bool:
    """Whether the access log has so many requests for a path."""
    return sum(found.total() for found in by_worker(server, path).values()) == count


async def test_limit_without_redis_is_divided_among_the_workers(run: Run) -> None:
    """Together they let exactly the limit pass, each its part; one lets pass all that there is."""
    with run() as gateway:
        (server,) = gateway.servers
        await until_serving(server)
        for limit in (41, 1):
            tenant = await gateway.tenant(rateLimit={"limit": limit, "windowSeconds": 60})
            target = f"/nowhere/{limit}"
            answers = await spread(gateway, tenant, target, 200)
            passed = [answer for answer in answers if answer.status == 404]
            assert {answer.status for answer in answers} == {404, 429}
            await wait_until(partial(has_answered, server, target, 200), "200 lines")
            each = sorted(found[404] for found in by_worker(server, target).values())
            told = {answer.header("x-ratelimit-limit") for answer in answers}
            # A quota below the number of workers: one to each, or some clients would have none.
            assert each == ([20, 21] if limit == 41 else [1, 1])
            assert told == ({"20", "21"} if limit == 41 else {"1"})
            assert len(passed) == sum(each)


async def test_keys_and_routes_are_the_same_for_all_workers(
    run: Run, upstream: ScriptedUpstreamProcess, other_upstream: ScriptedUpstreamProcess
) -> None:
    """Made, moved and revoked by one of them, seen by both."""
    other_upstream.play(always(Answer(status=202)))
    with run() as gateway:
        (server,) = gateway.servers
        await until_serving(server)
        tenant = await gateway.tenant()
        made = (await gateway.admin("POST", f"/admin/tenants/{tenant.id}/keys")).json()
        second = Tenant(tenant.id, made["apiKey"])
        route = await gateway.route(tenant, upstream.url, until_seen=False)
        await until_all(gateway, second, "/x", 200, "the route and the key")
        await gateway.change(f"/admin/routes/{route}", {"upstreams": [{"url": other_upstream.url}]})
        await until_all(gateway, second, "/x", 202, "the route that has moved")
        path = f"/admin/tenants/{tenant.id}/keys/{made['id']}"
        assert (await gateway.admin("DELETE", path)).status == 204
        await until_all(gateway, second, "/x", 403, "the key that is revoked")
        await until_all(gateway, tenant, "/x", 202, "the other key")
        found = by_worker(server, "/x")
        assert set(found) == {0, 1}
        for each in found.values():
            assert min(each[200], each[202], each[403]) > 0


@pytest.mark.parametrize("is_there", [True, False], ids=["there", "never there"])
async def test_limit_with_redis_is_one_for_all_workers(
    run: Run, make_data_dir: Callable[[], Path], is_there: bool
) -> None:
    """Exact over both while it is there; where it has never been, they know how many they are."""
    limit = 40
    with RedisServer() as redis:
        if not is_there:
            redis.kill()
        with run(redis.url) as gateway:
            await until_serving(gateway.servers[0])
            if is_there:
                await until_counted(redis, WORKERS)

            async def scenario() -> None:
                tenant = await gateway.tenant(rateLimit={"limit": limit, "windowSeconds": 60})
                answers = await spread(gateway, tenant, "/nowhere", 200)
                statuses = Counter(answer.status for answer in answers)
                told = {answer.header("x-ratelimit-limit") for answer in answers}
                assert told == {str(limit) if is_there else str(limit // WORKERS)}
                assert limit - WORKERS <= statuses[404] <= limit

            await (while_redis_answers(gateway, scenario) if is_there else scenario())
            if is_there:
                # Once it has gone, each has its part, counted from nothing.
                redis.kill()
                await gone(gateway)
                tenant = await gateway.tenant(rateLimit={"limit": limit, "windowSeconds": 60})
                answers = await spread(gateway, tenant, "/nowhere", 200)
                assert Counter(answer.status for answer in answers)[404] == limit


async def until_counted(redis: RedisServer, count: int) -> None:
    """Until so many instances are known to Redis, and every one of them knows."""
    await wait_until(
        lambda: redis.command("ZCARD", "bulkhead:instances") == b":%d\r\n" % count, "all counted"
    )
    await trio.sleep(0.1)  # for what is published to arrive


async def gone(gateway: Gateway) -> None:
    """Until both workers have noticed that Redis is away: they speak of their part of a limit."""
    tenant = await gateway.tenant(rateLimit={"limit": 1000, "windowSeconds": 1})

    async def are_alone() -> bool:
        answers = await spread(gateway, tenant, "/nowhere", 40)
        return {answer.header("x-ratelimit-limit") for answer in answers} == {"500"}

    await settled(are_alone, "noticed by both")


async def settled(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    """Until it holds."""
    with trio.move_on_after(3):
        while not await holds():
            await trio.sleep(0.02)
        return
    raise AssertionError(f"not within 3 s: {what}")
