"""The account of one request: whose time it took, how often it was sent, and how it ended."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

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

    # Not in __slots__: what has its first value costs nothing, and there is one of these for each
    # request.
    status = 0
    _upstream: str | None = None
    _asked_at = 0.0
    _answered_at = 0.0
    _upstream_seconds = 0.0
    _tries = 0
    _fallback: str | None = None
    _has_ended = False

    def __init__(
        self, traffic: Traffic, route_id: str, notes: dict[str, str | float], began: float
    ) -> None:
        self._traffic = traffic
        self._flow = traffic.route(route_id)
        self._notes = notes
        self._began = began

    def asked(self, upstream: str) -> float:
        """A try begins: now, which it returns.

        Args:
            upstream: stands for the URL of whoever is asked.
        """
        self._upstream = upstream
        if self._fallback is None:
            self._tries += 1
        self._asked_at = now = trio.current_time()
        return now

    def answered(self, outcome: str) -> None:
        """The try is over; said again, nothing."""
        upstream = self._upstream
        if upstream is None:
            return
        self._upstream = None
        self._answered_at = now = trio.current_time()
        seconds = now - self._asked_at
        self._upstream_seconds += seconds
        self._notes["upstream"] = upstream
        flow = self._flow.upstreams.get(upstream) or self._traffic.upstream(self._flow, upstream)
        flow.add(outcome, seconds)

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
        if not self._has_ended:
            self._end(outcome, trio.current_time())

    def _end(self, outcome: str, now: float) -> None:
        self._has_ended = True
        notes, flow, tries, theirs = self._notes, self._flow, self._tries, self._upstream_seconds
        own = now - self._began - theirs
        flow.add(outcome, own)
        notes["gateway_ms"] = int(own * 1e6) / 1e3
        notes["upstream_ms"] = int(theirs * 1e6) / 1e3
        if tries:
            notes["tries"] = tries
            if tries > 1:
                flow.retries += tries - 1
        if (kind := self._fallback) is not None:
            flow.fallbacks[kind] = flow.fallbacks.get(kind, 0) + 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._has_ended:
            return
        if exc is not None:
            self._end(outcome_of(exc), trio.current_time())
        elif self._fallback is None:
            self._end(class_of(self.status), self._answered_at)
        else:
            self._end(class_of(self.status), trio.current_time())


_CLASSES: Final = ("0xx", "1xx", "2xx", "3xx", "4xx", "5xx", "6xx", "7xx", "8xx", "9xx")


def class_of(status: int) -> str:
    """What answers with such a status have in common: ``2xx`` and so on."""
    return _CLASSES[status // 100]


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
