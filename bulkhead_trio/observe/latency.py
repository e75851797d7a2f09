"""Latency quantiles over the last minutes, in constant memory.

Durations are counted in buckets whose bounds grow by 5 %, so that a quantile is read off with at
most that error (the idea of Gil Tene's HdrHistogram, and of DDSketch's relative-error guarantee:
Masson, Rim, Lee, VLDB 2019). Two generations of counts, swapped every minute, let the past fade.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import attrs
import trio

GROWTH = 1.05
SMALLEST_SECONDS = 1e-5
"""Ten microseconds: everything below counts as that."""

GENERATION_SECONDS = 60.0
"""Quantiles speak of the last one to two minutes."""

_LOG_GROWTH = math.log(GROWTH)


def bucket_of(seconds: float) -> int:
    """The index of the bucket that counts ``seconds``."""
    if seconds <= SMALLEST_SECONDS:
        return 0
    return math.ceil(math.log(seconds / SMALLEST_SECONDS) / _LOG_GROWTH)


def upper_bound(bucket: int) -> float:
    """The longest duration, in seconds, that ``bucket`` counts."""
    return SMALLEST_SECONDS * math.pow(GROWTH, bucket)


def quantile(counts: Counter[int], q: float) -> float:
    """The ``q`` quantile in seconds, at most 5 % too high; 0 when nothing was counted."""
    rank = math.ceil(q * counts.total())
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= rank:
            return upper_bound(bucket)
    return 0.0


@attrs.frozen
class LatencyQuantiles:
    """Seconds; all 0 while nothing was observed."""

    p50: float
    p95: float
    p99: float


def quantiles(counts: Mapping[int, int]) -> LatencyQuantiles:
    """What durations were like that were counted by bucket, in one process or in several."""
    counter = Counter(counts)
    return LatencyQuantiles(*(quantile(counter, q) for q in (0.5, 0.95, 0.99)))


class LatencyWindow:
    """Observes durations and says what they were like lately."""

    def __init__(self) -> None:
        self._current: Counter[int] = Counter()
        self._previous: Counter[int] = Counter()
        self._began = trio.current_time()

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._turn()
        self._current[bucket_of(seconds)] += 1

    def counts(self) -> Counter[int]:
        """How many durations of the last one to two minutes are in which bucket."""
        self._turn()
        return self._current + self._previous

    def quantiles(self) -> LatencyQuantiles:
        """What the last one to two minutes were like."""
        return quantiles(self.counts())

    def _turn(self) -> None:
        age = trio.current_time() - self._began
        if age < GENERATION_SECONDS:
            return
        self._previous = self._current if age < 2 * GENERATION_SECONDS else Counter()
        self._current = Counter()
        self._began = trio.current_time()
