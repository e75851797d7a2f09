"""Who takes long, so that those who do not are never without a worker.

The cap an endpoint keeps one of them from having all workers; five that hang, of five tenants, have
them nevertheless. So queues whose sends take long share most of the workers, and some are left to
the rest: those who answer quickly need no more.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Generic, TypeVar
from uuid import UUID

import trio

from bulkhead_trio.delivery.leases import Holdings
from bulkhead_trio.delivery.stores import Work

W = TypeVar("W", bound=Work)

SLOW_SECONDS: Final = 1.0
"""A queue whose sends take longer, in their moving mean or right now, is slow."""

RESERVED: Final = 5
"""One in so many workers is not for slow queues."""

MOST_REMEMBERED: Final = 256
"""Slow queues; the one that was longest not heard of makes room."""

_WEIGHT: Final = 0.3
"""Of the last send in the mean: three quick ones in a row, and a queue is slow no more."""


class Slowness(Generic[W]):
    """One pipeline's slow queues.

    Args:
        holdings: what is held.
        parallel: the workers.
    """

    def __init__(self, holdings: Holdings[W], parallel: int) -> None:
        self._holdings = holdings
        self._most = max(1, parallel - max(1, parallel // RESERVED))
        self._means: dict[UUID, float] = {}

    def sent(self, queue_id: UUID, seconds: float) -> None:
        """A send has ended, which took ``seconds``."""
        before = self._means.pop(queue_id, None)
        mean = seconds if before is None else before + _WEIGHT * (seconds - before)
        if mean <= SLOW_SECONDS:
            return
        self._means[queue_id] = mean
        if len(self._means) > MOST_REMEMBERED:
            del self._means[next(iter(self._means))]

    def queues(self) -> set[UUID]:
        """Those that are slow now."""
        before = trio.current_time() - SLOW_SECONDS
        under_way = {
            held.work.queue_id
            for held in self._holdings.all().values()
            if held.begun_at is not None and held.begun_at < before
        }
        return under_way | self._means.keys()

    def room(self, slow: Collection[UUID]) -> int:
        """How many more of theirs may be held."""
        held = sum(each.work.queue_id in slow for each in self._holdings.all().values())
        return max(0, self._most - held)
