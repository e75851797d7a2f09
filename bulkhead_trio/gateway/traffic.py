"""What has gone to which upstream of which route: counts and times, with a bound on the names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

MOST_ROUTES: Final = 1000
"""Whose traffic is told apart; what comes beyond is counted together, as `OTHERS`."""

OTHERS: Final = "others"


@attrs.frozen
class Flow:
    """What has gone one way.

    Attributes:
        count: how many.
        seconds: how long they took, all together.
    """

    count: int
    seconds: float


@attrs.frozen
class TrafficStatistics:
    """What has been counted since the server started.

    Attributes:
        requests: by route and outcome: an answer's class, such as ``2xx``, or an error's code. The
            time is the gateway's own: all but that of upstreams.
        upstreams: by route, upstream (eight digits that stand for its URL) and outcome. The time is
            from choosing it to the end of its answer.
    """

    requests: Mapping[tuple[str, str], Flow]
    upstreams: Mapping[tuple[str, str, str], Flow]


class Traffic:
    """Counts requests by route, and tries by upstream."""

    def __init__(self) -> None:
        self._routes: set[str] = set()
        self._requests: dict[tuple[str, str], list[float]] = {}
        self._upstreams: dict[tuple[str, str, str], list[float]] = {}

    def request(self, route_id: str, outcome: str, seconds: float) -> None:
        """A request has ended.

        Args:
            route_id: whose it was.
            outcome: how.
            seconds: of it that were the gateway's own.
        """
        key = (self._name(route_id), outcome)
        entry = self._requests.get(key)
        if entry is None:
            entry = self._requests[key] = [0, 0.0]
        entry[0] += 1
        entry[1] += seconds

    def upstream(self, route_id: str, upstream: str, outcome: str, seconds: float) -> None:
        """A try has ended.

        Args:
            route_id: whose it was.
            upstream: stands for its URL.
            outcome: how.
            seconds: from choosing the upstream to the end of its answer.
        """
        key = (self._name(route_id), upstream, outcome)
        entry = self._upstreams.get(key)
        if entry is None:
            entry = self._upstreams[key] = [0, 0.0]
        entry[0] += 1
        entry[1] += seconds

    def keep_only(self, route_ids: frozenset[str]) -> None:
        """Forget routes that are no more."""
        self._routes &= route_ids
        for requests in [key for key in self._requests if key[0] not in self._routes]:
            if requests[0] != OTHERS:
                del self._requests[requests]
        for tries in [key for key in self._upstreams if key[0] not in self._routes]:
            if tries[0] != OTHERS:
                del self._upstreams[tries]

    def _name(self, route_id: str) -> str:
        if route_id in self._routes:
            return route_id
        if len(self._routes) >= MOST_ROUTES:
            return OTHERS
        self._routes.add(route_id)
        return route_id

    def statistics(self) -> TrafficStatistics:
        """What has been counted."""
        return TrafficStatistics(
            requests={key: Flow(int(n), s) for key, (n, s) in self._requests.items()},
            upstreams={key: Flow(int(n), s) for key, (n, s) in self._upstreams.items()},
        )
