"""What each of several worker processes gets of everything there is. Pure.

The parts of a number add up to exactly that number. What does not divide evenly is spread: each
number gives its remainder to other workers than the one before it, so that none gets a bit more of
everything.
"""

from __future__ import annotations

from itertools import count
from typing import Any, TypeVar

import attrs

from bulkhead_trio.config import Settings, TierSettings
from bulkhead_trio.config.settings import LEAST_DELIVERY_CONNECTIONS

T = TypeVar("T", Settings, TierSettings)

TIER_TOTALS = ("connections", "workers", "queue", "rate_limit")
ORDER_TOTALS = ("orders_connections", "orders_workers", "orders_queue", "orders_burst")
"""The backlog is none of them: it counts what is open in the database, which all of them see."""

EVENT_TOTALS = ("events_burst",)

LEAST_OF_DELIVERIES = {
    "webhooks_max_parallel_deliveries": 1,
    "notifications_max_parallel_deliveries": 1,
    "deliveries_connections": LEAST_DELIVERY_CONNECTIONS,
}
"""What each worker has at least, so that all of them deliver."""


def parts(whole: int, workers: int, *, first: int = 0) -> tuple[int, ...]:
    """``whole`` in so many parts, none more than one above another.

    Args:
        whole: 0 or more.
        workers: how many parts.
        first: the worker that gets the first of what is left over; counted on from there.
    """
    each, left = divmod(whole, workers)
    return tuple(each + ((number - first) % workers < left) for number in range(workers))


def share(settings: Settings, worker: int) -> Settings:
    """The settings of worker number ``worker``, from 0, of a server with ``settings.workers``.

    Rates are divided as they are: an order's user, or an event's tenant, may come to any worker.
    """
    firsts = count()
    tiers = tuple(
        _divided(tier, TIER_TOTALS, worker, settings.workers, firsts) for tier in settings.tiers
    )
    totals = (*ORDER_TOTALS, *EVENT_TOTALS, *LEAST_OF_DELIVERIES)
    own = _divided(settings, totals, worker, settings.workers, firsts)
    return attrs.evolve(
        own,
        tiers=tiers,
        orders_rate=settings.orders_rate / settings.workers,
        events_rate=settings.events_rate / settings.workers,
        **{name: max(least, getattr(own, name)) for name, least in LEAST_OF_DELIVERIES.items()},
    )


def _divided(whole: T, totals: tuple[str, ...], worker: int, workers: int, firsts: count[int]) -> T:
    changes: dict[str, Any] = {
        name: parts(value, workers, first=next(firsts))[worker]
        for name in totals
        if (value := getattr(whole, name)) is not None
    }
    return attrs.evolve(whole, **changes)
