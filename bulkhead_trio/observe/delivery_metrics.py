"""The deliveries' numbers in Prometheus's text format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

import attrs
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

from bulkhead_trio.observe._delivery_totals_rules import total_deliveries
from bulkhead_trio.observe.delivery_snapshots import (
    BUCKETS,
    INCIDENTS,
    SEVERITY,
    DeliverySnapshot,
    IntakeSnapshot,
)

_PREFIX: Final = "bulkhead_delivery_"
_BOUNDS: Final = (*map(floatToGoString, BUCKETS), "+Inf")

_GAUGES: Final = (
    ("max_parallel", "What a pipeline works on at once at most.", "max_parallel"),
    ("active", "What a pipeline works on.", "active"),
    ("queued", "What waits, in memory and in the database.", "queued"),
    ("retrying", "Of what waits, what has been tried before.", "retrying"),
    ("dead_lettered", "What was given up and is still kept.", "dead_lettered"),
)

_INTAKE_GAUGES: Final = (
    ("workers", "Requests that may run at once.", "workers"),
    ("active", "Requests that run.", "active"),
    ("queue_places", "Requests that may wait.", "places"),
    ("queued", "Requests that wait.", "queued"),
)

_INTAKE_COUNTERS: Final = (
    ("refused", "Requests for which there was no place.", "refused"),
    ("breaker_opened", "Times that the breaker opened.", "opened"),
    ("accepted", "Events that were committed.", "accepted"),
    ("batches", "Commits that they took.", "batches"),
    ("failed", "Events whose commit failed.", "failed"),
    ("crashes", "Times that the writer, the pruner or the count was started again.", "crashes"),
)


def delivery_exposition(parts: Sequence[DeliverySnapshot]) -> bytes:
    """All their metrics.

    Args:
        parts: one of each process.
    """
    registry = CollectorRegistry()
    registry.register(_Collector(total_deliveries(parts)))
    return generate_latest(registry)


@attrs.frozen(eq=False)
class _Collector:
    whole: DeliverySnapshot

    def collect(self) -> Iterator[Metric]:
        for name, text, attribute in _GAUGES:
            gauge = GaugeMetricFamily(_PREFIX + name, text, labels=["pipeline"])
            for pipeline, snapshot in self.whole.pipelines.items():
                gauge.add_metric([pipeline], getattr(snapshot, attribute))
            yield gauge
        yield from self._ended()
        yield self._incidents()
        yield self._breakers()
        yield self._shared_breakers()
        yield from _of_intake(self.whole.intake)

    def _ended(self) -> Iterator[Metric]:
        ended = CounterMetricFamily(
            _PREFIX + "ended",
            "What a pipeline is done with, by how.",
            labels=["pipeline", "outcome"],
        )
        tries = HistogramMetricFamily(
            _PREFIX + "try_duration_seconds", "How long tries took.", labels=["pipeline"]
        )
        for pipeline, snapshot in self.whole.pipelines.items():
            for outcome, count in sorted(snapshot.outcomes.items()):
                ended.add_metric([pipeline, outcome], count)
            counts = map(float, accumulate(snapshot.tries.counts))
            buckets = list(zip(_BOUNDS, counts, strict=True))
            tries.add_metric([pipeline], buckets, snapshot.tries.seconds)
        yield ended
        yield tries

    def _incidents(self) -> Metric:
        incidents = CounterMetricFamily(
            _PREFIX + "incidents",
            "What should not happen, or not often.",
            labels=["pipeline", "incident"],
        )
        for pipeline, snapshot in self.whole.pipelines.items():
            for name in INCIDENTS:
                if name in snapshot.incidents:
                    incidents.add_metric([pipeline, name], snapshot.incidents[name])
        return incidents

    def _shared_breakers(self) -> Metric:
        shared = GaugeMetricFamily(
            _PREFIX + "shared_breaker_state",
            "Of a service that all tenants share: 1 for the state that its breaker is in.",
            labels=["pipeline", "breaker", "state"],
        )
        for pipeline, snapshot in self.whole.pipelines.items():
            for name, state in snapshot.troubled.items():
                for known in SEVERITY:
                    shared.add_metric([pipeline, name, known.lower()], float(state == known))
        return shared

    def _breakers(self) -> Metric:
        breakers = GaugeMetricFamily(
            _PREFIX + "breakers",
            "Breakers of endpoints and channels, by state.",
            labels=["pipeline", "state"],
        )
        for pipeline, snapshot in self.whole.pipelines.items():
            for state in SEVERITY:
                breakers.add_metric([pipeline, state.lower()], snapshot.breakers.get(state, 0))
        return breakers


def _of_intake(intake: IntakeSnapshot) -> Iterator[Metric]:
    for name, text, attribute in _INTAKE_GAUGES:
        yield GaugeMetricFamily(f"{_PREFIX}intake_{name}", text, getattr(intake, attribute))
    for name, text, attribute in _INTAKE_COUNTERS:
        yield CounterMetricFamily(f"{_PREFIX}intake_{name}", text, getattr(intake, attribute))
    state = GaugeMetricFamily(
        f"{_PREFIX}intake_breaker_state", "1 for the state that it is in.", labels=["state"]
    )
    for known in SEVERITY:
        state.add_metric([known.lower()], float(intake.breaker == known))
    yield state
