"""A circuit breaker for each endpoint, as many as are in use, and not for ever."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import UUID

import attrs
import trio

from bulkhead_trio.policies._checks import check_duration, check_whole
from bulkhead_trio.policies.breaker import (
    BreakerState,
    BreakerTransition,
    CircuitBreaker,
    Consecutive,
)

FAILURES: Final = 5
"""In a row, after which an endpoint is left alone: more than its deliveries in flight, so that one
bad moment does not open it."""

COOLDOWNS: Final = (5.0, 10.0, 20.0, 30.0)
"""Seconds for which it is, the first time, the second, and so on until it works again."""

MOST_ENDPOINTS: Final = 4096
"""That are known at the same time; whoever has been quiet longest is forgotten."""

IDLE_SECONDS: Final = 900.0
"""After which one that nothing is sent to is forgotten."""

LEAST_DEFER_SECONDS: Final = 1.0
"""After which what could not be tried is looked at again, however soon it might go."""

PROBING_SECONDS: Final = 5.0
"""The same while one try finds out whether its endpoint works again, and others wait."""

EndpointKey = tuple[UUID, str]
"""The webhook and its URL: a new URL is a new endpoint, about which nothing is known."""


@attrs.frozen
class BreakersStatistics:
    """What is known of endpoints at one moment.

    Attributes:
        endpoints: that are known.
        states: how many have a breaker in each state, by its name.
        opened: how often one has opened.
    """

    endpoints: int
    states: Mapping[str, int]
    opened: int


class EndpointBreakers:
    """Gives an endpoint's breaker.

    One that is forgotten while a call is under way lives until that ends; what is lost is a count.

    Args:
        is_failure: says of a call's result whether it counts against the endpoint.
        is_ignored: says of it whether it counts neither way.
        most: endpoints that are known at the same time.
        idle: seconds after which one that is not asked for is forgotten.

    Raises:
        ValueError: a parameter makes no sense; it is named.
    """

    def __init__(
        self,
        *,
        is_failure: Callable[[Any], bool],
        is_ignored: Callable[[Any], bool],
        most: int = MOST_ENDPOINTS,
        idle: float = IDLE_SECONDS,
    ) -> None:
        check_whole("most", most, minimum=1)
        check_duration("idle", idle)
        self._is_failure = is_failure
        self._is_ignored = is_ignored
        self._most = most
        self._idle = idle
        self._known: OrderedDict[EndpointKey, _Known] = OrderedDict()
        self._troubled: set[_Known] = set()  # those whose breaker is not closed
        self._opened = 0

    def get(self, webhook_id: UUID, url: str) -> CircuitBreaker:
        """The breaker of an endpoint, which has been asked for now."""
        key = (webhook_id, url)
        now = trio.current_time()
        known = self._known.get(key)
        if known is None:
            self._forget(now, most=self._most - 1)
            known = self._known[key] = self._new(now)
        else:
            known.asked_at = now
            self._known.move_to_end(key)
        return known.breaker

    def statistics(self) -> BreakersStatistics:
        """What is known now."""
        self._forget(trio.current_time(), most=self._most)
        found = dict.fromkeys((state.name for state in _SHOWN), 0)
        for known in self._troubled:
            found[known.breaker.statistics().state.name] += 1
        found[BreakerState.CLOSED.name] += len(self._known) - len(self._troubled)
        return BreakersStatistics(len(self._known), found, self._opened)

    def _new(self, now: float) -> _Known:
        def moved(move: BreakerTransition) -> None:
            self._moved(known, move)

        breaker = CircuitBreaker(
            "an endpoint",
            window=Consecutive(FAILURES),
            wait_in_open=COOLDOWNS,
            record_result=self._is_failure,
            ignore_result=self._is_ignored,
            # What is raised is a mistake or a refusal of our own, never the endpoint's.
            ignore=Exception,
            listeners=(moved,),
        )
        known = _Known(breaker, now)
        return known

    def _moved(self, known: _Known, move: BreakerTransition) -> None:
        self._opened += move.after is BreakerState.OPEN
        if move.after is BreakerState.CLOSED:
            self._troubled.discard(known)
        elif not known.is_forgotten:
            self._troubled.add(known)

    def _forget(self, now: float, *, most: int) -> None:
        """Forget those that have been quiet long enough, and the quietest beyond ``most``."""
        while self._known:
            key, known = next(iter(self._known.items()))
            if len(self._known) <= most and now - known.asked_at < self._idle:
                return
            del self._known[key]
            self._troubled.discard(known)
            known.is_forgotten = True


@attrs.define(eq=False)
class _Known:
    """What is known of an endpoint; it may be forgotten while calls are under way."""

    breaker: CircuitBreaker
    asked_at: float
    is_forgotten: bool = False


_SHOWN: Final = (BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN)
