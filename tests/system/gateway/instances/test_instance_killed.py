"""An instance that is killed while it holds something for all: others take over in time."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import trio

from bulkhead_trio.state._keys import upstream_key
from bulkhead_trio.testing.redis import RedisServer
from bulkhead_trio.testing.upstream import Answer, Rule, Script, ScriptedUpstreamProcess

from ..._client import open_wire, request_bytes
from ..._server import wait_until, wait_until_answered
from ...conftest import CreateDatabase
from .._gateway import Gateway, running_gateway
from ._load import are, load_of

PROBE_LEASE_SECONDS = 3.0
INTERVAL_SECONDS, TIMEOUT_SECONDS = 0.4, 0.4
TURN_SECONDS = 2 * INTERVAL_SECONDS + TIMEOUT_SECONDS
LATE_SECONDS = 0.5
"""For what is asked at its end, and for a machine that is busy."""

RESILIENCE = {
    "circuitBreaker": {
        "enabled": True, "failureThreshold": 3, "successThreshold": 1, "timeout": 1000,
    },
    "healthCheck": {
        "enabled": True, "endpoint": "/health",
        "intervalMs": int(1000 * INTERVAL_SECONDS), "timeoutMs": int(1000 * TIMEOUT_SECONDS),
    },
}  # fmt: skip

_log = logging.getLogger(__name__)


@pytest.fixture
def first(
    create_database: CreateDatabase, make_data_dir: Callable[[], Path], redis: RedisServer
) -> Iterator[Gateway]:
    """One instance, which is to be killed."""
    with running_gateway(
        1, [make_data_dir()], database=create_database(), redis_url=redis.url
    ) as found:
        yield found


async def test_instance_that_is_killed_leaves_its_probe_and_its_checks_to_others(
    first: Gateway,
    redis: RedisServer,
    upstream: ScriptedUpstreamProcess,
    make_data_dir: Callable[[], Path],
) -> None:
    """The probe when its lease of 3 s ends; the checks an interval after their turn ends."""
    tenant = await first.tenant()
    route = await first.route(tenant, upstream.url, resilience=RESILIENCE)
    await wait_until(lambda: checks_of(upstream) != [], "a check")  # it is the first one's turn
    key = upstream_key("health", (tenant.id, route, upstream.url)).decode()
    turn_of_first = redis.command("HGET", key, "o")
    (server,) = first.servers
    with running_gateway(
        2, [make_data_dir(), make_data_dir()], database=server.database or "", redis_url=redis.url
    ) as others:
        three = Gateway((*first.servers, *others.servers))
        await three.settle()
        assert await three.statuses(tenant, "/x", 1) == [200]
        upstream.play(Script(rules=(Rule(path="/x", steps=(Answer(status=500),)),)))
        assert await three.statuses(tenant, "/x", 3) == [500] * 3
        await wait_until_answered(lambda: are(three, tenant, "/x", 503), "open for all")
        upstream.play(Script(rules=(Rule(path="/x", steps=(Answer(gate="go"),)),)))
        upstream.forget()
        async with open_wire(server.address) as wire:
            await trio.sleep(1.0)  # the cooldown
            await wire.send(request_bytes("/x", headers=tenant.headers))
            await wait_until(lambda: probes_of(upstream) == 1, "the probe of the first")
            async with load_of(others, tenant, "/x") as load:
                await trio.sleep(0.5)
                assert redis.command("HGET", key, "o") == turn_of_first
                assert load.kinds(0.0) == {(503, "circuit_open")}
                killed = trio.current_time()
                server.signal(signal.SIGKILL)
                await server.exit_code()
                most = PROBE_LEASE_SECONDS + LATE_SECONDS
                await wait_until(lambda: probes_of(upstream) > 1, "another probe", timeout=most)
                _log.info("the probe is another's after %.2f s", trio.current_time() - killed)
                await trio.sleep(0.3)
                assert probes_of(upstream) == 2, "one instance probes, and one request"
                upstream.open_gate("go")
                await wait_until_answered(
                    lambda: are(others, tenant, "/x", 200), "closed for the others"
                )
                assert load.kinds(0.0) == {(503, "circuit_open"), (200, "")}
        assert redis.command("HGET", key, "o") != turn_of_first
        moments = checks_of(upstream)
        longest = max(after - before for before, after in pairwise(moments))
        _log.info("there was no check for %.2f s", longest)
        assert longest <= TURN_SECONDS + 1.1 * INTERVAL_SECONDS + LATE_SECONDS


def checks_of(upstream: ScriptedUpstreamProcess) -> list[float]:
    """When it was checked."""
    return [each.at for each in upstream.seen().requests if each.target == "/health"]


def probes_of(upstream: ScriptedUpstreamProcess) -> int:
    """How many requests it has got that are no checks."""
    return sum(each.target != "/health" for each in upstream.seen().requests)
