"""``/metrics/deliveries``: all processes together, for those who may look."""

from __future__ import annotations

from typing import Any

import attrs
import msgspec
import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.api.admin import AdminGuard
from bulkhead_trio.api.delivery_metrics import DeliveryMetricsResource
from bulkhead_trio.api.messages import Headers, Request, Response
from bulkhead_trio.api.metrics import MetricsResource
from bulkhead_trio.api.routes import answer
from bulkhead_trio.observe.delivery_snapshots import (
    PIPELINES,
    DeliverySnapshot,
    IntakeSnapshot,
    PipelineSnapshot,
)
from bulkhead_trio.observe.snapshots import Census, ProcessSnapshot

from .._schema import check
from .._world import ADMIN_KEY, DOCUMENT, assert_as_described, make_world, running
from .test_tenant_door import code_of, house

PATH = "/metrics/deliveries"


@attrs.frozen
class Processes:
    """The census of processes with these deliveries."""

    deliveries: tuple[DeliverySnapshot | None, ...]

    async def take(self) -> Census:
        await trio.lowlevel.checkpoint()
        parts = enumerate(self.deliveries)
        return Census(
            len(self.deliveries),
            tuple(ProcessSnapshot(worker=n, tiers={}, deliveries=each) for n, each in parts),
        )


async def ask(*deliveries: DeliverySnapshot | None) -> dict[str, Any]:
    guard = AdminGuard(ADMIN_KEY, is_public=True)
    resource = DeliveryMetricsResource(Processes(deliveries), guard)
    (route,) = resource.routes()
    response = await answer(route.handler, Request("GET", PATH, b"", Headers([])))
    body = decoded(response)
    check(DOCUMENT, {"$ref": "#/components/schemas/DeliveryMetrics"}, body)
    return body


def decoded(response: Response) -> dict[str, Any]:
    assert response.status == 200
    found: dict[str, Any] = msgspec.json.decode(response.body)
    return found


async def test_every_pipeline_is_there_from_the_beginning() -> None:
    """Also while no process has said anything of its deliveries."""
    for parts in ((), (None,), (DeliverySnapshot(),)):
        body = await ask(*parts)
        assert tuple(body) == PIPELINES
        for pipeline in body.values():
            assert pipeline == {
                "maxParallel": 0, "active": 0, "queued": 0, "retrying": 0, "deadLettered": 0,
                "circuitBreaker": {"state": "CLOSED", "closed": 0, "halfOpen": 0, "open": 0},
                "circuitBreakers": {}, "outcomes": {},
            }  # fmt: skip


async def test_processes_are_added_up() -> None:
    """Workers are sums; what is in the one database counts once; the worst breaker is told."""
    one = PipelineSnapshot(
        max_parallel=10, active=3, held=1, waiting=5, retrying=2, dead_lettered=4,
        outcomes={"delivered": 7}, breakers={"CLOSED": 1}, troubled={"smtp": "CLOSED"},
    )  # fmt: skip
    other = PipelineSnapshot(
        max_parallel=10, active=4, held=2, waiting=6, retrying=3, dead_lettered=4,
        outcomes={"delivered": 1, "dead": 2}, breakers={"OPEN": 1}, troubled={"smtp": "OPEN"},
    )  # fmt: skip
    body = await ask(
        DeliverySnapshot({"notifications": one}), DeliverySnapshot({"notifications": other})
    )
    assert body["notifications"] == {
        "maxParallel": 20, "active": 7, "queued": 9, "retrying": 3, "deadLettered": 4,
        "circuitBreaker": {"state": "OPEN", "closed": 1, "halfOpen": 0, "open": 1},
        "circuitBreakers": {"smtp": "OPEN"}, "outcomes": {"delivered": 8, "dead": 2},
    }  # fmt: skip


async def test_prometheus_has_them_too() -> None:
    """Beside the tiers and the gateway; not where there are none."""
    guard = AdminGuard(ADMIN_KEY, is_public=True)
    deliveries = DeliverySnapshot({"webhooks": PipelineSnapshot(active=3)})
    for parts, is_there in (((deliveries,), True), ((None,), False)):
        resource = MetricsResource(Processes(parts), guard, reasons=())
        response = await resource.prometheus(Request("GET", "/metrics", b"", Headers([])))
        line = b'bulkhead_delivery_active{pipeline="webhooks"} 3.0\n'
        assert (line in response.body) is is_there


@pytest.mark.parametrize("is_public", [True, False])
async def test_metrics_ask_for_the_admin_key_where_configuration_says_so(
    autojump_clock: MockClock, is_public: bool
) -> None:
    """As the other metrics do; whoever reaches the admin listener may look."""
    world = make_world(is_public=is_public)
    async with running(world) as client:
        without = await client.get(PATH)
        assert without.status == (200 if is_public else 401)
        wrong = await client.get(PATH, {"x-admin-key": "wrong"})
        assert wrong.status == (200 if is_public else 403)
        right = await client.get(PATH, {"x-admin-key": ADMIN_KEY})
        inside = await world.client("admin").get(PATH)
        assert (right.status, inside.status) == (200, 200)
    for each in (without, wrong, right, inside):
        assert_as_described(PATH, each)


async def test_metrics_answer_while_draining(autojump_clock: MockClock) -> None:
    """It is how an operator sees what is left to do."""
    world = make_world()
    async with running(world) as client:
        world.gate.close()
        assert (await client.get(PATH)).status == 200


async def test_door_tells_what_it_holds(autojump_clock: MockClock) -> None:
    """Beside what is known of the events that came in by it."""
    async with house() as here:
        key, _ = here.tenants.add()
        await here.ask(key)
        for _ in range(2):
            await here.ask(key, "/away/0")
        assert code_of(await here.ask(key)) == (503, "circuit_open")
        told = here.door.intake(IntakeSnapshot(accepted=7, refused=1))
        assert told == IntakeSnapshot(
            workers=1, places=2, refused=1, breaker="OPEN", opened=1, accepted=7
        )
