"""Which upstreams get requests: checks, breakers, ejection, and how they share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from bulkhead_trio.testing.upstream import Answer, Rule, Script, ScriptedUpstreamProcess, always

from .._problems import assert_problem
from .._server import wait_until_answered
from ._gateway import Gateway

CHECKS = {
    "enabled": True,
    "endpoint": "/health",
    "intervalMs": 100,
    "timeoutMs": 100,
    "healthyThreshold": 2,
    "unhealthyThreshold": 2,
}
BREAKER = {"enabled": True, "failureThreshold": 3, "successThreshold": 2, "timeout": 500}
SICK = Script(rules=(Rule(path="/health", steps="500"), Rule(steps=(Answer(body="sick"),))))


async def health(gateway: Gateway, route: str) -> Any:
    answer = await gateway.admin("GET", f"/admin/routes/{route}/health")
    assert answer.status == 200, str(answer)
    return answer.json()


def until(gateway: Gateway, route: str, *healthy: bool) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        upstreams = (await health(gateway, route))["upstreams"]
        return [each["healthy"] for each in upstreams] == list(healthy)

    return holds


async def test_sick_upstream_gets_no_requests_until_it_is_well(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, other_upstream: ScriptedUpstreamProcess
) -> None:
    """By its checks alone, and it comes back by itself."""
    tenant = await gateway.tenant()
    route = await gateway.route(
        tenant, upstream.url, other_upstream.url, resilience={"healthCheck": CHECKS}
    )
    await wait_until_answered(until(gateway, route, True, True), "both healthy")
    upstream.play(SICK)
    await wait_until_answered(until(gateway, route, False, True), "the first is sick")
    for _ in range(10):
        assert (await gateway.ask(tenant, "/x")).body != b"sick"
    upstream.play(Script())
    await wait_until_answered(until(gateway, route, True, True), "both healthy again")
    upstream.forget()
    await gateway.statuses(tenant, "/x", 10)
    assert any(request.target == "/x" for request in upstream.seen().requests)


async def test_all_upstreams_sick_is_said(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """An error that says so rather than a guess."""
    tenant = await gateway.tenant()
    route = await gateway.route(tenant, upstream.url, resilience={"healthCheck": CHECKS})
    upstream.play(SICK)
    await wait_until_answered(until(gateway, route, False), "sick")
    assert (await health(gateway, route))["healthy"] is False
    answer = await gateway.ask(tenant, "/x")
    assert answer.status in (502, 503), str(answer)
    assert_problem(answer)
    assert str(upstream.port).encode() not in answer.body


async def test_checks_stop_with_their_route(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """A route that is gone asks nobody any more."""
    tenant = await gateway.tenant()
    route = await gateway.route(tenant, upstream.url, resilience={"healthCheck": CHECKS})

    async def is_checked() -> bool:
        return upstream.seen().count > 2

    await wait_until_answered(is_checked, "checked")
    assert (await gateway.admin("DELETE", f"/admin/routes/{route}")).status == 204
    counts = []

    async def is_quiet() -> bool:
        counts.append(upstream.seen().count)
        return len(counts) > 8 and counts[-1] == counts[-8]

    await wait_until_answered(is_quiet, "no checks", timeout=8)


async def test_open_breaker_refuses_at_once_and_closes_by_probes(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """Three failures open it; while it is open nothing is asked; two good probes close it."""
    tenant = await gateway.tenant()
    route = await gateway.route(tenant, upstream.url, resilience={"circuitBreaker": BREAKER})
    upstream.play(always(Answer(status=500)))
    assert await gateway.statuses(tenant, "/x", 3) == [500] * 3
    began = trio.current_time()
    members = assert_problem(await gateway.ask(tenant, "/x"), 503, "circuit_open")
    assert trio.current_time() - began < 0.3
    assert members["retryAfter"] == 1
    assert upstream.seen().count == 3
    report = (await health(gateway, route))["upstreams"][0]
    assert report["circuitBreaker"]["state"] == "OPEN"
    upstream.play(Script())

    async def is_answered() -> bool:
        return (await gateway.ask(tenant, "/x")).status == 200

    await wait_until_answered(is_answered, "probe passed")
    assert await gateway.statuses(tenant, "/x", 5) == [200] * 5
    report = (await health(gateway, route))["upstreams"][0]
    assert report["circuitBreaker"]["state"] == "CLOSED"


async def test_breaker_of_one_upstream_leaves_the_other(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, other_upstream: ScriptedUpstreamProcess
) -> None:
    """Each has its own; once one is open, all requests are answered by the other."""
    tenant = await gateway.tenant()
    breaker = {**BREAKER, "timeout": 60_000}
    await gateway.route(
        tenant, upstream.url, other_upstream.url, resilience={"circuitBreaker": breaker}
    )
    upstream.play(always(Answer(status=500)))
    statuses = await gateway.statuses(tenant, "/x", 20)
    assert statuses.count(500) == 3
    assert statuses[6:] == [200] * 14


async def test_callers_mistakes_open_no_breaker(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """4xx is the upstream's answer, and a good sign of it."""
    tenant = await gateway.tenant()
    await gateway.route(tenant, upstream.url, resilience={"circuitBreaker": BREAKER})
    upstream.play(always(Answer(status=404)))
    assert await gateway.statuses(tenant, "/x", 10) == [404] * 10


@pytest.mark.parametrize(
    ("balancing", "expected"),
    [("round-robin", (20, 20)), ("weighted", (30, 10))],
)
async def test_requests_are_shared_as_the_route_says(
    gateway: Gateway,
    upstream: ScriptedUpstreamProcess,
    other_upstream: ScriptedUpstreamProcess,
    balancing: str,
    expected: tuple[int, int],
) -> None:
    """Exactly, where the way of sharing is exact."""
    tenant = await gateway.tenant()
    await gateway.route(
        tenant,
        {"url": upstream.url, "weight": 3},
        {"url": other_upstream.url, "weight": 1},
        loadBalancing=balancing,
    )
    assert await gateway.statuses(tenant, "/x", 40) == [200] * 40
    assert (upstream.seen().count, other_upstream.seen().count) == expected


async def test_least_connections_go_where_least_is_under_way(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, other_upstream: ScriptedUpstreamProcess
) -> None:
    """While one holds its requests, the other gets all new ones."""
    tenant = await gateway.tenant()
    await gateway.route(tenant, upstream.url, other_upstream.url, loadBalancing="least-connections")
    upstream.play(Script(rules=(Rule(steps=(Answer(gate="go"),)),)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gateway.ask, tenant, "/x")
        nursery.start_soon(gateway.ask, tenant, "/x")

        async def is_held() -> bool:
            return upstream.seen().in_flight == 1

        await wait_until_answered(is_held, "one request held")
        before = upstream.seen().count
        assert await gateway.statuses(tenant, "/y", 10) == [200] * 10
        assert upstream.seen().count == before
        upstream.open_gate("go")
