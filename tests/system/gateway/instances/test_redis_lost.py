"""Redis killed, or stopped as it stands, under load: what limits do, and how long it takes.

No request waits for a Redis that is away. Beside the load that asks it there is a second one that
does not, in the same processes at the same moments: what both have to wait for is the machine.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio

from bulkhead_trio.testing.redis import RedisServer
from bulkhead_trio.testing.upstream import ScriptedUpstreamProcess

from ..._server import wait_until_answered
from ...conftest import CreateDatabase
from .._gateway import Gateway, Tenant, running_gateway
from ._load import Load, assert_exact, flood, load_of, while_redis_answers

INSTANCES = 2
MODES = ("local", "allow", "deny")

MOST_EXTRA_SECONDS = 0.1
"""That a request may wait because of Redis; one call of it has 0.05 s."""

_log = logging.getLogger(__name__)

ROOMY = {"limit": 1_000_000, "windowSeconds": 1}


@attrs.frozen
class Ground:
    """Instances, what they are to do without Redis, and who tells whether they have it."""

    gateway: Gateway
    mode: str
    redis: RedisServer
    teller: Tenant

    async def has_redis(self) -> bool:
        """Whether every instance counts there: only then is the limit whole and one of it used."""
        for number in range(INSTANCES):
            answer = await self.gateway.ask(self.teller, "/nowhere", instance=number)
            left = answer.header("x-ratelimit-remaining")
            if answer.header("x-ratelimit-limit") != "1000" or left == "1000":
                return False
        return True

    async def until_back(self) -> None:
        """Until all of them use Redis again, by themselves: a second or so after its return."""
        await wait_until_answered(self.has_redis, "Redis is used again", timeout=3.0)


Running = tuple[Gateway, str, RedisServer]


@pytest.fixture(scope="module", params=MODES)
def running(
    request: pytest.FixtureRequest,
    create_database: CreateDatabase,
    make_data_dir: Callable[[], Path],
) -> Iterator[Running]:
    """Two instances that share a Redis, for each value of ``ON_STATE_ERROR``."""
    with (
        RedisServer() as redis,
        running_gateway(
            INSTANCES,
            [make_data_dir() for _ in range(INSTANCES)],
            database=create_database(),
            redis_url=redis.url,
            variables={"ON_STATE_ERROR": request.param},
        ) as gateway,
    ):
        yield gateway, request.param, redis


@pytest.fixture
async def ground(running: Running) -> Ground:
    """Once all of them have Redis."""
    gateway, mode, redis = running
    teller = await gateway.tenant(rateLimit={"limit": 1000, "windowSeconds": 1})
    found = Ground(gateway, mode, redis, teller)
    await found.until_back()
    return found


@asynccontextmanager
async def loads(
    ground: Ground, upstream: ScriptedUpstreamProcess
) -> AsyncIterator[tuple[Load, Load]]:
    """One that asks Redis for every request, and one that never does."""
    limited = await ground.gateway.tenant(rateLimit=ROOMY)
    free = await ground.gateway.tenant()
    for tenant in (limited, free):
        breaker = {"enabled": True}
        await ground.gateway.route(tenant, upstream.url, resilience={"circuitBreaker": breaker})
    async with (
        load_of(ground.gateway, limited, "/x") as asking,
        load_of(ground.gateway, free, "/x") as other,
    ):
        await trio.sleep(0.7)
        yield asking, other


async def all_is_well(load: Load) -> None:
    """Every request of the next moments gets its answer."""
    began = trio.current_time()
    await trio.sleep(0.3)
    assert load.kinds(began) == {(200, "")}


async def is_away(ground: Ground) -> bool:
    return not await ground.has_redis()


KINDS = {
    "local": {(200, "")},
    "allow": {(200, "")},
    "deny": {(503, "state_unavailable")},
}


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_redis_that_goes_costs_nobody_time_and_comes_back(
    ground: Ground,
    upstream: ScriptedUpstreamProcess,
    how: str,
) -> None:
    """Twice in a row, under load: each request is answered as configured, and none waits."""
    redis = ground.redis
    async with loads(ground, upstream) as (asking, other):
        await while_redis_answers(ground.gateway, partial(all_is_well, asking))
        for _ in range(2):
            went = trio.current_time()
            if how == "killed":
                redis.kill()
            else:
                redis.freeze()
            try:
                await wait_until_answered(lambda: is_away(ground), "noticed", timeout=2.0, every=0)
                noticed = trio.current_time()
                await trio.sleep(1.2)
                gone = asking.between(noticed)
                assert len(gone) > 50
                assert {(each.status, each.code) for each in gone} == KINDS[ground.mode]
                at_first = asking.kinds(went, noticed)
                assert at_first <= {(200, "")} | KINDS[ground.mode]
            finally:
                if how == "killed":
                    await trio.to_thread.run_sync(redis.start)
                else:
                    redis.thaw()
            await ground.until_back()
            await while_redis_answers(ground.gateway, partial(all_is_well, asking))
            extra = asking.slowest(went) - max(other.slowest(went), other.usual())
            _log.info("%s, %s: at most %.1f ms more", how, ground.mode, 1000 * extra)
            assert extra <= MOST_EXTRA_SECONDS
        assert other.kinds(0.0) == {(200, "")}


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_limit_without_redis_is_what_was_configured(ground: Ground, how: str) -> None:
    """Divided by the instances, absent, or all of it refused; and exact again afterwards."""
    limit, gateway, redis = 41, ground.gateway, ground.redis
    await assert_exact(gateway, limit)
    tenant = await gateway.tenant(rateLimit={"limit": limit, "windowSeconds": 60})
    redis.kill() if how == "killed" else redis.freeze()
    try:
        await wait_until_answered(lambda: is_away(ground), "noticed", timeout=2.0)
        requests = await flood(gateway, tenant, "/nowhere", limit)
    finally:
        if how == "killed":
            redis.start()
        else:
            redis.thaw()
    by_instance = [
        [each.status for each in requests if each.instance == number] for number in range(INSTANCES)
    ]
    for statuses in by_instance:
        assert len(statuses) == limit
        if ground.mode == "local":
            assert statuses.count(404) == limit // INSTANCES
            assert set(statuses) == {404, 429}
        else:
            assert set(statuses) == ({404} if ground.mode == "allow" else {503})
    if ground.mode == "deny":
        for each in requests:
            assert each.code == "state_unavailable"
            assert each.answer is not None
            assert int(each.answer.header("retry-after") or 0) >= 1
    await ground.until_back()
    await assert_exact(gateway, limit)
