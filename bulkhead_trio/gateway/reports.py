"""What upstreams and their groups say of themselves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeAlias

import attrs
import msgspec

from bulkhead_trio.policies.breaker import BreakerStatistics
from bulkhead_trio.policies.bulkhead import BulkheadStatistics


@attrs.frozen(kw_only=True)
class UpstreamStatistics:
    """What an upstream has at one moment, and has counted since it was made.

    Attributes:
        url: where it is.
        weight: its own; in its slow start it has less.
        health: ``unknown``, ``healthy``, ``unhealthy`` (checks) or ``ejected`` (requests).
        is_up: whether requests go there, as far as its health goes.
        in_flight: requests that it has, those included that wait for its bulkhead.
        succeeded: requests that ended well.
        failed: requests that it failed.
        ignored: requests whose end said nothing of it.
        ejections: how often it was ejected.
        breaker: ``None`` without one.
        bulkhead: ``None`` without one.
    """

    url: str
    weight: float
    health: str
    is_up: bool
    in_flight: int
    succeeded: int
    failed: int
    ignored: int
    ejections: int
    breaker: BreakerStatistics | None
    bulkhead: BulkheadStatistics | None


@attrs.frozen(kw_only=True)
class GroupStatistics:
    """What a group of upstreams has at one moment, and has counted since it was made.

    Attributes:
        picked: requests that were given an upstream.
        down: requests that found all of them down.
        open: requests that found the breakers of all that were up open.
        upstreams: in the order of the route.
    """

    tenant_id: str
    route_id: str
    picked: int
    down: int
    open: int
    upstreams: tuple[UpstreamStatistics, ...]


@attrs.frozen
class UpstreamHealthChanged:
    """What a listener is told when an upstream's health has changed.

    Attributes:
        before: ``unknown``, ``healthy``, ``unhealthy`` or ``ejected``.
        after: likewise.
        at: when, on Trio's clock; for the end of an ejection, when it was noticed.
    """

    tenant_id: str
    route_id: str
    url: str
    before: str
    after: str
    at: float


HealthListener: TypeAlias = Callable[[UpstreamHealthChanged], None]


class BreakerReport(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """An upstream's breaker, for people.

    Attributes:
        state: ``CLOSED``, ``OPEN`` or ``HALF_OPEN``.
        failures: in its window.
        retry_after: seconds that are left of its cooldown; 0 where there is none.
    """

    state: str
    failures: int
    retry_after: float


class UpstreamReport(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """An upstream's health, for people; in JSON its names are camelCase.

    Attributes:
        url: where it is.
        weight: its own.
        healthy: whether requests go there, as far as its health goes.
        state: ``unknown``, ``healthy``, ``unhealthy`` (checks) or ``ejected`` (requests).
        last_check: when the last check ended; ``None`` before the first.
        consecutive_successes: checks in a row that passed.
        consecutive_failures: checks in a row that failed.
        failed_requests: requests in a row that failed, where that is watched.
        ejected_until: when it is let in again; ``None`` while it is not ejected.
        ejections: how often it was ejected.
        in_flight: requests that it has.
        circuit_breaker: ``None`` without one.
    """

    url: str
    weight: float
    healthy: bool
    state: str
    last_check: datetime | None
    consecutive_successes: int
    consecutive_failures: int
    failed_requests: int
    ejected_until: datetime | None
    ejections: int
    in_flight: int
    circuit_breaker: BreakerReport | None


class HealthReport(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The health of a route's upstreams, for people.

    Attributes:
        healthy: whether one of them is up at least.
        upstreams: in the order of the route.
    """

    route_id: str
    healthy: bool
    upstreams: tuple[UpstreamReport, ...]
