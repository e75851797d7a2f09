"""``/metrics/bulkheads`` for people and scripts, ``/metrics`` for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import trio

from bulkhead_trio.api.admin import AdminGuard
from bulkhead_trio.api.messages import Request, Response
from bulkhead_trio.api.routes import Route
from bulkhead_trio.observe._totals_rules import total
from bulkhead_trio.observe.delivery_metrics import delivery_exposition
from bulkhead_trio.observe.gateway_metrics import gateway_exposition
from bulkhead_trio.observe.latency import quantiles
from bulkhead_trio.observe.metrics import exposition
from bulkhead_trio.observe.snapshots import BreakerSnapshot, Census, CensusTaker, TierSnapshot

PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"

_DEADLINE_CODES = ("deadline_unreachable", "deadline_exceeded")


class MetricsResource:
    """Answers for all processes of the server; asks nothing that a saturated tier could hold up.

    Args:
        census: takes everybody's numbers.
        guard: who may look.
        reasons: the outcomes that are refusals.
    """

    name = "metrics"

    def __init__(self, census: CensusTaker, guard: AdminGuard, *, reasons: Iterable[str]) -> None:
        self._census = census
        self._guard = guard
        self._reasons = tuple(reasons)

    def routes(self) -> tuple[Route, ...]:
        """Both forms."""
        around = self._guard.around
        return (
            Route("GET", "/metrics/bulkheads", around(self.bulkheads), is_admin=True),
            Route("GET", "/metrics", around(self.prometheus), is_admin=True),
        )

    async def bulkheads(self, request: Request) -> Response:  # noqa: ARG002
        """One member a tier."""
        census = await self._census.take()
        return Response.json(
            {
                name: {**_wire_tier(tier), **_wire_shares(census, name)}
                for name, tier in total(census).tiers.items()
            }
        )

    async def prometheus(self, request: Request) -> Response:  # noqa: ARG002
        """Prometheus's text format."""
        census = await self._census.take()
        pieces = [exposition(census, reasons=self._reasons)]
        deliveries = [each.deliveries for each in census.processes if each.deliveries is not None]
        if deliveries:
            pieces.append(delivery_exposition(deliveries))
        gateways = [each.gateway for each in census.processes if each.gateway is not None]
        if gateways:
            for piece in gateway_exposition(gateways):
                pieces.append(piece)
                await trio.lowlevel.checkpoint()  # there may be many
        return Response(200, b"".join(pieces), content_type=PROMETHEUS_TEXT)


def _wire_tier(tier: TierSnapshot) -> dict[str, Any]:
    limit, outcomes, latency = tier.rate_limit, tier.outcomes, quantiles(tier.latency)
    return {
        "connectionPool": {
            "active": tier.connections_active,
            "idle": tier.connections_idle,
            "pending": tier.connections_pending,
            "max": tier.connections_max,
        },
        "threadPool": {
            "active": tier.active,
            "queued": tier.queued,
            "poolSize": tier.workers,
            "queueSize": tier.places,
        },
        "circuitBreaker": _wire_breaker(tier.breaker),
        "rateLimit": None
        if limit is None
        else {
            "limit": limit.limit,
            "remaining": limit.remaining,
            "windowSeconds": _whole(limit.window),
        },
        "rejected": _wire_rejected(outcomes),
        "outcomes": outcomes,
        "latencyMs": {
            "p50": round(latency.p50 * 1000, 3),
            "p95": round(latency.p95 * 1000, 3),
            "p99": round(latency.p99 * 1000, 3),
        },
    }


def _wire_shares(census: Census, name: str) -> dict[str, Any]:
    """How the tier is divided among the processes; of a server that is one, nothing."""
    if census.workers == 1:
        return {}
    return {
        "workers": census.workers,
        "missing": list(census.missing),
        "share": [
            {
                "worker": number,
                "connections": tier.connections_max,
                "workers": tier.workers,
                "queue": tier.places,
                "rateLimit": None if tier.rate_limit is None else tier.rate_limit.limit,
                "circuitBreaker": _wire_breaker(tier.breaker),
            }
            for number, tier in census.tier(name).items()
        ],
    }


def _wire_breaker(breaker: BreakerSnapshot) -> dict[str, Any]:
    return {
        "state": breaker.state,
        "failures": breaker.failures,
        "retryAfter": round(breaker.retry_after, 3),
    }


def _wire_rejected(outcomes: Mapping[str, int]) -> dict[str, int]:
    return {
        "rate_limited": outcomes.get("rate_limited", 0),
        "bulkhead_full": outcomes.get("bulkhead_full", 0),
        "circuit_open": outcomes.get("circuit_open", 0),
        "deadline": sum(outcomes.get(code, 0) for code in _DEADLINE_CODES),
        "shed": outcomes.get("shed", 0),
    }


def _whole(seconds: float) -> float:
    """Seconds as people write them: without a fraction where there is none."""
    return int(seconds) if seconds == int(seconds) else seconds
