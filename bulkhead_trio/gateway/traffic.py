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


class _Flow:
    """What went one way."""

    __slots__ = ("counts", "outcomes", "seconds")

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = {}
        self.counts = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0

    def add(self, outcome: str, seconds: float) -> None:
        outcomes = self.outcomes
        if outcome in outcomes:
            outcomes[outcome] += 1
        else:
            outcomes[outcome] = 1
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds

    def times(self) -> TimesSnapshot:
        return TimesSnapshot(tuple(self.counts), self.seconds)


class _RouteFlow(_Flow):
    __slots__ = ("fallbacks", "retries", "upstreams")

    def __init__(self) -> None:
        super().__init__()
        self.retries = 0
        self.fallbacks: dict[str, int] = {}
        self.upstreams: dict[str, _Flow] = {}

    def snapshot(self) -> RouteSnapshot:
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
        self._routes: dict[str, _RouteFlow] = {}

    def request(
        self,
        route_id: str,
        outcome: str,
        seconds: float,
        *,
        retries: int = 0,
        fallback: str | None = None,
    ) -> None:
        """A request has ended.

        Args:
            route_id: whose it was.
            outcome: how: an answer's class, such as ``2xx``, or an error's code.
            seconds: of it that were the gateway's own.
            retries: how often it was sent again.
            fallback: what stood in for the upstreams, where something did.
        """
        route = self._routes.get(route_id) or self._new(route_id)
        route.add(outcome, seconds)
        if retries:
            route.retries += retries
        if fallback is not None:
            route.fallbacks[fallback] = route.fallbacks.get(fallback, 0) + 1

    def upstream(self, route_id: str, upstream: str, outcome: str, seconds: float) -> None:
        """A try has ended.

        Args:
            route_id: whose it was.
            upstream: stands for its URL.
            outcome: how, in words as those of requests.
            seconds: from choosing the upstream to the end of its answer.
        """
        route = self._routes.get(route_id) or self._new(route_id)
        flow = route.upstreams.get(upstream) or self._new_upstream(route_id, route, upstream)
        flow.add(outcome, seconds)

    def _new(self, route_id: str) -> _RouteFlow:
        if route_id not in _ALWAYS_NAMED:
            if self._route_count >= self.most_routes:
                return self._routes.get(OTHERS) or self._new(OTHERS)
            self._route_count += 1
        route = self._routes[route_id] = _RouteFlow()
        return route

    def _new_upstream(self, route_id: str, route: _RouteFlow, upstream: str) -> _Flow:
        is_named = route_id in self._routes and route_id not in _ALWAYS_NAMED
        if not is_named or self._upstream_count >= self._most_upstreams:
            upstream = OTHERS
            if upstream in route.upstreams:
                return route.upstreams[upstream]
        else:
            self._upstream_count += 1
        flow = route.upstreams[upstream] = _Flow()
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
