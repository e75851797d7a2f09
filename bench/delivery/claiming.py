"""What a claim costs, by how much is waiting. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

MOST_RATIO = 2.0
"""How many times as much a claim may cost with the most waiting as with the fewest: flat, as far
as caches and the depth of an index allow."""


@attrs.frozen
class ClaimPoint:
    """What claims cost with so much waiting.

    Attributes:
        waiting: rows of work.
        claimed: rows that a claim took, on average.
        p50, p99: milliseconds a claim.
        finish: milliseconds for writing down what became of them, the median.
    """

    waiting: int
    claimed: float
    p50: float
    p99: float
    finish: float


@attrs.frozen
class ClaimResult:
    """Claims over a growing backlog, the smallest first.

    Attributes:
        title: whose the waiting rows are.
    """

    title: str
    points: Sequence[ClaimPoint]

    @property
    def ratio(self) -> float:
        """The median with the most waiting in multiples of that with the fewest."""
        return self.points[-1].p50 / self.points[0].p50

    @property
    def is_met(self) -> bool:
        """Whether it is flat."""
        return self.ratio <= MOST_RATIO
