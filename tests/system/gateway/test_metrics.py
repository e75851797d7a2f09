"""What the gateway says of itself: `/metrics`, and a line a request in the log."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bulkhead_trio.testing.redis import RedisServer
from bulkhead_trio.testing.upstream import (
    Answer,
    Rule,
    Script,
    ScriptedUpstreamProcess,
    always,
)

from .._client import ask
from .._server import bulkheads, free_port, wait_until
from ._gateway import Gateway, Tenant
from .conftest import StartGateway

RETRY = {"enabled": True, "maxRetries": 2, "baseDelayMs": 10, "maxDelayMs": 20}
BREAKER = {"enabled": True, "failureThreshold": 3, "successThreshold": 1, "timeout": 60_000}
FALLBACK = {"enabled": True, "statusCode": 200, "contentType": "text/plain", "body": "later"}


async def scrape(gateway: Gateway) -> dict[tuple[str, ...], float]:
    """The gateway's samples, read by Prometheus's own parser: name, values by label's name."""
    answer = await ask(gateway.addresses[0], "/metrics")
    assert answer.status == 200
    return {
        (sample.name.removeprefix("bulkhead_gateway_"), *_values(sample.labels)): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
        if family.name.startswith("bulkhead_gateway_")
    }


def _values(labels: dict[str, str]) -> list[str]:
    return [value for _, value in sorted(labels.items())]


def label_of(url: str) -> str:
    """What stands for an upstream's URL."""
    return hashlib.sha256(url.encode()).hexdigest()[:8]


async def lines_of(gateway: Gateway, tenant: Tenant, route: str, count: int) -> list[Any]:
    """The lines of a route's requests, once so many are there."""

    def lines() -> list[Any]:
        output = gateway.servers[0].output
        found = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        return [each for each in found if each["event"] == "request" and each.get("route") == route]

    await wait_until(lambda: len(lines()) >= count, "lines written")
    assert tenant.key not in gateway.servers[0].output
    return lines()


async def test_traffic_is_in_the_metrics_and_in_the_log(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """By route and upstream; whose time it was; what was done about failures."""
    tenant = await gateway.tenant()
    route = await gateway.route(tenant, upstream.url, path="/r", resilience={"retry": RETRY})
    label = label_of(upstream.url)
    slow, bad = Answer(head_seconds=0.2), Answer(status=503)
    upstream.play(Script(rules=(Rule(steps=(slow, bad, slow), then="last"),)))
    assert await gateway.statuses(tenant, "/r/x?token=secret", 2) == [200, 200]
    assert (await gateway.ask(tenant, "/nowhere")).status == 404
    found = await scrape(gateway)
    assert found["requests_total", "2xx", route] == 2
    assert found["requests_total", "route_not_found", "none"] >= 1
    assert found["upstream_requests_total", "2xx", route, label] == 2
    assert found["upstream_requests_total", "5xx", route, label] == 1
    assert found["retries_total", route] == 1
    assert 0.4 < found["upstream_duration_seconds_sum", route, label] < 2
    assert 0 < found["own_duration_seconds_sum", route] < 0.3
    assert found["own_duration_seconds_count", route] == 2
    assert found["upstream_duration_seconds_bucket", "+Inf", route, label] == 3
    assert found["upstream_up", route, label] == 1
    assert found["upstream_in_flight", route, label] == 0
    assert found["changes_listening",] == 1
    assert found["changes_age_seconds",] < 5
    assert found["key_lookups_total", "asked"] >= 1
    assert found["client_connections", "idle"] >= 1
    assert not any(name.startswith("redis") for name, *_ in found)

    first, second = await lines_of(gateway, tenant, route, 2)
    assert (first["upstream"], first["tries"], second["tries"]) == (label, 1, 2)
    assert (first["tenant"], first["tier"], first["path"]) == (tenant.id, "enterprise", "/r/x")
    assert 200 <= first["upstream_ms"] < first["duration_ms"]
    assert 0 < first["gateway_ms"] < 150
    assert "secret" not in gateway.servers[0].output


async def test_failing_upstream_is_in_the_metrics(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """Its breaker, and what was answered in its place."""
    tenant = await gateway.tenant()
    resilience = {"circuitBreaker": BREAKER, "fallback": FALLBACK}
    route = await gateway.route(tenant, upstream.url, path="/r", resilience=resilience)
    label = label_of(upstream.url)
    upstream.play(always(Answer(status=500)))
    assert await gateway.statuses(tenant, "/r", 4) == [200] * 4
    found = await scrape(gateway)
    assert found["requests_total", "2xx", route] == 4
    assert found["fallbacks_total", "answer", route] == 4
    assert found["upstream_requests_total", "5xx", route, label] == 3
    assert found["upstream_breaker_state", route, "open", label] == 1
    assert found["upstream_breaker_state", route, "closed", label] == 0
    lines = await lines_of(gateway, tenant, route, 4)
    assert [line["fallback"] for line in lines] == ["answer"] * 4


async def test_upstream_that_is_ejected_is_down_and_route_that_is_gone_is_forgotten(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """A route's numbers are there as long as it is."""
    tenant = await gateway.tenant()
    nobody = f"http://127.0.0.1:{free_port()}"
    resilience = {"ejection": {"enabled": True, "consecutiveFailures": 2}}
    route = await gateway.route(tenant, nobody, upstream.url, path="/r", resilience=resilience)
    statuses = await gateway.statuses(tenant, "/r", 8)
    assert statuses.count(502) == 2
    found = await scrape(gateway)
    assert found["upstream_up", route, label_of(nobody)] == 0
    assert found["upstream_ejections_total", route, label_of(nobody)] == 1
    assert found["upstream_up", route, label_of(upstream.url)] == 1
    assert found["upstreams", "down"] >= 1
    assert (await gateway.admin("DELETE", f"/admin/routes/{route}")).status == 204
    await gateway.settle()
    assert not any(route in labels for _, *labels in await scrape(gateway))


async def test_numbers_of_several_processes_add_up(
    start_gateway: StartGateway, upstream: ScriptedUpstreamProcess
) -> None:
    """Whoever served a request, whichever is asked; the tiers' members are what they were."""
    gateway = start_gateway(variables={"WORKERS": "2"})
    tenant = await gateway.tenant(rateLimit={"limit": 1000, "windowSeconds": 60})
    route = await gateway.route(tenant, upstream.url, path="/r")
    answers = await gateway.at_once(tenant, "/r", 40)
    assert [answer.status for answer in answers] == [200] * 40
    for _ in range(4):
        found = await scrape(gateway)
        assert found["requests_total", "2xx", route] == 40
        assert found["upstream_requests_total", "2xx", route, label_of(upstream.url)] == 40
        assert found["tenant_limit_decisions_total", "allowed"] >= 40
    members = (await bulkheads(gateway.servers[0]))["enterprise"]
    assert members.keys() == {
        "connectionPool", "threadPool", "circuitBreaker", "rateLimit", "rejected", "outcomes",
        "latencyMs", "workers", "missing", "share",
    }  # fmt: skip


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A Redis that may be killed."""
    with RedisServer() as server:
        yield server


async def test_redis_is_in_the_metrics(start_gateway: StartGateway, redis: RedisServer) -> None:
    """What was asked of it, who shares it, and what was decided without it."""
    gateway = start_gateway(redis_url=redis.url)
    tenant = await gateway.tenant(rateLimit={"limit": 5, "windowSeconds": 60})
    assert (await gateway.statuses(tenant, "/nowhere", 7)).count(429) == 2
    found = await scrape(gateway)
    assert (found["redis_up",], found["instances",]) == (1, 1)
    assert found["redis_calls_total",] >= 7
    assert found["tenant_limit_decisions_total", "refused"] == 2
    assert found["tenant_limit_without_redis_total",] == 0
    redis.kill()
    assert (await gateway.ask(tenant, "/nowhere")).status in (404, 429)
    found = await scrape(gateway)
    assert found["redis_up",] == 0
    assert found["tenant_limit_without_redis_total",] == 1
