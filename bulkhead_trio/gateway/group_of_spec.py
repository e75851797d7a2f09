"""From a route document to the settings of its upstreams."""

from __future__ import annotations

from collections.abc import Iterable

from bulkhead_trio.gateway._balance_rules import Balancing
from bulkhead_trio.gateway._health_rules import CheckLimits, EjectionLimits
from bulkhead_trio.gateway.group_settings import (
    BreakerSettings,
    CheckSettings,
    GroupSettings,
    LimitSettings,
    UpstreamSettings,
)
from bulkhead_trio.gateway.resilience_spec import (
    BreakerSpec,
    BulkheadSpec,
    EjectionSpec,
    HealthCheckSpec,
    switched_on,
)
from bulkhead_trio.gateway.spec import RouteSpec
from bulkhead_trio.policies.breaker import Consecutive, CountWindow

FALLBACK_SUFFIX = ".fallback"
"""After a route's id: the id of the group of its fallback upstream. No route has such an id."""


def group_settings(route_id: str, spec: RouteSpec) -> GroupSettings:
    """The settings of a route's upstreams."""
    upstreams = (UpstreamSettings(each.url, float(each.weight)) for each in spec.upstreams)
    return _settings(route_id, spec, upstreams)


def fallback_id(route_id: str) -> str:
    """The id of the group that a route falls back to."""
    return route_id + FALLBACK_SUFFIX


def fallback_settings(route_id: str, spec: RouteSpec) -> GroupSettings | None:
    """The settings of the upstream that a route falls back to; ``None`` where it has none.

    A group of its own with one upstream, protected as the route's others are.
    """
    fallback = switched_on(spec.resilience.fallback)
    if fallback is None or fallback.upstream is None:
        return None
    return _settings(fallback_id(route_id), spec, [UpstreamSettings(fallback.upstream)])


def _settings(
    route_id: str, spec: RouteSpec, upstreams: Iterable[UpstreamSettings]
) -> GroupSettings:
    resilience = spec.resilience
    return GroupSettings(
        tenant_id=spec.tenant_id,
        route_id=route_id,
        upstreams=tuple(upstreams),
        balancing=Balancing(spec.load_balancing),
        breaker=_breaker(switched_on(resilience.circuit_breaker)),
        bulkhead=_limit(switched_on(resilience.bulkhead)),
        checks=_checks(switched_on(resilience.health_check)),
        ejection=_ejection(switched_on(resilience.ejection)),
        slow_start=spec.slow_start_ms / 1000,
    )


def _breaker(spec: BreakerSpec | None) -> BreakerSettings | None:
    if spec is None:
        return None
    cooldown, successes = spec.timeout / 1000, spec.success_threshold
    if spec.failure_rate_threshold is None:
        return BreakerSettings(
            window=Consecutive(spec.failure_threshold), cooldown=cooldown, successes=successes
        )
    return BreakerSettings(
        window=CountWindow(spec.window),
        failure_rate=spec.failure_rate_threshold / 100,
        minimum_calls=spec.least_calls,
        cooldown=cooldown,
        successes=successes,
    )


def _limit(spec: BulkheadSpec | None) -> LimitSettings | None:
    return None if spec is None else LimitSettings(spec.max_concurrent, spec.queue_size)


def _checks(spec: HealthCheckSpec | None) -> CheckSettings | None:
    if spec is None:
        return None
    return CheckSettings(
        endpoint=spec.endpoint,
        interval=spec.interval_ms / 1000,
        timeout=spec.timeout_ms / 1000,
        limits=CheckLimits(spec.healthy_threshold, spec.unhealthy_threshold),
    )


def _ejection(spec: EjectionSpec | None) -> EjectionLimits | None:
    if spec is None:
        return None
    return EjectionLimits(spec.consecutive_failures, spec.base_ms / 1000, spec.max_ms / 1000)
