"""What was measured, and what follows from it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

import attrs

MICROSECONDS = 1_000_000


@attrs.frozen
class Turn:
    """One measurement.

    Attributes:
        count: deliveries, or events that were answered 202.
        seconds: in which they were.
        cpu: processor seconds that were used meanwhile, by whom.
        refused: answers that were none of these.
        p50, p99: latency in milliseconds, where there is one.
    """

    count: int
    seconds: float
    cpu: Mapping[str, float]
    refused: int = 0
    p50: float | None = None
    p99: float | None = None

    @property
    def per_second(self) -> float:
        """How many a second."""
        return self.count / self.seconds if self.seconds else 0.0

    def cores(self, who: str) -> float:
        """How many cores somebody used."""
        return self.cpu.get(who, 0.0) / self.seconds if self.seconds else 0.0

    def microseconds(self, who: str) -> float:
        """Processor time of somebody for one delivery, or one event."""
        return MICROSECONDS * self.cpu.get(who, 0.0) / self.count if self.count else 0.0


@attrs.frozen
class RateResult:
    """The turns of one thing to do.

    Attributes:
        name: of it, for the command line.
        title: what it is.
        unit: what is counted.
        bar: so many a second are asked for; ``None``: it is for comparison.
        turns: of it.
    """

    name: str
    title: str
    unit: str
    bar: float | None
    turns: Sequence[Turn]

    @property
    def middle(self) -> Turn:
        """The turn whose rate is the median; of two the slower."""
        ordered = sorted(self.turns, key=lambda turn: turn.per_second)
        return ordered[(len(ordered) - 1) // 2]

    @property
    def per_second(self) -> float:
        """The median."""
        return median(turn.per_second for turn in self.turns)

    @property
    def spread(self) -> float:
        """Between the slowest and the fastest turn, as a share of the median."""
        rates = [turn.per_second for turn in self.turns]
        return (max(rates) - min(rates)) / self.per_second if self.per_second else 0.0

    @property
    def is_met(self) -> bool | None:
        """Whether the bar is reached; ``None`` without one."""
        return None if self.bar is None else self.per_second >= self.bar

    def limit(self, cores: int) -> str:
        """What kept it from being faster, as far as processor time tells."""
        turn = self.middle
        used = {who: turn.cores(who) for who in turn.cpu}
        if not used:
            return "not known"
        most = max(used, key=lambda who: used[who])
        if used[most] >= _BUSY:
            return f"{most}, which used {used[most]:.2f} cores"
        if sum(used.values()) >= _BUSY * cores:
            return f"all {cores} cores together, {most} most of them ({used[most]:.2f})"
        return f"waiting: of {cores} cores {sum(used.values()):.2f} were used"


_BUSY = 0.85
"""Of a core: who uses as much of one, and can use no second one, is what limits."""
