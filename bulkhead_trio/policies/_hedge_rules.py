"""When a hedge starts: pure arithmetic over observed latencies, and one call's tries as a state.

Jeffrey Dean and Luiz André Barroso, "The Tail at Scale", Communications of the ACM 56(2), 2013:
send a second request once the first has been outstanding for longer than the 95th percentile of
what is expected, and take whichever answers first. That costs 5 % more load and cuts off the tail.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque

import attrs

LEAST_SAMPLES = 20
"""Fewer say nothing of a 95th percentile: it would be the slowest of them."""

SAMPLES_KEPT = 256
"""The newest; enough for a 99th percentile with two samples above it, and old spells are gone."""

_ROUNDING = 1e-9


class Latencies:
    """The newest ``kept`` latencies, and their quantiles.

    Changed in place, unlike most rules here: a frozen copy would cost as much as there are samples,
    for every call. Adding and asking take a binary search each.

    Args:
        kept: how many; the oldest makes room.
    """

    __slots__ = ("_kept", "_newest_last", "_sorted")

    def __init__(self, kept: int = SAMPLES_KEPT) -> None:
        self._kept = kept
        self._newest_last: deque[float] = deque()
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, seconds: float) -> None:
        """Count one more."""
        if len(self._sorted) >= self._kept:
            oldest = self._newest_last.popleft()
            del self._sorted[bisect_left(self._sorted, oldest)]
        self._newest_last.append(seconds)
        insort(self._sorted, seconds)

    def quantile(self, share: float) -> float:
        """The smallest latency that at least ``share`` of them do not exceed (nearest rank).

        Raises:
            ValueError: there are none yet.
        """
        if not self._sorted:
            raise ValueError("there are no latencies yet")
        rank = math.ceil(share * len(self._sorted) - _ROUNDING)
        return self._sorted[max(rank, 1) - 1]


@attrs.frozen
class Race:
    """The tries of one call.

    Attributes:
        most: tries in all, the first included.
        started: tries so far.
        ended: tries that have failed or were refused.
        next_at: when the next try is due, if nothing changes.
        is_closed: whether no further try may start, though there would be some left.
    """

    most: int
    started: int = 0
    ended: int = 0
    next_at: float = -math.inf
    is_closed: bool = False

    def due(self) -> float:
        """When the next try starts; ``math.inf`` where none does."""
        if self.is_closed or self.started >= self.most:
            return math.inf
        return self.next_at

    def is_lost(self) -> bool:
        """Whether every try has ended without success, and no other will start."""
        return self.ended == self.started and self.due() == math.inf

    def after_start(self, now: float, delay: float) -> Race:
        """A try has started; the next one is due ``delay`` seconds later."""
        return attrs.evolve(self, started=self.started + 1, next_at=now + delay)

    def after_failure(self, *, is_final: bool) -> Race:
        """A try has failed: the next starts at once, or none does where trying again is no use."""
        return attrs.evolve(
            self,
            ended=self.ended + 1,
            next_at=-math.inf,
            is_closed=self.is_closed or is_final,
        )
