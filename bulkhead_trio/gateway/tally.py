"""The account of one request: whose time it took, how often it was sent, and how it ended."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import trio

from bulkhead_trio.errors import BulkheadTrioError
from bulkhead_trio.gateway.exchange import BodyTooLarge
from bulkhead_trio.gateway.traffic import Traffic
from bulkhead_trio.http.engine.errors import ClientGone

CANCELLED = "cancelled"


class Tally:
    """Counts one request: a ``with`` block round all that is done for it.

    The upstreams' time is from choosing one to the end of its answer, a client that reads slowly
    included; all else since the request's arrival is the gateway's own: waiting in a line or for
    the next try too.

    Args:
        traffic: where it counts.
        route_id: whose it is.
        notes: for its line in the log.
        began: when it arrived, on Trio's clock.

    Attributes:
        status: of the answer that its client gets; 0 before one is there.
    """

    __slots__ = (
        "_asked_at", "_began", "_fallback", "_has_ended", "_notes", "_route_id", "_traffic",
        "_tries", "_upstream", "_upstream_seconds", "status",
    )  # fmt: skip

    def __init__(
        self, traffic: Traffic, route_id: str, notes: dict[str, str | float], began: float
    ) -> None:
        self.status = 0
        self._traffic = traffic
        self._route_id = route_id
        self._notes = notes
        self._began = began
        self._upstream: str | None = None
        self._asked_at = 0.0
        self._upstream_seconds = 0.0
        self._tries = 0
        self._fallback: str | None = None
        self._has_ended = False

    def asked(self, upstream: str) -> None:
        """A try begins.

        Args:
            upstream: stands for the URL of whoever is asked.
        """
        self._upstream = upstream
        self._asked_at = trio.current_time()
        if self._fallback is None:
            self._tries += 1

    def answered(self, outcome: str) -> None:
        """The try is over; said again, nothing."""
        upstream, self._upstream = self._upstream, None
        if upstream is None:
            return
        seconds = trio.current_time() - self._asked_at
        self._upstream_seconds += seconds
        self._notes["upstream"] = upstream
        self._traffic.upstream(self._route_id, upstream, outcome, seconds)

    def falls_back(self, kind: str) -> None:
        """Something else is to stand in for the upstreams: ``upstream`` or ``answer``."""
        self._fallback = self._notes["fallback"] = kind

    def lasts(self) -> None:
        """What follows lasts as long as somebody wants it: the request counts as it is now."""
        outcome = class_of(self.status)
        self.answered(outcome)
        self.end(outcome)

    def end(self, outcome: str) -> None:
        """The request has ended; said again, nothing."""
        if self._has_ended:
            return
        self._has_ended = True
        tries, notes, theirs = self._tries, self._notes, self._upstream_seconds
        own = trio.current_time() - self._began - theirs
        if tries:
            notes["tries"] = tries
        notes["gateway_ms"] = round(own * 1000, 3)
        notes["upstream_ms"] = round(theirs * 1000, 3)
        self._traffic.request(
            self._route_id,
            outcome,
            own,
            retries=tries - 1 if tries > 1 else 0,
            fallback=self._fallback,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end(class_of(self.status) if exc is None else outcome_of(exc))


def class_of(status: int) -> str:
    """What answers with such a status have in common: ``2xx`` and so on."""
    return f"{status // 100}xx"


def outcome_of(error: BaseException) -> str:
    """An error in a word: its code, or ``cancelled`` where nobody waits for the answer any more."""
    if isinstance(error, BulkheadTrioError):
        return error.code
    if isinstance(error, trio.Cancelled | ClientGone):
        return CANCELLED
    if isinstance(error, BodyTooLarge):
        return "body_too_large"
    if isinstance(error, BaseExceptionGroup):
        others = error.split(trio.Cancelled)[1]
        return CANCELLED if others is None else outcome_of(others.exceptions[0])
    return BulkheadTrioError.code
