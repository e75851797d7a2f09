"""Two instances on a Redis Cluster of three nodes."""

from __future__ import annotations

import pytest

from bulkhead_trio.testing.redis import RedisServer
from bulkhead_trio.testing.upstream import Answer, ScriptedUpstreamProcess, always

from ..._server import wait_until_answered
from ...state.test_redis_cluster import cluster, ready_cluster  # noqa: F401  fixtures
from .._gateway import SEEN_SECONDS, Gateway
from ..conftest import StartGateway
from ._load import are, assert_exact

INSTANCES = 2
TENANTS = 12
"""So many are on one and the same node of three once in 177,147 runs."""


@pytest.fixture
async def gateway(
    start_gateway: StartGateway,
    ready_cluster: list[RedisServer],  # noqa: F811
) -> Gateway:
    """Two instances that were told of one node."""
    return start_gateway(INSTANCES, redis_url=ready_cluster[0].url)


async def test_gateway_on_a_cluster_shares_limits_and_breakers(
    gateway: Gateway,
    upstream: ScriptedUpstreamProcess,
    ready_cluster: list[RedisServer],  # noqa: F811
) -> None:
    """Exact for tenants on whichever node; and what one instance finds, the other heeds."""
    for _ in range(TENANTS):
        await assert_exact(gateway, 30)
    nodes = [node.command("KEYS", "ratelimit:*") for node in ready_cluster]
    assert sum(b"ratelimit:" in found for found in nodes) > 1, "all tenants are on one node"
    tenant = await gateway.tenant()
    breaker = {"enabled": True, "failureThreshold": 3, "successThreshold": 1, "timeout": 1000}
    await gateway.route(tenant, upstream.url, resilience={"circuitBreaker": breaker})
    upstream.play(always(Answer(status=500)))
    assert await gateway.statuses(tenant, "/x", 3) == [500] * 3
    await wait_until_answered(lambda: are(gateway, tenant, "/x", 503), "open for both")
    upstream.play(always(Answer(status=200)))
    await wait_until_answered(
        lambda: are(gateway, tenant, "/x", 200), "closed for both", timeout=SEEN_SECONDS
    )
