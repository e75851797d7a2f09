"""``/metrics/deliveries``: how each stage of the deliveries is doing, for people and scripts."""

from __future__ import annotations

from typing import Any

from bulkhead_trio.api.admin import AdminGuard
from bulkhead_trio.api.messages import Request, Response
from bulkhead_trio.api.routes import Route
from bulkhead_trio.observe._delivery_totals_rules import total_deliveries, worst_state
from bulkhead_trio.observe.delivery_snapshots import PIPELINES, PipelineSnapshot
from bulkhead_trio.observe.snapshots import CensusTaker


class DeliveryMetricsResource:
    """Answers for all processes of the server; asks no database.

    Args:
        census: takes everybody's numbers.
        guard: who may look.
    """

    name = "delivery_metrics"

    def __init__(self, census: CensusTaker, guard: AdminGuard) -> None:
        self._census = census
        self._guard = guard

    def routes(self) -> tuple[Route, ...]:
        """The one."""
        around = self._guard.around
        return (Route("GET", "/metrics/deliveries", around(self.get), is_admin=True),)

    async def get(self, request: Request) -> Response:  # noqa: ARG002
        """One member a pipeline."""
        census = await self._census.take()
        whole = total_deliveries(
            [each.deliveries for each in census.processes if each.deliveries is not None]
        )
        # Every pipeline is there from the beginning, also while none has said anything.
        pipelines = {name: whole.pipelines.get(name, PipelineSnapshot()) for name in PIPELINES}
        return Response.json({name: wire_pipeline(each) for name, each in pipelines.items()})


def wire_pipeline(pipeline: PipelineSnapshot) -> dict[str, Any]:
    """A pipeline's numbers in JSON."""
    breakers = pipeline.breakers
    return {
        "maxParallel": pipeline.max_parallel,
        "active": pipeline.active,
        "queued": pipeline.queued,
        "retrying": pipeline.retrying,
        "deadLettered": pipeline.dead_lettered,
        "circuitBreaker": {
            "state": worst_state(pipeline),
            "closed": breakers.get("CLOSED", 0),
            "halfOpen": breakers.get("HALF_OPEN", 0),
            "open": breakers.get("OPEN", 0),
        },
        "circuitBreakers": dict(pipeline.troubled),
        "outcomes": dict(pipeline.outcomes),
    }
