"""Keeping what a receiver has seen."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence

from bulkhead_trio.testing.receiver.seen import Arrival, EndpointSeen, Received

MOST_IN_FULL = 1_000
"""So many requests are kept in full; of all others, and of these, there is an `Arrival`."""


class _Sums:
    """Of one endpoint."""

    __slots__ = ("in_flight", "most_in_flight", "requests", "taken")

    def __init__(self) -> None:
        self.requests = self.taken = self.in_flight = self.most_in_flight = 0


class Log:
    """All arrivals, the last ones in full, and sums an endpoint."""

    def __init__(self) -> None:
        self._sums: defaultdict[int, _Sums] = defaultdict(_Sums)
        self._arrivals: list[Arrival] = []
        self._in_full: deque[Received] = deque(maxlen=MOST_IN_FULL)

    def forget(self) -> None:
        """Begin anew; what is under way still counts as such."""
        self._arrivals.clear()
        self._in_full.clear()
        for sums in self._sums.values():
            sums.requests = sums.taken = 0
            sums.most_in_flight = sums.in_flight

    def begin(self, endpoint: int) -> None:
        """A request has come."""
        sums = self._sums[endpoint]
        sums.requests += 1
        sums.in_flight += 1
        sums.most_in_flight = max(sums.most_in_flight, sums.in_flight)

    def note(self, received: Received) -> None:
        """This is it."""
        self._arrivals.append(received.arrival)
        self._in_full.append(received)

    def end(self, endpoint: int, *, is_taken: bool) -> None:
        """It is over, one way or another."""
        self._sums[endpoint].in_flight -= 1
        self._sums[endpoint].taken += is_taken

    def arrivals(self, since: int) -> Sequence[Arrival]:
        """All but the first ``since``."""
        return self._arrivals[since:]

    def received(self, endpoint: int) -> list[Received]:
        """The last requests of an endpoint, the oldest first."""
        return [each for each in self._in_full if each.arrival.endpoint == endpoint]

    def sums(self) -> dict[int, EndpointSeen]:
        """Of every endpoint that has seen a request."""
        return {
            endpoint: EndpointSeen(s.requests, s.taken, s.in_flight, s.most_in_flight)
            for endpoint, s in self._sums.items()
        }
