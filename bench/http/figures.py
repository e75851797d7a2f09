"""From turns to figures. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import attrs

from bench.http.jobs import Entry, Job
from bench.http.wrk import Count


@attrs.frozen
class Turn:
    """One subject's turn in one round.

    Attributes:
        count: what the load generator counted.
        cores: processor seconds a second that the server used.
    """

    count: Count
    cores: float

    @property
    def per_core_second(self) -> float:
        """Requests answered a processor second of the server."""
        return self.count.per_second / self.cores if self.cores else 0.0


@attrs.frozen
class EntryResult:
    """One subject's turns at a job, one a round; figures are medians of them."""

    entry: Entry
    turns: tuple[Turn, ...]

    @property
    def name(self) -> str:
        """The subject's name."""
        return self.entry.subject.name

    @property
    def per_second(self) -> float:
        """Requests answered a second."""
        return statistics.median(turn.count.per_second for turn in self.turns)

    @property
    def spread(self) -> float:
        """How far the fastest and the slowest turn are apart, as a share of the median."""
        speeds = [turn.count.per_second for turn in self.turns]
        return (max(speeds) - min(speeds)) / self.per_second if self.per_second else 0.0

    @property
    def per_core_second(self) -> float:
        """Requests answered a processor second of the server: what others' work disturbs least."""
        return statistics.median(turn.per_core_second for turn in self.turns)

    @property
    def p50(self) -> float:
        """Median latency in milliseconds."""
        return statistics.median(turn.count.p50 for turn in self.turns)

    @property
    def p99(self) -> float:
        """Latency in milliseconds that 99 of 100 requests keep."""
        return statistics.median(turn.count.p99 for turn in self.turns)

    @property
    def cores(self) -> float:
        """Processor seconds a second that the server used."""
        return statistics.median(turn.cores for turn in self.turns)


@attrs.frozen
class JobResult:
    """A job, measured.

    Attributes:
        job: what was done.
        entries: of those who took part; ours first.
        absent: those who did not: name to what is missing.
    """

    job: Job
    entries: tuple[EntryResult, ...]
    absent: dict[str, str]

    @property
    def ours(self) -> EntryResult:
        """Our entry."""
        return self.entries[0]

    def named(self, name: str) -> EntryResult | None:
        """The entry of the peer of that name; ``None`` if it was absent."""
        peers: Sequence[EntryResult] = self.entries[1:]
        return next((entry for entry in peers if entry.name == name), None)

    def ratio(self, entry: EntryResult) -> float | None:
        """How many times as many requests ours does; ``None`` where ``entry`` did none."""
        return self.ours.per_second / entry.per_second if entry.per_second else None
