"""What a group of upstreams is made from: frozen, in seconds, checked as they are made."""

from __future__ import annotations

from collections import Counter
from typing import TypeAlias

import attrs

from bulkhead_trio.gateway._balance_rules import Balancing
from bulkhead_trio.gateway._health_rules import CheckLimits, EjectionLimits
from bulkhead_trio.policies._checks import (
    check_duration,
    check_positive,
    check_seconds,
    check_whole,
)
from bulkhead_trio.policies.breaker import Consecutive, CountWindow, TimeWindow

UpstreamKey: TypeAlias = tuple[str, str, str]
"""Whose upstream it is: the tenant's id, the route's id, and its URL."""

FIVE_IN_A_ROW = Consecutive(5)


@attrs.frozen
class UpstreamSettings:
    """One upstream.

    Attributes:
        url: where it is, with the base path that requests are put behind.
        weight: its part beside the others' weights, above 0.
    """

    url: str
    weight: float = 1.0

    def __attrs_post_init__(self) -> None:
        check_positive("weight", self.weight)


@attrs.frozen(kw_only=True)
class BreakerSettings:
    """When an upstream's breaker opens, and how it closes again.

    Attributes:
        window: what it looks back on.
        failure_rate: share of failures that opens it; not for `Consecutive`.
        minimum_calls: calls before a rate is looked at; not for `Consecutive`.
        cooldown: seconds from opening to the first probe.
        successes: good probes that close it, one after the other.
    """

    window: Consecutive | CountWindow | TimeWindow = FIVE_IN_A_ROW
    failure_rate: float | None = None
    minimum_calls: int | None = None
    cooldown: float = 30.0
    successes: int = 1


@attrs.frozen
class LimitSettings:
    """How many requests an upstream gets at once.

    Attributes:
        max_concurrent: 1 or more.
        queue_size: how many more may wait; 0 or more.
    """

    max_concurrent: int
    queue_size: int = 0

    def __attrs_post_init__(self) -> None:
        check_whole("max_concurrent", self.max_concurrent, minimum=1)
        check_whole("queue_size", self.queue_size, minimum=0)


@attrs.frozen(kw_only=True)
class CheckSettings:
    """How upstreams are checked.

    Attributes:
        endpoint: path and query that are asked for, behind the base path of the upstream's URL.
        interval: seconds from one check's start to the next one's.
        timeout: seconds for one check.
        limits: how many in a row change the verdict.
    """

    endpoint: str = "/health"
    interval: float = 30.0
    timeout: float = 5.0
    limits: CheckLimits = CheckLimits()  # noqa: RUF009  frozen

    def __attrs_post_init__(self) -> None:
        if not self.endpoint.startswith("/"):
            raise ValueError(f"endpoint must begin with a slash, not {self.endpoint!r}")
        check_duration("interval", self.interval)
        check_duration("timeout", self.timeout)

    def url(self, upstream: str) -> str:
        """What is asked for of an upstream."""
        return upstream.partition("?")[0].rstrip("/") + self.endpoint


@attrs.frozen(kw_only=True)
class GroupSettings:
    """The upstreams of one route, and what protects them; each of it is off where it is ``None``.

    Attributes:
        tenant_id: whose route it is.
        route_id: the route.
        upstreams: at least one, each URL once.
        balancing: how requests are shared out; weights count except for ``ROUND_ROBIN``.
        breaker: one for each upstream.
        bulkhead: one for each upstream.
        checks: active health checks.
        ejection: taking out what fails too often in a row.
        slow_start: seconds over which an upstream that came back gets its weight again; 0 for at
            once.

    Raises:
        ValueError: a value makes no sense; it is named.
    """

    tenant_id: str
    route_id: str
    upstreams: tuple[UpstreamSettings, ...]
    balancing: Balancing = Balancing.ROUND_ROBIN
    breaker: BreakerSettings | None = None
    bulkhead: LimitSettings | None = None
    checks: CheckSettings | None = None
    ejection: EjectionLimits | None = None
    slow_start: float = 0.0

    def __attrs_post_init__(self) -> None:
        check_seconds("slow_start", self.slow_start)
        if not self.upstreams:
            raise ValueError("upstreams must have one at least")
        url, times = Counter(each.url for each in self.upstreams).most_common(1)[0]
        if times > 1:
            raise ValueError(f"upstreams must not have a URL twice, as {url!r}")

    def key(self, url: str) -> UpstreamKey:
        """The key of one of its upstreams."""
        return (self.tenant_id, self.route_id, url)

    def weight(self, upstream: UpstreamSettings) -> float:
        """What the weight of one of its upstreams is in its way of balancing."""
        return 1.0 if self.balancing is Balancing.ROUND_ROBIN else upstream.weight

    def keeps_state_of(self, other: GroupSettings) -> bool:
        """Whether upstreams of ``other`` may go on as upstreams of this one.

        How they are shared out may have changed; what is counted in them must mean the same.
        """
        return (
            self.tenant_id == other.tenant_id
            and self.breaker == other.breaker
            and self.bulkhead == other.bulkhead
            and self.checks == other.checks
            and self.ejection == other.ejection
        )
