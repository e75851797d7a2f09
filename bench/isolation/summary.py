"""From samples to figures. Pure; percentiles are exact, from every sample, with no histogram."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import attrs

from bench.isolation.messages import Sample
from bench.isolation.plan import ALONE, FLOODED, Plan

MILLISECONDS = 1000.0
"""Milliseconds in a second: samples are in seconds, reports in milliseconds."""

DIGITS = 3
"""Decimal places of a reported millisecond: a microsecond, finer than anything here is exact."""


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest of the ``ordered`` values that ``percent`` of them do not exceed.

    That is the nearest-rank definition: the result is always a value that was really measured.

    Raises:
        ValueError: there are no values, or ``percent`` is not in 0..100.
    """
    if not ordered:
        raise ValueError("no values have no percentile")
    if not 0 <= percent <= 100:
        raise ValueError(f"{percent} is not a percentage")
    rank = math.ceil(len(ordered) * percent / 100)
    return ordered[max(rank, 1) - 1]


@attrs.frozen
class Latency:
    """How long requests took, in milliseconds."""

    p50: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Latency | None:
        """The latency of these samples; ``None`` of none."""
        ordered = sorted(seconds)
        if not ordered:
            return None
        return cls(
            *(round(percentile(ordered, p) * MILLISECONDS, DIGITS) for p in (50, 95, 99, 100))
        )

    def ratio(self, base: Latency) -> Latency:
        """This latency in multiples of ``base``, figure by figure; nan where ``base`` has 0."""
        mine, other = attrs.astuple(self), attrs.astuple(base)
        return Latency(
            *(round(a / b, DIGITS) if b else math.nan for a, b in zip(mine, other, strict=True))
        )


@attrs.frozen
class Summary:
    """What became of the requests of one tier in one phase.

    ``answers`` counts by status, and within an error by the contract's code: ``"200"``,
    ``"429 rate_limited"``, ``"0 timed_out"`` where no answer came. ``lag`` is how late the
    generator itself was in sending; ``latency`` includes it.
    """

    sent: int
    answers: dict[str, int]
    latency: Latency | None
    lag: Latency | None
    per_second: float

    def count(self, status: int) -> int:
        """How many were answered with ``status``."""
        prefix = str(status)
        return sum(n for answer, n in self.answers.items() if answer.split()[0] == prefix)

    @property
    def others(self) -> int:
        """How many were answered with neither 200, 429 nor 503, or not at all."""
        return self.sent - self.count(200) - self.count(429) - self.count(503)


def summarize(samples: Sequence[Sample], seconds: float) -> Summary:
    """The figures of ``samples``, which were taken in ``seconds`` seconds."""
    answers = Counter(f"{s.status} {s.code}".strip() for s in samples)
    return Summary(
        sent=len(samples),
        answers=dict(answers.most_common()),
        latency=Latency.of(s.latency for s in samples),
        lag=Latency.of(s.lag for s in samples),
        per_second=round(len(samples) / seconds, 1),
    )


@attrs.frozen
class TierResult:
    """One tier in one scenario. ``alone`` is ``None`` for the tier that the flood is aimed at."""

    tier: str
    alone: Summary | None
    flooded: Summary

    @property
    def ratio(self) -> Latency | None:
        """Latency under the flood in multiples of latency alone, where both are known."""
        if self.alone is None or self.alone.latency is None or self.flooded.latency is None:
            return None
        return self.flooded.latency.ratio(self.alone.latency)


def summarize_tier(tier: str, samples: Sequence[Sample], plan: Plan) -> TierResult:
    """Split the samples of ``tier`` by the phase in which they were due, and sum each up."""

    def of(phase: str) -> list[Sample]:
        return [s for s in samples if plan.phase_at(s.due) == phase]

    alone = of(ALONE)
    return TierResult(
        tier=tier,
        alone=summarize(alone, plan.alone) if alone else None,
        flooded=summarize(of(FLOODED), plan.flooded),
    )


@attrs.frozen
class Slice:
    """The requests of one tier that were due in one second of the run; latency in milliseconds."""

    second: int
    sent: int
    good: int
    p50: float
    max: float


def timeline(samples: Iterable[Sample]) -> tuple[Slice, ...]:
    """One `Slice` for each second of the run in which a request was due, in order."""
    by_second: dict[int, list[Sample]] = {}
    for sample in samples:
        by_second.setdefault(math.floor(sample.due), []).append(sample)
    return tuple(_slice(second, by_second[second]) for second in sorted(by_second))


def _slice(second: int, samples: list[Sample]) -> Slice:
    latency = Latency.of(s.latency for s in samples)
    assert latency is not None, "a second without samples has no slice"
    good = sum(s.status == 200 for s in samples)
    return Slice(second, len(samples), good, latency.p50, latency.max)
