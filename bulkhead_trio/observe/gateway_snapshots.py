"""What one process's gateway holds and has counted, in a form that can be sent and added up.

There may be thousands of these numbers, so they travel without their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

BUCKETS: Final = (0.001, 0.005, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0)
"""Seconds: from what the gateway itself may take to what a patient caller waits. Few, for there is
a set of them for each upstream of each route."""

MOST_ROUTES: Final = 1000
"""Routes that are told apart; what goes to others is counted together."""

MOST_UPSTREAMS: Final = 4000
"""Upstreams of theirs that are told apart, likewise."""

OTHERS: Final = "others"
"""The name of all routes, or of all upstreams of a route, that are not told apart."""

NO_ROUTE: Final = "none"
"""The name that requests go by which no route matches."""


class TimesSnapshot(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Durations counted by `BUCKETS`.

    Attributes:
        counts: for each bucket, those that are in it and in none before it; the last one has no
            upper bound.
        seconds: all of them together.
    """

    counts: tuple[int, ...] = (0,) * (len(BUCKETS) + 1)
    seconds: float = 0.0


class UpstreamSnapshot(msgspec.Struct, frozen=True, array_like=True):
    """The numbers of one upstream of a route.

    Attributes:
        outcomes: how many tries ended how: an answer's class, such as ``2xx``, an error's code, or
            ``cancelled``.
        times: how long they took, from choosing the upstream to the end of its answer.
        in_flight: requests that it has, those included that wait for its bulkhead.
        is_up: whether requests go there, as far as its health goes; ``None`` where that is not
            known, since it is several upstreams or none of the route any more.
        ejections: how often it was ejected.
        breaker: ``CLOSED``, ``OPEN`` or ``HALF_OPEN``; ``None`` without one.
    """

    outcomes: Mapping[str, int] = {}
    times: TimesSnapshot = TimesSnapshot()
    in_flight: int = 0
    is_up: bool | None = None
    ejections: int = 0
    breaker: str | None = None


class RouteSnapshot(msgspec.Struct, frozen=True, array_like=True):
    """The numbers of one route.

    Attributes:
        outcomes: how many requests ended how, in words as those of upstreams.
        times: how much of their time was the gateway's own.
        retries: tries after the first.
        fallbacks: requests that went to what stands in for the upstreams: ``upstream``, ``answer``.
        upstreams: by eight digits that stand for the URL.
    """

    outcomes: Mapping[str, int] = {}
    times: TimesSnapshot = TimesSnapshot()
    retries: int = 0
    fallbacks: Mapping[str, int] = {}
    upstreams: Mapping[str, UpstreamSnapshot] = {}


class LimitsSnapshot(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What tenants' rate limits have decided.

    Attributes:
        tenants: whose use is remembered in this process.
        allowed: requests that might pass.
        refused: requests that might not.
        without_redis: of all, decided here because Redis was away.
        denied: of those, refused for that reason alone.
    """

    tenants: int = 0
    allowed: int = 0
    refused: int = 0
    without_redis: int = 0
    denied: int = 0


class KeysSnapshot(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is known of API keys, and how it came to be.

    Attributes:
        known: keys that something is known of.
        unwritten: keys whose last use is still to be recorded.
        hits: keys that were answered for from memory.
        lookups: questions to the database.
        shared_hits: answers that another instance had left.
        invented: keys refused without a question, for ids that were never made here.
    """

    known: int = 0
    unwritten: int = 0
    hits: int = 0
    lookups: int = 0
    shared_hits: int = 0
    invented: int = 0


class ChangesSnapshot(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How the feed of changes is doing.

    Attributes:
        is_listening: whether every change is told as it commits.
        age: seconds since the moment up to which everything has been told; ``None``: never.
        connected: how often it has begun to listen.
        changes: how many changes it has told.
    """

    is_listening: bool = False
    age: float | None = None
    connected: int = 0
    changes: int = 0


class RedisSnapshot(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is known of Redis, and what was asked of it.

    Attributes:
        is_up: whether calls are sent.
        instances: that share it, as far as is known.
        connections: that are open.
        in_flight: calls under way.
        calls: that were sent.
        round_trips: that they took.
        failed: calls that failed, late ones included.
        late: round trips that were not answered in time.
        refused: calls that were not sent, Redis being away.
        sessions: times that Redis was found well.
    """

    is_up: bool = False
    instances: int = 0
    connections: int = 0
    in_flight: int = 0
    calls: int = 0
    round_trips: int = 0
    failed: int = 0
    late: int = 0
    refused: int = 0
    sessions: int = 0


class ClientSnapshot(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The connections to upstreams.

    Attributes:
        active: that requests have, those included that are being made.
        idle: that are kept for the next request.
        waiting: requests that wait for one.
    """

    active: int = 0
    idle: int = 0
    waiting: int = 0


class GatewaySnapshot(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """The numbers of one process's gateway.

    Attributes:
        routes: by id, and by `OTHERS` and `NO_ROUTE`.
        route_count: how many routes there are.
        upstreams_up: upstreams of all routes that requests go to, as far as their health goes.
        upstreams_down: the others.
        tunnels: open WebSockets and event streams by tier.
        limits: of tenants.
        keys: of tenants.
        changes: of tenants, keys and routes.
        redis: ``None`` without one.
        client: that asks upstreams.
    """

    routes: Mapping[str, RouteSnapshot] = {}
    route_count: int = 0
    upstreams_up: int = 0
    upstreams_down: int = 0
    tunnels: Mapping[str, int] = {}
    limits: LimitsSnapshot = LimitsSnapshot()
    keys: KeysSnapshot = KeysSnapshot()
    changes: ChangesSnapshot = ChangesSnapshot()
    redis: RedisSnapshot | None = None
    client: ClientSnapshot = ClientSnapshot()
