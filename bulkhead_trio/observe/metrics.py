"""Prometheus metrics: counted where things happen, read from statistics when asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import attrs
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

LATENCY_BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""Seconds; from a warm query to the longest that a default tier lets a request take."""


@attrs.frozen
class TierSnapshot:
    """The numbers of one tier that become metrics."""

    workers: int
    active: int
    places: int
    queued: int
    crashes: int
    connections_max: int
    connections_active: int
    connections_idle: int
    connections_pending: int
    breaker_state: str
    breaker_opened: int
    outcomes: Mapping[str, int]
    rate_limit_remaining: int | None


class SnapshotSource(Protocol):
    """Where the numbers come from."""

    def snapshots(self) -> Mapping[str, TierSnapshot]:
        """One a tier, by name."""


class Metrics:
    """A registry of its own, and the latency histograms that cannot be read from statistics.

    Args:
        source: asked at every scrape.
        reasons: the outcomes that are refusals.
    """

    def __init__(self, source: SnapshotSource, *, reasons: Iterable[str]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_TierCollector(source, frozenset(reasons)))
        self._latency = Histogram(
            "bulkhead_request_duration_seconds",
            "Time that requests which ran to their end took, waiting included.",
            ["tier", "outcome"],
            buckets=LATENCY_BUCKETS,
            registry=self._registry,
        )

    def observe(self, tier: str, outcome: str, seconds: float) -> None:
        """Count the duration of a request that ended; refusals took none worth counting."""
        if outcome == "ok":
            self._latency.labels(tier, "ok").observe(seconds)
        elif outcome in ("database_unavailable", "deadline_exceeded", "internal"):
            self._latency.labels(tier, "error").observe(seconds)

    def exposition(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self._registry)


class _TierCollector:
    def __init__(self, source: SnapshotSource, reasons: frozenset[str]) -> None:
        self._source = source
        self._reasons = reasons

    def collect(self) -> Iterator[Metric]:
        tiers = self._source.snapshots()
        for name, text, attribute in _GAUGES:
            gauge = GaugeMetricFamily(name, text, labels=["tier"])
            for tier, snapshot in tiers.items():
                gauge.add_metric([tier], getattr(snapshot, attribute))
            yield gauge
        yield from _breakers(tiers)
        yield from self._outcomes(tiers)
        remaining = GaugeMetricFamily(
            "bulkhead_rate_limit_remaining", "Requests left in this window.", labels=["tier"]
        )
        for tier, snapshot in tiers.items():
            if snapshot.rate_limit_remaining is not None:
                remaining.add_metric([tier], snapshot.rate_limit_remaining)
        yield remaining

    def _outcomes(self, tiers: Mapping[str, TierSnapshot]) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "bulkhead_requests", "Requests that ended, by how.", labels=["tier", "outcome"]
        )
        rejected = CounterMetricFamily(
            "bulkhead_rejected", "Requests refused before they ran.", labels=["tier", "reason"]
        )
        for tier, snapshot in tiers.items():
            for outcome, count in sorted(snapshot.outcomes.items()):
                requests.add_metric([tier, outcome], count)
                if outcome in self._reasons:
                    rejected.add_metric([tier, outcome], count)
        yield requests
        yield rejected


def _breakers(tiers: Mapping[str, TierSnapshot]) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "bulkhead_breaker_state", "1 for the state that it is in.", labels=["tier", "state"]
    )
    opened = CounterMetricFamily(
        "bulkhead_breaker_opened", "Times that the breaker opened.", labels=["tier"]
    )
    crashes = CounterMetricFamily(
        "bulkhead_supervisor_crashes", "Supervisors that had to be restarted.", labels=["tier"]
    )
    for tier, snapshot in tiers.items():
        for known in ("CLOSED", "OPEN", "HALF_OPEN"):
            state.add_metric([tier, known.lower()], float(snapshot.breaker_state == known))
        opened.add_metric([tier], snapshot.breaker_opened)
        crashes.add_metric([tier], snapshot.crashes)
    yield state
    yield opened
    yield crashes


_GAUGES = (
    ("bulkhead_workers", "Requests that may run at once.", "workers"),
    ("bulkhead_active", "Requests that run.", "active"),
    ("bulkhead_queue_places", "Requests that may wait.", "places"),
    ("bulkhead_queued", "Requests that wait for a worker.", "queued"),
    ("bulkhead_pool_connections_max", "The hard limit of connections.", "connections_max"),
    ("bulkhead_pool_connections_active", "Connections in use.", "connections_active"),
    ("bulkhead_pool_connections_idle", "Connections that wait for a user.", "connections_idle"),
    ("bulkhead_pool_pending", "Requests that wait for a connection.", "connections_pending"),
)
