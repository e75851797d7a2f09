"""The gateway's numbers in Prometheus's text format.

Written here, and in pieces, since there may be fifty thousand lines: prometheus_client takes a
quarter of a second for them, for which everybody else would have to wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, chain
from typing import Final, TypeAlias

from prometheus_client.utils import floatToGoString

from bulkhead_trio.observe._gateway_totals_rules import total_but_routes, total_routes
from bulkhead_trio.observe.gateway_snapshots import (
    BUCKETS,
    GatewaySnapshot,
    RedisSnapshot,
    RouteSnapshot,
    TimesSnapshot,
    UpstreamSnapshot,
)

PIECE_LINES: Final = 1000
PIECE_ROUTES: Final = 100
"""About a millisecond's work each."""

_PREFIX: Final = "bulkhead_gateway_"
_STATES: Final = ("CLOSED", "OPEN", "HALF_OPEN")
_BOUNDS: Final = (*map(floatToGoString, BUCKETS), "+Inf")

Lines: TypeAlias = Iterator[str]


def gateway_exposition(parts: Sequence[GatewaySnapshot]) -> Iterator[bytes]:
    """All its metrics, in pieces that belong one behind the other; each is a moment's work.

    Args:
        parts: one of each process.
    """
    routes: dict[str, RouteSnapshot] = {}
    for route_id, route in total_routes(parts):
        routes[route_id] = route
        if len(routes) % PIECE_ROUTES == 0:
            yield b""
    piece: list[str] = []
    for line in chain(_by_route(routes), _whole(total_but_routes(parts))):
        piece.append(line)
        if len(piece) >= PIECE_LINES:
            yield "".join(piece).encode()
            piece.clear()
    yield "".join(piece).encode()


def _by_route(routes: Mapping[str, RouteSnapshot]) -> Lines:
    for name, kind, text, of_route in _OF_ROUTES:
        yield _head(name, kind, text)
        for route_id, route in routes.items():
            yield from of_route(_PREFIX + name, f'route="{route_id}"', route)
    for name, kind, text, of_upstream in _OF_UPSTREAMS:
        yield _head(name, kind, text)
        for route_id, route in routes.items():
            for label, upstream in route.upstreams.items():
                labels = f'route="{route_id}",upstream="{label}"'
                yield from of_upstream(_PREFIX + name, labels, upstream)


def _head(name: str, kind: str, text: str) -> str:
    return f"# HELP {_PREFIX}{name} {text}\n# TYPE {_PREFIX}{name} {kind}\n"


# --- routes ---------------------------------------------------------------------------------------
# Ids, digits of digests and codes need no escapes.


def _ended(name: str, labels: str, counted: RouteSnapshot | UpstreamSnapshot) -> Lines:
    for outcome, count in counted.outcomes.items():
        yield f'{name}{{{labels},outcome="{outcome}"}} {count}\n'


def _times(name: str, labels: str, counted: RouteSnapshot | UpstreamSnapshot) -> Lines:
    times: TimesSnapshot = counted.times
    below = 0
    for bound, below in zip(_BOUNDS, accumulate(times.counts), strict=True):
        yield f'{name}_bucket{{{labels},le="{bound}"}} {below}\n'
    yield f"{name}_count{{{labels}}} {below}\n"
    yield f"{name}_sum{{{labels}}} {times.seconds!r}\n"


def _retries(name: str, labels: str, route: RouteSnapshot) -> Lines:
    yield f"{name}{{{labels}}} {route.retries}\n"


def _fallbacks(name: str, labels: str, route: RouteSnapshot) -> Lines:
    for kind, count in route.fallbacks.items():
        yield f'{name}{{{labels},outcome="{kind}"}} {count}\n'


_OF_ROUTES: Final[tuple[tuple[str, str, str, Callable[[str, str, RouteSnapshot], Lines]], ...]] = (
    ("requests_total", "counter", "Requests that ended, by how.", _ended),
    (
        "own_duration_seconds",
        "histogram",
        "Time of requests that was the gateway's own: all but that of upstreams.",
        _times,
    ),
    ("retries_total", "counter", "Tries after the first.", _retries),
    (
        "fallbacks_total",
        "counter",
        "Requests that something stood in for the route's upstreams of, by what.",
        _fallbacks,
    ),
)


# --- upstreams ------------------------------------------------------------------------------------


def _up(name: str, labels: str, upstream: UpstreamSnapshot) -> Lines:
    if upstream.is_up is not None:
        yield f"{name}{{{labels}}} {upstream.is_up:d}\n"


def _breaker(name: str, labels: str, upstream: UpstreamSnapshot) -> Lines:
    if upstream.breaker is not None:
        for state in _STATES:
            is_in = upstream.breaker == state
            yield f'{name}{{{labels},state="{state.lower()}"}} {is_in:d}\n'


def _in_flight(name: str, labels: str, upstream: UpstreamSnapshot) -> Lines:
    if upstream.is_up is not None:
        yield f"{name}{{{labels}}} {upstream.in_flight}\n"


def _ejections(name: str, labels: str, upstream: UpstreamSnapshot) -> Lines:
    if upstream.is_up is not None:
        yield f"{name}{{{labels}}} {upstream.ejections}\n"


_OF_UPSTREAMS: Final[
    tuple[tuple[str, str, str, Callable[[str, str, UpstreamSnapshot], Lines]], ...]
] = (
    ("upstream_requests_total", "counter", "Tries that ended, by how.", _ended),
    (
        "upstream_duration_seconds",
        "histogram",
        "Time from choosing an upstream to the end of its answer.",
        _times,
    ),
    ("upstream_up", "gauge", "Whether requests go there, as far as its health goes.", _up),
    ("upstream_breaker_state", "gauge", "1 for the state that it is in.", _breaker),
    ("upstream_in_flight", "gauge", "Requests that it has, or that wait for it.", _in_flight),
    ("upstream_ejections_total", "counter", "Times that it was ejected.", _ejections),
)


# --- the whole gateway ----------------------------------------------------------------------------


def _whole(gateway: GatewaySnapshot) -> Lines:
    limits, keys, changes, client = gateway.limits, gateway.keys, gateway.changes, gateway.client
    yield from _gauge("routes", "Routes that there are.", gateway.route_count)
    yield from _family(
        "upstreams",
        "gauge",
        "Upstreams of all routes, by whether requests go there.",
        {'state="up"': gateway.upstreams_up, 'state="down"': gateway.upstreams_down},
    )
    yield from _family(
        "tunnels",
        "gauge",
        "Open WebSockets and event streams.",
        {f'tier="{_escaped(tier)}"': count for tier, count in gateway.tunnels.items()},
    )
    yield from _gauge("tenants", "Tenants whose rate limit has been used lately.", limits.tenants)
    yield from _family(
        "tenant_limit_decisions_total",
        "counter",
        "Requests that tenants' rate limits have decided about.",
        {'outcome="allowed"': limits.allowed, 'outcome="refused"': limits.refused},
    )
    yield from _counter(
        "tenant_limit_without_redis_total",
        "Of those, decided by one instance, since Redis was away.",
        limits.without_redis,
    )
    yield from _counter(
        "tenant_limit_denied_total", "Of those, refused for that alone.", limits.denied
    )
    yield from _gauge("keys", "API keys that something is known of.", keys.known)
    yield from _gauge("keys_unwritten", "Keys whose last use is to be recorded.", keys.unwritten)
    yield from _family(
        "key_lookups_total",
        "counter",
        "API keys that were looked up: known here, in Redis, asked of the database, or never made.",
        {
            'outcome="remembered"': keys.hits,
            'outcome="shared"': keys.shared_hits,
            'outcome="asked"': keys.lookups,
            'outcome="invented"': keys.invented,
        },
    )
    yield from _gauge(
        "changes_listening", "Whether changes are told as they commit.", changes.is_listening
    )
    if changes.age is not None:
        yield from _gauge(
            "changes_age_seconds", "How old what has been told of last may be.", changes.age
        )
    yield from _counter("changes_connected_total", "Times it began to listen.", changes.connected)
    yield from _counter("changes_total", "Changes that were told of.", changes.changes)
    yield from _family(
        "client_connections",
        "gauge",
        "Connections to upstreams.",
        {'state="active"': client.active, 'state="idle"': client.idle},
    )
    yield from _gauge("client_waiting", "Requests that wait for a connection.", client.waiting)
    if gateway.redis is not None:
        yield from _redis(gateway.redis)


def _redis(redis: RedisSnapshot) -> Lines:
    yield from _gauge("redis_up", "Whether calls are sent to it.", redis.is_up)
    yield from _gauge("instances", "Instances that share Redis.", redis.instances)
    yield from _gauge("redis_connections", "Open connections.", redis.connections)
    yield from _gauge("redis_in_flight", "Calls under way.", redis.in_flight)
    yield from _counter("redis_calls_total", "Calls that were sent.", redis.calls)
    yield from _counter("redis_round_trips_total", "Round trips that they took.", redis.round_trips)
    yield from _family(
        "redis_failures_total",
        "counter",
        "Calls that had no answer, by why.",
        {'outcome="failed"': redis.failed, 'outcome="refused"': redis.refused},
    )
    yield from _counter(
        "redis_late_total", "Round trips that were not answered in time.", redis.late
    )
    yield from _counter("redis_sessions_total", "Times that it was found well.", redis.sessions)


def _gauge(name: str, text: str, number: float) -> Lines:
    yield from _family(name, "gauge", text, {"": number})


def _counter(name: str, text: str, number: int) -> Lines:
    yield from _family(name, "counter", text, {"": number})


def _family(name: str, kind: str, text: str, samples: Mapping[str, float]) -> Lines:
    yield _head(name, kind, text)
    for labels, number in samples.items():
        braces = f"{{{labels}}}" if labels else ""
        yield f"{_PREFIX}{name}{braces} {+number!r}\n"  # of a bool, its number


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
