"""What became of a watched caller, and of the flood beside it. Pure."""

from __future__ import annotations

import math
import statistics

import attrs

from bench.http.scenarios import Scenario
from bench.http.subjects import Subject
from bench.isolation.summary import Latency, Summary, TierResult


@attrs.frozen
class FloodSeen:
    """What the flood met in one turn.

    Attributes:
        good: answers 2xx and 3xx.
        refused: other answers.
        broken: connections that broke, and answers that did not come in time.
        per_second: answers a second.
    """

    good: int
    refused: int
    broken: int
    per_second: float

    @property
    def answered(self) -> int:
        """Answers of any kind."""
        return self.good + self.refused


@attrs.frozen
class Watched:
    """One subject's turn in one round.

    Attributes:
        tier: the watched tier, alone and flooded.
        flood: what the flood met.
        cores: processor seconds a second that the server used amid it.
    """

    tier: TierResult
    flood: FloodSeen
    cores: float

    @property
    def lag_p99(self) -> float:
        """Milliseconds that the caller itself was late in 99 of 100 requests beside the flood."""
        lag = self.tier.flooded.lag
        return lag.p99 if lag else 0.0


@attrs.frozen
class Quantiles:
    """Milliseconds: the medians of all rounds' p50 and p99."""

    p50: float
    p99: float


@attrs.frozen
class SubjectResult:
    """One subject's turns in a scenario, one a round; figures are medians of them."""

    subject: Subject
    turns: tuple[Watched, ...]

    @property
    def alone(self) -> Quantiles:
        """The watched caller's latency with nobody else there."""
        return _medians([turn.tier.alone for turn in self.turns])

    @property
    def flooded(self) -> Quantiles:
        """The same beside the flood."""
        return _medians([turn.tier.flooded for turn in self.turns])

    @property
    def ratio(self) -> Quantiles:
        """Latency beside the flood in multiples of latency alone; nan where there was none."""
        alone, flooded = self.alone, self.flooded
        return Quantiles(_ratio(flooded.p50, alone.p50), _ratio(flooded.p99, alone.p99))

    @property
    def flood_per_second(self) -> float:
        """Answers a second to the flood."""
        return statistics.median(turn.flood.per_second for turn in self.turns)

    @property
    def cores(self) -> float:
        """Processor seconds a second that the server used amid the flood."""
        return statistics.median(turn.cores for turn in self.turns)

    @property
    def lag_p99(self) -> float:
        """Milliseconds that the caller itself was late beside the flood; part of its latency."""
        return statistics.median(turn.lag_p99 for turn in self.turns)

    def is_within(self, bar: float) -> bool:
        """Whether p50 and p99 are within ``bar`` times those alone."""
        return self.ratio.p50 <= bar and self.ratio.p99 <= bar


@attrs.frozen
class ScenarioResult:
    """A scenario, measured.

    Attributes:
        scenario: what was done.
        subjects: of those who took part; ours first.
        absent: those who did not: name to what is missing.
    """

    scenario: Scenario
    subjects: tuple[SubjectResult, ...]
    absent: dict[str, str]

    @property
    def ours(self) -> SubjectResult:
        """Our result."""
        return self.subjects[0]


def _medians(summaries: list[Summary | None]) -> Quantiles:
    latencies: list[Latency] = [s.latency for s in summaries if s and s.latency]
    if not latencies:
        return Quantiles(math.nan, math.nan)
    return Quantiles(
        statistics.median(latency.p50 for latency in latencies),
        statistics.median(latency.p99 for latency in latencies),
    )


def _ratio(flooded: float, alone: float) -> float:
    return flooded / alone if alone else math.nan
