"""What a server of several processes says of its tiers, and that the description knows it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bulkhead_trio.api.admin import AdminGuard
from bulkhead_trio.api.messages import Headers, Request
from bulkhead_trio.api.metrics import MetricsResource
from bulkhead_trio.observe.gateway_snapshots import GatewaySnapshot, RouteSnapshot
from bulkhead_trio.observe.snapshots import (
    BreakerSnapshot,
    Census,
    ProcessSnapshot,
    RateLimitSnapshot,
    TierSnapshot,
)

from ._schema import check
from ._world import ADMIN_KEY, DOCUMENT, described


class Taken:
    """A census that has been taken."""

    def __init__(
        self, workers: int, *tiers: TierSnapshot, gateway: GatewaySnapshot | None = None
    ) -> None:
        processes = (
            ProcessSnapshot(worker=number, tiers={"free": tier}, gateway=gateway)
            for number, tier in enumerate(tiers)
        )
        self._census = Census(workers, tuple(processes))

    async def take(self) -> Census:
        return self._census


PARTS = (
    TierSnapshot(
        workers=5,
        places=10,
        connections_max=3,
        rate_limit=RateLimitSnapshot(50, 20, 60.0),
        outcomes={"ok": 30, "rate_limited": 2},
        latency={10: 30},
    ),
    TierSnapshot(
        workers=6,
        places=11,
        connections_max=2,
        breaker=BreakerSnapshot("OPEN", failures=5, retry_after=7.5, opened=1),
        rate_limit=RateLimitSnapshot(51, 51, 60.0),
        outcomes={"ok": 1, "circuit_open": 4},
        latency={400: 1},
    ),
)


async def bulkheads(census: Taken) -> Any:
    resource = resource_of(census)
    answer = await resource.bulkheads(Request("GET", "/metrics/bulkheads", b"", Headers([])))
    return json.loads(answer.body)


def resource_of(census: Taken) -> MetricsResource:
    return MetricsResource(census, AdminGuard(ADMIN_KEY, is_public=True), reasons=())


async def prometheus(census: Taken) -> dict[tuple[str, ...], float]:
    answer = await resource_of(census).prometheus(Request("GET", "/metrics", b"", Headers([])))
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


async def test_tier_of_several_processes_is_their_sum_and_shows_its_parts() -> None:
    """The members of one process, added up, and beside them who has how much."""
    members = await bulkheads(Taken(2, *PARTS))
    (content,) = described("/metrics/bulkheads", 200)["content"].values()
    check(DOCUMENT, content["schema"], members)
    free = members["free"]
    assert free["connectionPool"]["max"] == 5
    assert free["threadPool"]["poolSize"] == 11
    assert free["circuitBreaker"] == {"state": "OPEN", "failures": 5, "retryAfter": 7.5}
    assert free["rateLimit"] == {"limit": 101, "remaining": 71, "windowSeconds": 60}
    assert free["outcomes"] == {"ok": 31, "rate_limited": 2, "circuit_open": 4}
    assert free["latencyMs"]["p50"] < 1 < free["latencyMs"]["p99"]
    assert (free["workers"], free["missing"]) == (2, [])
    assert [part["circuitBreaker"]["state"] for part in free["share"]] == ["CLOSED", "OPEN"]
    assert [part["rateLimit"] for part in free["share"]] == [50, 51]


@pytest.mark.parametrize(("workers", "parts", "missing"), [(3, PARTS, [2]), (2, PARTS[:1], [1])])
async def test_process_that_has_not_answered_is_missing(
    workers: int, parts: tuple[TierSnapshot, ...], missing: list[int]
) -> None:
    """What is said is of those that have, and says so."""
    free = (await bulkheads(Taken(workers, *parts)))["free"]
    assert (free["workers"], free["missing"]) == (workers, missing)
    assert len(free["share"]) == len(parts)


async def test_server_that_is_one_process_has_no_shares() -> None:
    """It says what it always said."""
    free = (await bulkheads(Taken(1, PARTS[0])))["free"]
    assert not {"workers", "missing", "share"} & free.keys()


async def test_gateways_of_all_processes_are_one_in_the_metrics() -> None:
    """Beside the tiers, and counted once; the tiers' own members know nothing of them."""
    gateway = GatewaySnapshot(routes={"r1": RouteSnapshot({"2xx": 3})}, route_count=1)
    with_gateway = Taken(2, *PARTS, gateway=gateway)
    found = await prometheus(with_gateway)
    assert found["bulkhead_gateway_requests_total", "2xx", "r1"] == 6
    assert found["bulkhead_gateway_routes",] == 1
    assert found["bulkhead_requests_total", "ok", "free"] == 31
    assert await bulkheads(with_gateway) == await bulkheads(Taken(2, *PARTS))
    without = await prometheus(Taken(2, *PARTS))
    assert not any(name.startswith("bulkhead_gateway") for name, *_ in without)
