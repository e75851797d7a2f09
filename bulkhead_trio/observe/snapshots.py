"""What one process holds and has counted, in a form that can be sent to another and added up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, Self

import attrs

from bulkhead_trio.observe.delivery_snapshots import DeliverySnapshot
from bulkhead_trio.observe.gateway_snapshots import GatewaySnapshot
from bulkhead_trio.policies.breaker import BreakerStatistics


@attrs.frozen
class BreakerSnapshot:
    """A breaker's state (``CLOSED``, ``OPEN`` or ``HALF_OPEN``), and what goes with it."""

    state: str = "CLOSED"
    failures: int = 0
    retry_after: float = 0.0
    opened: int = 0

    @classmethod
    def of(cls, breaker: BreakerStatistics) -> Self:
        """The numbers of one breaker."""
        return cls(breaker.state.value, breaker.failures, breaker.retry_after, breaker.opened)


@attrs.frozen
class RateLimitSnapshot:
    """What is left of a quota."""

    limit: int
    remaining: int
    window: float


@attrs.frozen
class DurationsSnapshot:
    """Durations counted by `bulkhead_trio.observe.metrics.LATENCY_BUCKETS`.

    Attributes:
        counts: for each bucket, those that are in it and in none before it; the last one has no
            upper bound.
        seconds: all of them together.
    """

    counts: tuple[int, ...]
    seconds: float


@attrs.frozen(kw_only=True)
class TierSnapshot:
    """The numbers of one tier.

    Attributes:
        latency: how many requests that were answered well took how long lately, by the bucket
            numbers of `bulkhead_trio.observe.latency`.
        durations: of requests that ran to their end, by ``ok`` and ``error``, since the start.
    """

    workers: int = 0
    active: int = 0
    places: int = 0
    queued: int = 0
    crashes: int = 0
    connections_max: int = 0
    connections_active: int = 0
    connections_idle: int = 0
    connections_pending: int = 0
    breaker: BreakerSnapshot = BreakerSnapshot()
    rate_limit: RateLimitSnapshot | None = None
    outcomes: dict[str, int] = attrs.field(factory=dict)
    latency: dict[int, int] = attrs.field(factory=dict)
    durations: dict[str, DurationsSnapshot] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class DeskSnapshot:
    """The numbers of the order desk.

    Attributes:
        queued: orders that wait in memory.
        active: orders being processed.
        elsewhere: orders that are open in the database and not in this process's memory, as far as
            it knows.
        is_full: whether no place is left in memory.
        pending: requests that wait to be written.
    """

    queued: int = 0
    active: int = 0
    elsewhere: int = 0
    is_full: bool = False
    pending: int = 0
    breaker: BreakerSnapshot = BreakerSnapshot()


@attrs.frozen(kw_only=True)
class ServingSnapshot:
    """The numbers of the servers of one process; times in seconds.

    Attributes:
        connections: open ones, by what they wait for.
        parked: of them, those of refused requests that are not read for now.
        loop_seconds: loop time by account: a tier's name, or ``""`` for what is nobody's.
        loop_lag: how late the event loop's timers came at worst lately.
        log_lines_dropped: that could not be written, since the start.
    """

    connections: dict[str, int] = attrs.field(factory=dict)
    parked: int = 0
    loop_seconds: dict[str, float] = attrs.field(factory=dict)
    loop_lag: float = 0.0
    log_lines_dropped: int = 0


@attrs.frozen(kw_only=True)
class ProcessSnapshot:
    """All numbers of one process.

    Attributes:
        worker: which one it is, from 0.
        tiers: by name, in the order of their declaration.
        gateway: ``None`` while there is none.
        deliveries: likewise.
    """

    worker: int = 0
    tiers: dict[str, TierSnapshot]
    orders: DeskSnapshot = DeskSnapshot()
    serving: ServingSnapshot = ServingSnapshot()
    gateway: GatewaySnapshot | None = None
    deliveries: DeliverySnapshot | None = None


@attrs.frozen
class Census:
    """What all processes of one server hold at about one moment.

    Attributes:
        workers: how many processes there should be.
        processes: those that have answered, by number.
    """

    workers: int
    processes: tuple[ProcessSnapshot, ...]

    @property
    def missing(self) -> tuple[int, ...]:
        """The numbers of those that have not answered in time."""
        answered = {process.worker for process in self.processes}
        return tuple(number for number in range(self.workers) if number not in answered)

    def tier(self, name: str) -> Mapping[int, TierSnapshot]:
        """One tier in each process, by the process's number."""
        return {process.worker: process.tiers[name] for process in self.processes}


class CensusTaker(Protocol):
    """Asks every process of the server."""

    async def take(self) -> Census:
        """What they hold now; within half a second, whoever does not answer."""
