"""What has gone to which upstream of which route: counts and times, with a bound on the names."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping

from bulkhead_trio.observe.gateway_snapshots import (
    BUCKETS,
    MOST_ROUTES,
    MOST_UPSTREAMS,
    NO_ROUTE,
    OTHERS,
    RouteSnapshot,
    TimesSnapshot,
    UpstreamSnapshot,
)

_ALWAYS_NAMED = (OTHERS, NO_ROUTE)


class Flow:
    """What went one way: how it ended, and how long it took."""

    __slots__ = ("counts", "outcomes", "seconds")

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = {}
        self.counts = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0

    def add(self, outcome: str, seconds: float) -> None:
        """Something more has ended."""
        outcomes = self.outcomes
        if outcome in outcomes:
            outcomes[outcome] += 1
        else:
            outcomes[outcome] = 1
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds

    def times(self) -> TimesSnapshot:
        """How long it took."""
        return TimesSnapshot(tuple(self.counts), self.seconds)


class RouteFlow(Flow):
    """What a route's requests came to: how they ended, and what of their time was the gateway's.

    Attributes:
        upstreams: what went to each.
        retries: tries after the first.
        fallbacks: requests that something stood in for the upstreams of.
    """

    __slots__ = ("fallbacks", "retries", "upstreams")

    def __init__(self) -> None:
        super().__init__()
        self.retries = 0
        self.fallbacks: dict[str, int] = {}
        self.upstreams: dict[str, Flow] = {}

    def snapshot(self) -> RouteSnapshot:
        """What has been counted."""
        return RouteSnapshot(
            self.outcomes.copy(),
            self.times(),
            self.retries,
            self.fallbacks.copy(),
            {
                name: UpstreamSnapshot(flow.outcomes.copy(), flow.times())
                for name, flow in self.upstreams.items()
            },
        )


class Traffic:
    """Counts requests by route, and tries by route and upstream.

    Routes are told apart in the order in which they are first used, upstreams likewise. `OTHERS`
    stands for those beyond the bounds, so that the sums are right and their number is bounded.

    Args:
        most_routes: told apart.
        most_upstreams: of them, told apart.
    """

    def __init__(
        self, *, most_routes: int = MOST_ROUTES, most_upstreams: int = MOST_UPSTREAMS
    ) -> None:
        self.most_routes = most_routes
        self._most_upstreams = most_upstreams
        self._route_count = 0
        self._upstream_count = 0
        self._routes: dict[str, RouteFlow] = {}

    def route(self, route_id: str) -> RouteFlow:
        """Where a route's requests count; for one that is not told apart, with `OTHERS`."""
        return self._routes.get(route_id) or self._new_route(route_id)

    def upstream(self, route: RouteFlow, upstream: str) -> Flow:
        """Where tries of one of a route's upstreams count.

        Args:
            route: as `route` gave it.
            upstream: stands for its URL.
        """
        return route.upstreams.get(upstream) or self._new_upstream(route, upstream)

    def _new_route(self, route_id: str) -> RouteFlow:
        if route_id not in _ALWAYS_NAMED:
            if self._route_count >= self.most_routes:
                return self.route(OTHERS)
            self._route_count += 1
        route = self._routes[route_id] = RouteFlow()
        return route

    def _new_upstream(self, route: RouteFlow, upstream: str) -> Flow:
        if upstream != OTHERS:
            is_others = route is self._routes.get(OTHERS)
            if is_others or self._upstream_count >= self._most_upstreams:
                return self.upstream(route, OTHERS)
            self._upstream_count += 1
        flow = route.upstreams[upstream] = Flow()
        return flow

    def names(self) -> list[str]:
        """The ids of the routes that are told apart, in the order in which they were first used."""
        return [name for name in self._routes if name not in _ALWAYS_NAMED]

    def keep_only(self, known: Mapping[str, Collection[str]]) -> None:
        """Forget what is no more, but for `OTHERS`.

        Args:
            known: by route, what stands for its upstreams; of those told apart at least.
        """
        for name in self.names():
            if name not in known:
                self._route_count -= 1
                for upstream in self._routes.pop(name).upstreams:
                    self._upstream_count -= upstream != OTHERS
                continue
            upstreams = self._routes[name].upstreams
            for gone in [each for each in upstreams if each not in known[name]]:
                if gone != OTHERS:
                    del upstreams[gone]
                    self._upstream_count -= 1

    def statistics(self) -> dict[str, RouteSnapshot]:
        """What has been counted, by route."""
        return {name: flow.snapshot() for name, flow in self._routes.items()}
