"""Prometheus metrics: counted where things happen, read from all processes when asked."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

import attrs
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

from bulkhead_trio.observe._totals_rules import total
from bulkhead_trio.observe.snapshots import (
    Census,
    DurationsSnapshot,
    ServingSnapshot,
    TierSnapshot,
)

LATENCY_BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""Seconds; from a warm query to the longest that a default tier lets a request take."""

_STATES = ("CLOSED", "OPEN", "HALF_OPEN")
_ERRORS = ("database_unavailable", "deadline_exceeded", "internal")


class Durations:
    """Counts how long requests that ran to their end took: those of one process, for ever."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], list[int]] = defaultdict(
            lambda: [0] * (len(LATENCY_BUCKETS) + 1)
        )
        self._seconds: dict[tuple[str, str], float] = defaultdict(float)

    def observe(self, tier: str, outcome: str, seconds: float) -> None:
        """Count the duration of a request that ended; refusals took none worth counting."""
        if outcome not in ("ok", *_ERRORS):
            return
        key = (tier, "ok" if outcome == "ok" else "error")
        self._counts[key][bisect_left(LATENCY_BUCKETS, seconds)] += 1
        self._seconds[key] += seconds

    def snapshot(self, tier: str) -> dict[str, DurationsSnapshot]:
        """Those of one tier, by ``ok`` and ``error``."""
        return {
            outcome: DurationsSnapshot(tuple(counts), self._seconds[name, outcome])
            for (name, outcome), counts in self._counts.items()
            if name == tier
        }


def exposition(census: Census, *, reasons: Iterable[str]) -> bytes:
    """All metrics in Prometheus's text format.

    Args:
        census: of all processes.
        reasons: the outcomes that are refusals.
    """
    registry = CollectorRegistry()
    registry.register(_Collector(census, frozenset(reasons)))
    return generate_latest(registry)


@attrs.frozen(eq=False)
class _Collector:
    census: Census
    reasons: frozenset[str]

    def collect(self) -> Iterator[Metric]:
        whole = total(self.census)
        for name, text, attribute in _GAUGES:
            gauge = GaugeMetricFamily(name, text, labels=["tier"])
            for tier, snapshot in whole.tiers.items():
                gauge.add_metric([tier], getattr(snapshot, attribute))
            yield gauge
        yield from _breakers(whole.tiers)
        yield from self._outcomes(whole.tiers)
        yield _remaining(whole.tiers)
        yield _latencies(whole.tiers)
        yield from _loop(whole.serving)
        yield from _processes(self.census)

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
                if outcome in self.reasons:
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
        for known in _STATES:
            state.add_metric([tier, known.lower()], float(snapshot.breaker.state == known))
        opened.add_metric([tier], snapshot.breaker.opened)
        crashes.add_metric([tier], snapshot.crashes)
    yield state
    yield opened
    yield crashes


def _remaining(tiers: Mapping[str, TierSnapshot]) -> Metric:
    remaining = GaugeMetricFamily(
        "bulkhead_rate_limit_remaining", "Requests left in this window.", labels=["tier"]
    )
    for tier, snapshot in tiers.items():
        if snapshot.rate_limit is not None:
            remaining.add_metric([tier], snapshot.rate_limit.remaining)
    return remaining


def _latencies(tiers: Mapping[str, TierSnapshot]) -> Metric:
    histogram = HistogramMetricFamily(
        "bulkhead_request_duration_seconds",
        "Time that requests which ran to their end took, waiting included.",
        labels=["tier", "outcome"],
    )
    bounds = [*map(floatToGoString, LATENCY_BUCKETS), "+Inf"]
    for tier, snapshot in tiers.items():
        for outcome, durations in sorted(snapshot.durations.items()):
            buckets = list(zip(bounds, map(float, accumulate(durations.counts)), strict=True))
            histogram.add_metric([tier, outcome], buckets, durations.seconds)
    return histogram


def _loop(serving: ServingSnapshot) -> Iterator[Metric]:
    connections = GaugeMetricFamily(
        "bulkhead_http_connections", "Open connections, by what they wait for.", labels=["state"]
    )
    for state, count in sorted(serving.connections.items()):
        connections.add_metric([state], count)
    seconds = CounterMetricFamily(
        "bulkhead_loop_seconds",
        "Time that the event loop has spent on a tier's connections.",
        labels=["tier"],
    )
    for tier, spent in sorted(serving.loop_seconds.items()):
        seconds.add_metric([tier or "none"], spent)
    yield connections
    yield seconds
    yield GaugeMetricFamily(
        "bulkhead_http_parked",
        "Connections whose request was refused and that are not read for now.",
        serving.parked,
    )
    yield GaugeMetricFamily(
        "bulkhead_loop_lag_seconds",
        "How late the event loop's timers came at worst in the last ten to twenty seconds.",
        serving.loop_lag,
    )
    yield CounterMetricFamily(
        "bulkhead_log_lines_dropped",
        "Log lines that could not be written, since nobody read those before.",
        serving.log_lines_dropped,
    )


def _processes(census: Census) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "bulkhead_processes", "Worker processes that there should be.", census.workers
    )
    yield GaugeMetricFamily(
        "bulkhead_processes_answered",
        "Worker processes whose numbers are in this answer.",
        len(census.processes),
    )
    if census.workers == 1:
        return
    state = GaugeMetricFamily(
        "bulkhead_worker_breaker_state",
        "1 for the state that the breaker of a tier is in, in one worker process.",
        labels=["tier", "worker", "state"],
    )
    for process in census.processes:
        for tier, snapshot in process.tiers.items():
            for known in _STATES:
                is_in = float(snapshot.breaker.state == known)
                state.add_metric([tier, str(process.worker), known.lower()], is_in)
    yield state


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
