"""Two instances on one PostgreSQL and one Redis: a change on one is a change on both."""

from __future__ import annotations

import pytest

from bulkhead_trio.testing.upstream import Answer, ScriptedUpstreamProcess, always

from .._server import wait_until_answered
from ._gateway import SEEN_SECONDS, Gateway, Tenant
from ._redis import RedisServer
from .conftest import StartGateway

INSTANCES = 2


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway, redis_server: RedisServer) -> Gateway:
    """Two instances that share Redis."""
    return start_gateway(INSTANCES, redis_url=redis_server.url)


async def test_route_is_changed_everywhere(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, other_upstream: ScriptedUpstreamProcess
) -> None:
    """Made, moved and deleted by one, within five seconds for the other."""
    tenant = await gateway.tenant()
    other_upstream.play(always(Answer(status=202)))
    route = await gateway.route(tenant, upstream.url, path="/a", until_seen=False)
    for number, status in enumerate((200, 202, 404)):
        if number == 1:
            changes = {"upstreams": [{"url": other_upstream.url}]}
            await gateway.change(f"/admin/routes/{route}", changes)
        elif number == 2:
            assert (await gateway.admin("DELETE", f"/admin/routes/{route}")).status == 204
        for instance in range(INSTANCES):

            async def is_so(instance: int = instance, status: int = status) -> bool:
                return (await gateway.ask(tenant, "/a", instance=instance)).status == status

            await wait_until_answered(is_so, f"{status} of {instance}", timeout=SEEN_SECONDS)


async def test_key_is_revoked_everywhere(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """Though the other instance had just let it in."""
    tenant = await gateway.tenant()
    await gateway.route(tenant, upstream.url)
    made = (await gateway.admin("POST", f"/admin/tenants/{tenant.id}/keys")).json()
    second = Tenant(tenant.id, made["apiKey"])
    for instance in range(INSTANCES):
        assert (await gateway.ask(second, "/x", instance=instance)).status == 200
    await gateway.admin("DELETE", f"/admin/tenants/{tenant.id}/keys/{made['id']}")
    for instance in range(INSTANCES):

        async def is_refused(instance: int = instance) -> bool:
            return (await gateway.ask(second, "/x", instance=instance)).status == 403

        await wait_until_answered(is_refused, f"refused by {instance}", timeout=SEEN_SECONDS)


async def test_limit_is_one_for_all_instances(gateway: Gateway) -> None:
    """No more than the limit, no fewer than the limit less the number of instances."""
    limit = 50
    tenant = await gateway.tenant(rateLimit={"limit": limit, "windowSeconds": 60})
    answers = await gateway.at_once(tenant, "/nowhere", 2 * limit)
    passed = [answer.status for answer in answers].count(404)
    assert limit - INSTANCES <= passed <= limit
    assert len(answers) - passed == [answer.status for answer in answers].count(429)


async def test_breaker_is_one_for_all_instances(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """Failures seen by one open it for the other."""
    tenant = await gateway.tenant()
    breaker = {"enabled": True, "failureThreshold": 3, "successThreshold": 1, "timeout": 60_000}
    await gateway.route(tenant, upstream.url, resilience={"circuitBreaker": breaker})
    upstream.play(always(Answer(status=500)))
    for _ in range(3):
        await gateway.ask(tenant, "/x", instance=0)

    async def is_open() -> bool:
        return (await gateway.ask(tenant, "/x", instance=1)).status == 503

    await wait_until_answered(is_open, "open for the other", timeout=SEEN_SECONDS)
    assert upstream.seen().count <= 3 + INSTANCES
