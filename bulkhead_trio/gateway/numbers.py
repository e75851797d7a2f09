"""What metrics say of routes: what has gone there, and how their upstreams are now."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from heapq import nsmallest

from bulkhead_trio.gateway.breaker import UpstreamBreaker
from bulkhead_trio.gateway.group_of_spec import fallback_id
from bulkhead_trio.gateway.groups import Groups
from bulkhead_trio.gateway.traffic import Traffic
from bulkhead_trio.gateway.upstream import Upstream
from bulkhead_trio.observe.gateway_snapshots import (
    MOST_UPSTREAMS,
    RouteSnapshot,
    UpstreamSnapshot,
)
from bulkhead_trio.policies.breaker import BreakerState

CLOSED = BreakerState.CLOSED.value

_NOTHING = UpstreamSnapshot()


def routes_now(
    traffic: Traffic,
    route_ids: Collection[str],
    groups: Groups,
    *,
    most_upstreams: int = MOST_UPSTREAMS,
) -> dict[str, RouteSnapshot]:
    """The numbers of the routes that are told apart, and of all others together.

    What is counted for routes and upstreams that are no more is forgotten.

    Args:
        traffic: what has gone where.
        route_ids: of all routes that there are.
        groups: their upstreams.
        most_upstreams: whose health is told.
    """
    standing = {
        route_id: _standing(groups, route_id) for route_id in _told_apart(traffic, route_ids)
    }
    traffic.keep_only(standing)
    found = traffic.statistics()
    nothing, room = RouteSnapshot(), most_upstreams
    for route_id, upstreams in standing.items():
        room -= len(upstreams)
        if room < 0:
            break
        counted = found.get(route_id, nothing)
        found[route_id] = RouteSnapshot(
            counted.outcomes,
            counted.times,
            counted.retries,
            counted.fallbacks,
            _merged(counted.upstreams, upstreams),
        )
    return found


def _told_apart(traffic: Traffic, route_ids: Collection[str]) -> Iterable[str]:
    """Those that have had requests; and as far as there is room others, the same ones each time."""
    named = [name for name in traffic.names() if name in route_ids]
    room = traffic.most_routes - len(named)
    if room <= 0 or len(named) == len(route_ids):
        return named
    known = frozenset(named)
    return [*named, *nsmallest(room, (each for each in route_ids if each not in known))]


def _standing(groups: Groups, route_id: str) -> dict[str, Upstream]:
    """A route's upstreams, the one that it falls back to included."""
    found: dict[str, Upstream] = {}
    for group_id in (route_id, fallback_id(route_id)):
        group = groups.get(group_id)
        if group is None:
            continue
        if not all(each.is_up for each in group.upstreams):
            group.statistics()  # ends the ejections that are over, which nobody has noticed yet
        for each in group.upstreams:
            # Of a URL that stands for itself and for others: how it is among the others.
            found.setdefault(_label_of(each.url), each)
    return found


def _merged(
    counted: Mapping[str, UpstreamSnapshot], standing: Mapping[str, Upstream]
) -> dict[str, UpstreamSnapshot]:
    found = dict(counted)
    for label, upstream in standing.items():
        before = counted.get(label, _NOTHING)
        breaker = upstream.breaker
        found[label] = UpstreamSnapshot(
            before.outcomes,
            before.times,
            upstream.in_flight,
            upstream.is_up,
            upstream.ejections,
            None if breaker is None else _state_of(breaker),
        )
    return found


def _state_of(breaker: UpstreamBreaker) -> str:
    return CLOSED if breaker.is_closed else breaker.statistics().state.value


@lru_cache(maxsize=2 * MOST_UPSTREAMS)
def _label_of(url: str) -> str:
    """The eight digits that `bulkhead_trio.gateway.route.Destination` has for a URL."""
    return hashlib.sha256(url.encode()).hexdigest()[:8]
