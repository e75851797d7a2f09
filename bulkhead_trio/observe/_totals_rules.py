"""Numbers of several processes added up. Pure.

Counters, gauges and histograms are sums; a quantile is read from the sum of the counts, never from
other quantiles; of breakers the worst counts, for there the whole server is as bad as its worst
part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import TypeVar

import attrs

from bulkhead_trio.observe._delivery_totals_rules import (
    continued_deliveries,
    delivery_counters,
)
from bulkhead_trio.observe._gateway_totals_rules import (
    continued_gateway,
    gateway_counters,
)
from bulkhead_trio.observe.snapshots import (
    BreakerSnapshot,
    Census,
    DeskSnapshot,
    DurationsSnapshot,
    ProcessSnapshot,
    RateLimitSnapshot,
    ServingSnapshot,
    TierSnapshot,
)

K = TypeVar("K")
N = TypeVar("N", int, float)

SEVERITY = ("CLOSED", "HALF_OPEN", "OPEN")

_SUMS = (
    "workers", "active", "places", "queued", "crashes",
    "connections_max", "connections_active", "connections_idle", "connections_pending",
)  # fmt: skip


def total(census: Census) -> ProcessSnapshot:
    """All processes that answered, as if they were one, but for their gateways and deliveries.

    Those have more numbers than all else together, and few want them: `total_gateway`,
    `total_deliveries`.
    """
    parts = census.processes
    names = dict.fromkeys(name for process in parts for name in process.tiers)
    return ProcessSnapshot(
        tiers={
            name: total_tier([process.tiers[name] for process in parts if name in process.tiers])
            for name in names
        },
        orders=total_orders([process.orders for process in parts]),
        serving=total_serving([process.serving for process in parts]),
    )


def total_tier(parts: Sequence[TierSnapshot]) -> TierSnapshot:
    """One tier's parts, as if they were one."""
    return TierSnapshot(
        **{name: sum(map(attrgetter(name), parts)) for name in _SUMS},
        breaker=worst_breaker([part.breaker for part in parts]),
        rate_limit=_total_limit([part.rate_limit for part in parts if part.rate_limit is not None]),
        outcomes=_added(part.outcomes for part in parts),
        latency=_added(part.latency for part in parts),
        durations=_total_durations([part.durations for part in parts]),
    )


def worst_breaker(parts: Sequence[BreakerSnapshot]) -> BreakerSnapshot:
    """The breaker that is worst off: open, else half open; the openings of all."""
    if not parts:
        return BreakerSnapshot()
    worst = max(
        parts, key=lambda part: (SEVERITY.index(part.state), part.failures, part.retry_after)
    )
    return attrs.evolve(worst, opened=sum(part.opened for part in parts))


def total_orders(parts: Sequence[DeskSnapshot]) -> DeskSnapshot:
    """The desks, as if they were one.

    Every desk sees in the database what the others have in memory. What none of them has is what
    one sees beyond that; each has looked at another time, and whoever sees most counts.
    """
    in_memory = sum(part.queued + part.active for part in parts)
    seen = [part.elsewhere - (in_memory - part.queued - part.active) for part in parts]
    return DeskSnapshot(
        queued=sum(part.queued for part in parts),
        active=sum(part.active for part in parts),
        elsewhere=max(0, *seen) if seen else 0,
        is_full=bool(parts) and all(part.is_full for part in parts),
        pending=sum(part.pending for part in parts),
        breaker=worst_breaker([part.breaker for part in parts]),
    )


def total_serving(parts: Sequence[ServingSnapshot]) -> ServingSnapshot:
    """The processes' servers, as if they were one; of the lags, the worst."""
    return ServingSnapshot(
        connections=_added(part.connections for part in parts),
        parked=sum(part.parked for part in parts),
        loop_seconds=_added(part.loop_seconds for part in parts),
        loop_lag=max((part.loop_lag for part in parts), default=0.0),
        log_lines_dropped=sum(part.log_lines_dropped for part in parts),
    )


def counters(process: ProcessSnapshot) -> ProcessSnapshot:
    """What a process has counted, without what it holds: what outlives it."""
    return ProcessSnapshot(
        worker=process.worker,
        tiers={
            name: TierSnapshot(
                crashes=tier.crashes,
                breaker=BreakerSnapshot(opened=tier.breaker.opened),
                outcomes=tier.outcomes,
                durations=tier.durations,
            )
            for name, tier in process.tiers.items()
        },
        serving=ServingSnapshot(
            loop_seconds=process.serving.loop_seconds,
            log_lines_dropped=process.serving.log_lines_dropped,
        ),
        gateway=None if process.gateway is None else gateway_counters(process.gateway),
        deliveries=None if process.deliveries is None else delivery_counters(process.deliveries),
    )


def continued(process: ProcessSnapshot, past: ProcessSnapshot | None) -> ProcessSnapshot:
    """What a process holds, with what its predecessors of the same number had counted.

    Without that a counter would fall when a process is replaced, and whoever computes rates from
    it would take what the others have counted for new.
    """
    if past is None:
        return process
    tiers = {
        name: total_tier([tier, past.tiers[name]]) if name in past.tiers else tier
        for name, tier in process.tiers.items()
    }
    gateway = process.gateway
    if gateway is not None and past.gateway is not None:
        gateway = continued_gateway(gateway, past.gateway)
    deliveries = process.deliveries
    if deliveries is not None and past.deliveries is not None:
        deliveries = continued_deliveries(deliveries, past.deliveries)
    serving = total_serving([process.serving, past.serving])
    return attrs.evolve(
        process, tiers=tiers, serving=serving, gateway=gateway, deliveries=deliveries
    )


def _total_limit(parts: Sequence[RateLimitSnapshot]) -> RateLimitSnapshot | None:
    if not parts:
        return None
    return RateLimitSnapshot(
        limit=sum(part.limit for part in parts),
        remaining=sum(part.remaining for part in parts),
        window=max(part.window for part in parts),
    )


def _total_durations(
    parts: Sequence[Mapping[str, DurationsSnapshot]],
) -> dict[str, DurationsSnapshot]:
    found: dict[str, DurationsSnapshot] = {}
    for part in parts:
        for outcome, durations in part.items():
            if outcome in found:
                before = found[outcome]
                counts = zip(before.counts, durations.counts, strict=True)
                seconds = before.seconds + durations.seconds
                found[outcome] = DurationsSnapshot(tuple(map(sum, counts)), seconds)
            else:
                found[outcome] = durations
    return found


def _added(parts: Iterable[Mapping[K, N]]) -> dict[K, N]:
    found: dict[K, N] = {}
    for part in parts:
        for key, number in part.items():
            found[key] = found[key] + number if key in found else number
    return found
