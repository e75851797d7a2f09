"""``/metrics/bulkheads`` for people and scripts, ``/metrics`` for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bulkhead_trio.api.admin import AdminGuard
from bulkhead_trio.api.messages import Request, Response
from bulkhead_trio.api.routes import Route
from bulkhead_trio.observe.metrics import Metrics
from bulkhead_trio.tiers import Tier, TierStatistics

PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"

_DEADLINE_CODES = ("deadline_unreachable", "deadline_exceeded")


class MetricsResource:
    """Reads every tier's statistics; asks nothing that a saturated tier could hold up.

    Args:
        tiers: by name.
        metrics: the Prometheus side.
        guard: who may look.
    """

    name = "metrics"

    def __init__(self, tiers: Mapping[str, Tier[Any]], metrics: Metrics, guard: AdminGuard) -> None:
        self._tiers = tiers
        self._metrics = metrics
        self._guard = guard

    def routes(self) -> tuple[Route, ...]:
        """Both forms."""
        around = self._guard.around
        return (
            Route("GET", "/metrics/bulkheads", around(self.bulkheads), is_admin=True),
            Route("GET", "/metrics", around(self.prometheus), is_admin=True),
        )

    async def bulkheads(self, request: Request) -> Response:  # noqa: ARG002
        """One member a tier."""
        return Response.json(
            {name: _wire_statistics(tier.statistics()) for name, tier in self._tiers.items()}
        )

    async def prometheus(self, request: Request) -> Response:  # noqa: ARG002
        """Prometheus's text format."""
        return Response(200, self._metrics.exposition(), content_type=PROMETHEUS_TEXT)


def _wire_statistics(statistics: TierStatistics) -> dict[str, Any]:
    pool, compartment = statistics.pool, statistics.compartment
    breaker, limit = statistics.breaker, statistics.rate_limit
    outcomes = statistics.outcomes
    return {
        "connectionPool": {
            "active": pool.active,
            "idle": pool.idle,
            "pending": pool.pending,
            "max": pool.max,
        },
        "threadPool": {
            "active": compartment.active,
            "queued": compartment.queued,
            "poolSize": compartment.workers,
            "queueSize": compartment.places,
        },
        "circuitBreaker": {
            "state": breaker.state.value,
            "failures": breaker.failures,
            "retryAfter": round(breaker.retry_after, 3),
        },
        "rateLimit": None
        if limit is None
        else {
            "limit": limit.limit,
            "remaining": limit.remaining,
            "windowSeconds": _whole(limit.window),
        },
        "rejected": {
            "rate_limited": outcomes.get("rate_limited", 0),
            "bulkhead_full": outcomes.get("bulkhead_full", 0),
            "circuit_open": outcomes.get("circuit_open", 0),
            "deadline": sum(outcomes.get(code, 0) for code in _DEADLINE_CODES),
            "shed": outcomes.get("shed", 0),
        },
        "outcomes": outcomes,
        "latencyMs": {
            "p50": round(statistics.latency.p50 * 1000, 3),
            "p95": round(statistics.latency.p95 * 1000, 3),
            "p99": round(statistics.latency.p99 * 1000, 3),
        },
    }


def _whole(seconds: float) -> float:
    """Seconds as people write them: without a fraction where there is none."""
    return int(seconds) if seconds == int(seconds) else seconds
