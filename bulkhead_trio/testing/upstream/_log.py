"""Keeping the log of what was seen."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from bulkhead_trio.testing.upstream.seen import Outcome, RequestSeen, Seen

MOST_REQUESTS = 10_000
"""So many requests are remembered; the count goes on."""


class LoggedRequest:
    """One request in the log, while it is under way and afterwards."""

    __slots__ = ("seen",)

    def __init__(self, seen: RequestSeen) -> None:
        self.seen = seen

    def note(self, **changes: Any) -> None:
        """Say more of it."""
        self.seen = msgspec.structs.replace(self.seen, **changes)


class Log:
    """Counts, and the last requests."""

    def __init__(self) -> None:
        self._open = 0
        self._in_flight = 0
        self.forget()

    def forget(self) -> None:
        """Begin anew; what is under way still counts as such."""
        self._opened = self._count = 0
        self._most_open, self._most_in_flight = self._open, self._in_flight
        self._requests: deque[LoggedRequest] = deque(maxlen=MOST_REQUESTS)

    def connection_opened(self) -> None:
        """A connection was taken."""
        self._opened += 1
        self._open += 1
        self._most_open = max(self._most_open, self._open)

    def connection_closed(self) -> None:
        """It is no more."""
        self._open -= 1

    def begin(self, connection: int, at: float) -> LoggedRequest:
        """A request has come."""
        self._count += 1
        self._in_flight += 1
        self._most_in_flight = max(self._most_in_flight, self._in_flight)
        request = LoggedRequest(RequestSeen(number=self._count, connection=connection, at=at))
        self._requests.append(request)
        return request

    def end(self, request: LoggedRequest, outcome: Outcome) -> None:
        """It is over, one way or another."""
        self._in_flight -= 1
        request.note(outcome=outcome)

    def seen(self) -> Seen:
        """All of it."""
        return Seen(
            opened=self._opened,
            open=self._open,
            most_open=self._most_open,
            in_flight=self._in_flight,
            most_in_flight=self._most_in_flight,
            count=self._count,
            requests=tuple(request.seen for request in self._requests),
        )
