"""Three instances on one Redis and one PostgreSQL are one gateway."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import pytest
import trio

from bulkhead_trio.testing.redis import RedisServer
from bulkhead_trio.testing.upstream import Answer, Rule, Script, ScriptedUpstreamProcess, always

from ..._database import connected
from ..._server import wait_until, wait_until_answered
from .._gateway import SEEN_SECONDS, Gateway, Tenant
from ..conftest import StartGateway
from ._load import Request, are, assert_exact, load_of, while_redis_answers

INSTANCES = 3

LATE_SECONDS = 0.3
"""Between the end of a time and a request that notices it, which may have been sent before."""

_log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway, redis: RedisServer) -> Gateway:
    """Three instances that share Redis."""
    return start_gateway(INSTANCES, redis_url=redis.url)


# --- limits --------------------------------------------------------------------------------------


async def test_limit_over_three_instances_is_exact(gateway: Gateway) -> None:
    """Of thrice as many requests at once, no more pass than the limit, and none fewer."""
    await assert_exact(gateway, 100)


async def test_limit_holds_in_every_window_under_steady_load(gateway: Gateway) -> None:
    """Two and a half windows of too many requests: three quotas pass, and one in any window."""
    limit, window = 60, 2.0

    async def scenario() -> list[Request]:
        tenant = await gateway.tenant(rateLimit={"limit": limit, "windowSeconds": window})
        async with load_of(gateway, tenant, "/nowhere", clients=4) as load:
            await trio.sleep(2.5 * window)
        assert load.kinds(0.0) == {(404, "route_not_found"), (429, "rate_limited")}
        return [each for each in load.requests if each.status == 404]

    passed = await while_redis_answers(gateway, scenario)
    assert 3 * limit - INSTANCES <= len(passed) <= 3 * limit
    for first in passed:
        # Decided between sending and answer: these were so in one window, whatever the clocks.
        within = [p for p in passed if first.sent <= p.sent and p.ended < first.sent + window]
        assert len(within) <= limit


# --- breakers ------------------------------------------------------------------------------------


async def test_half_open_breaker_has_one_probe_in_all(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """Also one that takes longer than its lease: the upstream gets one request of hundreds."""

    async def scenario() -> None:
        tenant = await gateway.tenant()
        breaker = {"enabled": True, "failureThreshold": 3, "successThreshold": 1, "timeout": 1000}
        await gateway.route(tenant, upstream.url, resilience={"circuitBreaker": breaker})
        upstream.play(always(Answer(status=500)))
        assert await gateway.statuses(tenant, "/x", 3) == [500] * 3
        await wait_until_answered(lambda: are(gateway, tenant, "/x", 503), "open for all")
        upstream.play(Script(rules=(Rule(path="/x", steps=(Answer(gate="go"),)),)))
        upstream.forget()
        async with load_of(gateway, tenant, "/x", clients=4) as load:
            began = trio.current_time()
            await wait_until(lambda: upstream.seen().count == 1, "the probe")
            await trio.sleep(3.5)
            held = load.between(began + 0.3)
            assert len(held) > 100
            assert {each.instance for each in held} == set(range(INSTANCES))
            assert {(each.status, each.code) for each in held} == {(503, "circuit_open")}
            assert upstream.seen().count == 1
            upstream.open_gate("go")
            await wait_until_answered(
                lambda: are(gateway, tenant, "/x", 200), "closed for all", timeout=SEEN_SECONDS
            )

    await while_redis_answers(gateway, scenario)


# --- health --------------------------------------------------------------------------------------


async def test_upstreams_are_checked_by_one_instance_each(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """As often as by a single one; and what it finds, all of them heed."""
    interval, seconds, routes = 0.2, 3.0, 6

    async def scenario() -> None:
        upstream.play(Script())
        tenant = await gateway.tenant()
        for number in range(routes):
            check = {
                "enabled": True, "endpoint": f"/health/{number}",
                "intervalMs": int(interval * 1000), "timeoutMs": 1000,
                "healthyThreshold": 1, "unhealthyThreshold": 2,
            }  # fmt: skip
            await gateway.route(
                tenant, upstream.url, path=f"/{number}", resilience={"healthCheck": check}
            )
        await trio.sleep(1.2)  # until each was checked for the first time
        upstream.forget()
        await trio.sleep(seconds)
        targets = [each.target for each in upstream.seen().requests]
        for number in range(routes):
            # An interval is up to a tenth shorter; three instances would make three times as many.
            checks = targets.count(f"/health/{number}")
            assert seconds / interval / 2 <= checks <= seconds / interval / 0.9 + 2
        upstream.play(always(Answer(status=500), path="/health/*"))

        async def is_down() -> bool:
            answers = [
                await gateway.ask(tenant, f"/{number}", instance=instance)
                for number in range(routes)
                for instance in range(INSTANCES)
            ]
            return all(answer.status == 502 for answer in answers)

        await wait_until_answered(is_down, "down for all")

    await while_redis_answers(gateway, scenario)


# --- changes -------------------------------------------------------------------------------------

Change = Callable[[], Awaitable[None]]


async def seen_after(
    gateway: Gateway, tenant: Tenant, change: Change, status: int, target: str = "/x"
) -> float:
    """Seconds from a change until the last instance, under load, answers with ``status``."""
    async with load_of(gateway, tenant, target, clients=1) as load:
        await trio.sleep(0.3)
        await change()
        changed = trio.current_time()
        missing = set(range(INSTANCES))
        while missing:
            assert trio.current_time() < changed + 2 * SEEN_SECONDS, f"not seen by {missing}"
            await trio.sleep(0.02)
            missing -= {e.instance for e in load.between(changed) if e.status == status}
        done = trio.current_time()
        await trio.sleep(0.3)
        assert {each.status for each in load.between(done)} == {status}, "seen, and then not"
    return done - changed


@pytest.mark.parametrize("is_told", [True, False], ids=["told", "not told"])
async def test_changes_are_seen_by_all_instances(
    gateway: Gateway,
    upstream: ScriptedUpstreamProcess,
    other_upstream: ScriptedUpstreamProcess,
    is_told: bool,
) -> None:
    """Within five seconds, also where PostgreSQL has just cut off everybody who listened."""
    other_upstream.play(always(Answer(status=202)))
    tenant = await gateway.tenant()
    route = await gateway.route(tenant, upstream.url)
    made = (await gateway.admin("POST", f"/admin/tenants/{tenant.id}/keys")).json()
    second = Tenant(tenant.id, made["apiKey"])

    def prepared(change: Change) -> Change:
        async def make() -> None:
            if not is_told:
                cut_off_listeners(gateway)
            await change()

        return make

    async def move() -> None:
        await gateway.change(f"/admin/routes/{route}", {"upstreams": [{"url": other_upstream.url}]})

    async def revoke() -> None:
        path = f"/admin/tenants/{tenant.id}/keys/{made['id']}"
        assert (await gateway.admin("DELETE", path)).status == 204

    async def switch_off() -> None:
        await gateway.change(f"/admin/tenants/{tenant.id}", {"active": False})

    for name, who, change, status in (
        ("route", tenant, move, 202),
        ("key", second, revoke, 403),
        ("tenant", tenant, switch_off, 403),
    ):
        seconds = await seen_after(gateway, who, prepared(change), status)
        _log.info("the last instance saw the change of the %s after %.3f s", name, seconds)
        # What was read just before a change that nobody is told of is right for all of the time.
        assert seconds < SEEN_SECONDS + (0.0 if is_told else LATE_SECONDS)


def cut_off_listeners(gateway: Gateway) -> None:
    """End the connections on which instances hear of changes."""
    database = gateway.servers[0].database
    assert database is not None
    with connected(database) as connection:
        rows = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'bulkhead-trio/changes'"
        ).fetchall()
    assert len(rows) == len(gateway.servers)
