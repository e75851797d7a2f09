"""Numbers of the gateways of several processes added up. Pure.

Counters, gauges and histograms are sums. Where processes may see the same thing differently, the
worst counts: an upstream is up where all have it up, Redis likewise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from itertools import islice
from operator import add, attrgetter
from typing import TypeVar

import msgspec

from bulkhead_trio.observe.gateway_snapshots import (
    MOST_ROUTES,
    NO_ROUTE,
    OTHERS,
    ChangesSnapshot,
    ClientSnapshot,
    GatewaySnapshot,
    KeysSnapshot,
    LimitsSnapshot,
    RedisSnapshot,
    RouteSnapshot,
    TimesSnapshot,
    UpstreamSnapshot,
)

S = TypeVar("S", bound=msgspec.Struct)

_WORST_LAST = ("CLOSED", "HALF_OPEN", "OPEN")


def total_gateway(parts: Sequence[GatewaySnapshot]) -> GatewaySnapshot:
    """The gateways of all processes, as if they were one."""
    whole = total_but_routes(parts)
    return msgspec.structs.replace(whole, routes=dict(total_routes(parts)))


def total_routes(parts: Sequence[GatewaySnapshot]) -> Iterator[tuple[str, RouteSnapshot]]:
    """All routes of all processes with their numbers added up, one after the other.

    There may be so many that whoever takes them should let others have their turn in between.
    """
    for route_id in dict.fromkeys(route_id for part in parts for route_id in part.routes):
        found = [part.routes[route_id] for part in parts if route_id in part.routes]
        yield route_id, reduce(added_routes, found)


def total_but_routes(parts: Sequence[GatewaySnapshot]) -> GatewaySnapshot:
    """All that is said of no single route."""
    tunnels: Mapping[str, int] = {}
    for part in parts:
        tunnels = _added(tunnels, part.tunnels)
    return GatewaySnapshot(
        route_count=max((part.route_count for part in parts), default=0),
        upstreams_up=min((part.upstreams_up for part in parts), default=0),
        upstreams_down=max((part.upstreams_down for part in parts), default=0),
        tunnels=tunnels,
        limits=_sums(LimitsSnapshot, [part.limits for part in parts]),
        keys=_sums(KeysSnapshot, [part.keys for part in parts]),
        changes=_total_changes([part.changes for part in parts]),
        redis=_total_redis([part.redis for part in parts if part.redis is not None]),
        client=_sums(ClientSnapshot, [part.client for part in parts]),
    )


def added_routes(one: RouteSnapshot, other: RouteSnapshot) -> RouteSnapshot:
    """What two processes say of a route, as if it were one."""
    upstreams = dict(one.upstreams)
    for name, upstream in other.upstreams.items():
        before = upstreams.get(name)
        upstreams[name] = upstream if before is None else added_upstreams(before, upstream)
    return RouteSnapshot(
        _added(one.outcomes, other.outcomes),
        _added_times(one.times, other.times),
        one.retries + other.retries,
        _added(one.fallbacks, other.fallbacks),
        upstreams,
    )


def added_upstreams(one: UpstreamSnapshot, other: UpstreamSnapshot) -> UpstreamSnapshot:
    """What two processes say of an upstream, as if it were one; of its health, the worse."""
    is_up, breaker = one.is_up, one.breaker
    if is_up is None or other.is_up is False:
        is_up = other.is_up
    if breaker is None or (
        other.breaker is not None and _WORST_LAST.index(other.breaker) > _WORST_LAST.index(breaker)
    ):
        breaker = other.breaker
    return UpstreamSnapshot(
        _added(one.outcomes, other.outcomes),
        _added_times(one.times, other.times),
        one.in_flight + other.in_flight,
        is_up,
        one.ejections + other.ejections,
        breaker,
    )


def gateway_counters(gateway: GatewaySnapshot) -> GatewaySnapshot:
    """What a gateway has counted, without what it holds: what outlives its process."""
    limits, keys, changes, redis = gateway.limits, gateway.keys, gateway.changes, gateway.redis
    replace = msgspec.structs.replace
    return GatewaySnapshot(
        routes={
            route_id: counted
            for route_id, route in gateway.routes.items()
            if (counted := _route_counters(route)).outcomes or counted.upstreams
        },
        limits=replace(limits, tenants=0),
        keys=replace(keys, known=0, unwritten=0),
        changes=ChangesSnapshot(connected=changes.connected, changes=changes.changes),
        redis=None
        if redis is None
        else replace(redis, is_up=False, instances=0, connections=0, in_flight=0),
    )


def continued_gateway(
    gateway: GatewaySnapshot, past: GatewaySnapshot, *, most_routes: int = MOST_ROUTES
) -> GatewaySnapshot:
    """What a gateway holds, with what its predecessors had counted.

    As many routes are told apart as in one process: those that the predecessors had first, so that
    what was told apart once stays so. Theirs that are no more are not forgotten.

    Args:
        gateway: as it is now.
        past: as `gateway_counters` left it.
        most_routes: told apart.
    """
    names = dict.fromkeys((*past.routes, *gateway.routes))
    named = (name for name in names if name not in (OTHERS, NO_ROUTE))
    too_many = frozenset(islice(named, most_routes, None))
    found: dict[str, RouteSnapshot] = {}
    for part in (past, gateway):
        for name, route in part.routes.items():
            if name in too_many:
                name, route = OTHERS, _nameless(route)
            found[name] = added_routes(found[name], route) if name in found else route
    redis = gateway.redis
    return msgspec.structs.replace(
        gateway,
        routes=found,
        limits=_sums(LimitsSnapshot, [gateway.limits, past.limits]),
        keys=_sums(KeysSnapshot, [gateway.keys, past.keys]),
        changes=msgspec.structs.replace(
            gateway.changes,
            connected=gateway.changes.connected + past.changes.connected,
            changes=gateway.changes.changes + past.changes.changes,
        ),
        redis=None
        if redis is None
        else msgspec.structs.replace(
            _sums(RedisSnapshot, [each for each in (redis, past.redis) if each is not None]),
            is_up=redis.is_up,
        ),
    )


def _route_counters(route: RouteSnapshot) -> RouteSnapshot:
    return RouteSnapshot(
        route.outcomes,
        route.times,
        route.retries,
        route.fallbacks,
        {
            name: UpstreamSnapshot(each.outcomes, each.times)
            for name, each in route.upstreams.items()
            if each.outcomes
        },
    )


def _nameless(route: RouteSnapshot) -> RouteSnapshot:
    """A route as a part of `OTHERS`: its upstreams are not told apart either."""
    upstreams = {}
    if route.upstreams:
        whole = reduce(added_upstreams, route.upstreams.values())
        upstreams[OTHERS] = UpstreamSnapshot(whole.outcomes, whole.times)
    return msgspec.structs.replace(route, upstreams=upstreams)


def _total_changes(parts: Sequence[ChangesSnapshot]) -> ChangesSnapshot:
    ages = [part.age for part in parts if part.age is not None]
    return ChangesSnapshot(
        is_listening=bool(parts) and all(part.is_listening for part in parts),
        age=max(ages) if ages and len(ages) == len(parts) else None,
        connected=sum(part.connected for part in parts),
        changes=sum(part.changes for part in parts),
    )


def _total_redis(parts: Sequence[RedisSnapshot]) -> RedisSnapshot | None:
    if not parts:
        return None
    return msgspec.structs.replace(
        _sums(RedisSnapshot, parts),
        is_up=all(part.is_up for part in parts),
        instances=max(part.instances for part in parts),
    )


def _added_times(one: TimesSnapshot, other: TimesSnapshot) -> TimesSnapshot:
    return TimesSnapshot(tuple(map(add, one.counts, other.counts)), one.seconds + other.seconds)


def _sums(kind: type[S], parts: Sequence[S]) -> S:
    """Records of nothing but numbers, added up."""
    names = kind.__struct_fields__
    return kind(*(sum(map(attrgetter(name), parts)) for name in names))


def _added(one: Mapping[str, int], other: Mapping[str, int]) -> Mapping[str, int]:
    if not other:
        return one
    found = dict(one)
    for key, number in other.items():
        found[key] = found.get(key, 0) + number
    return found
