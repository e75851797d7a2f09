"""PostgreSQL killed under load and started again: who is known is served, and all comes back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from bulkhead_trio.testing.redis import RedisServer
from bulkhead_trio.testing.upstream import Answer, ScriptedUpstreamProcess, always

from ..._server import wait_until_answered
from .._gateway import SEEN_SECONDS, Gateway, Tenant, running_gateway
from ._load import are, load_of
from ._postgres import OwnPostgres

INSTANCES = 2

KNOWN_SECONDS = 4.0
"""That a tenant who was asked for just before is served without the database; it is up to 5."""

BACK_SECONDS = 7.0
"""After its return, until it is used again: a pool that has failed often tries every 5 s."""

_log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def postgres(make_data_dir: Callable[[], Path]) -> Iterator[OwnPostgres]:
    """A PostgreSQL that the tests may kill."""
    with OwnPostgres(make_data_dir() / "postgres") as server:
        yield server


@pytest.fixture(scope="module", params=["with Redis", "without Redis"])
def gateway(
    request: pytest.FixtureRequest,
    postgres: OwnPostgres,
    redis: RedisServer,
    make_data_dir: Callable[[], Path],
) -> Iterator[Gateway]:
    """Two instances on that PostgreSQL."""
    with running_gateway(
        INSTANCES,
        [make_data_dir() for _ in range(INSTANCES)],
        database=postgres.conninfo,
        redis_url=redis.url if request.param == "with Redis" else None,
    ) as found:
        yield found


async def test_postgres_that_is_killed_takes_no_known_tenant_with_it(
    gateway: Gateway,
    upstream: ScriptedUpstreamProcess,
    other_upstream: ScriptedUpstreamProcess,
    postgres: OwnPostgres,
) -> None:
    """Their requests go on for seconds, others get 503; then all is well, changes included."""
    tenant, stranger = await gateway.tenant(), await gateway.tenant()
    route = await gateway.route(tenant, upstream.url)
    await gateway.route(stranger, upstream.url, until_seen=False)
    made = (await gateway.admin("POST", f"/admin/tenants/{tenant.id}/keys")).json()
    fresh = Tenant(tenant.id, made["apiKey"])
    other_upstream.play(always(Answer(status=202)))
    async with load_of(gateway, fresh, "/x") as load:
        await trio.sleep(0.3)
        postgres.kill()
        killed = trio.current_time()
        try:
            await without_postgres(gateway, stranger)
            await trio.sleep_until(killed + KNOWN_SECONDS)
            known = load.between(0.0, killed + KNOWN_SECONDS)
            assert {(each.status, each.code) for each in known} == {(200, "")}
            assert {each.instance for each in known} == set(range(INSTANCES))
            await trio.sleep_until(killed + 7)
            assert load.kinds(killed + 6) == {(503, "database_unavailable")}
        finally:
            await trio.to_thread.run_sync(postgres.start)
        returned = trio.current_time()

        async def is_back() -> bool:
            answers = [
                await gateway.ask(each, "/x", instance=number)
                for each in (tenant, stranger, fresh)
                for number in range(INSTANCES)
            ]
            return {answer.status for answer in answers} == {200}

        await wait_until_answered(is_back, "served again", timeout=BACK_SECONDS)
        back = trio.current_time()
        _log.info("served again %.2f s after the return", back - returned)
        await gateway.change(f"/admin/routes/{route}", {"upstreams": [{"url": other_upstream.url}]})
        changed = trio.current_time()
        await wait_until_answered(
            lambda: are(gateway, fresh, "/x", 202), "the change seen by all", timeout=SEEN_SECONDS
        )
        _log.info("a change is seen %.2f s later", trio.current_time() - changed)
        assert load.kinds(0.0) <= {(200, ""), (202, ""), (503, "database_unavailable")}
        assert {each.code for each in load.between(back)} == {""}
        # Nobody waits for a database that is away: a connection that is refused is refused at once.
        _log.info("the slowest took %.0f ms", 1000 * load.slowest(killed))
        assert load.slowest(killed) < 2.5


async def without_postgres(gateway: Gateway, stranger: Tenant) -> None:
    """What is said to a tenant nobody has asked for yet, to one without a key, and to operators."""
    for number in range(INSTANCES):
        answer = await gateway.ask(stranger, "/x", instance=number)
        assert (answer.status, answer.json()["code"]) == (503, "database_unavailable")
        assert int(answer.header("retry-after") or 0) >= 1
        invented = Tenant("", "bh_" + "A" * 22 + "_" + "B" * 43)
        assert (await gateway.ask(invented, "/x", instance=number)).status in {403, 503}
        answer = await gateway.admin("GET", "/admin/tenants", instance=number)
        assert (answer.status, answer.json()["code"]) == (503, "database_unavailable")
