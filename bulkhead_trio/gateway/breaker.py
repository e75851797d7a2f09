"""An upstream's breaker, as the gateway uses one: this instance's own, or one that many share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from bulkhead_trio.gateway.group_settings import BreakerSettings, UpstreamKey
from bulkhead_trio.policies.breaker import (
    BreakerOutcome,
    BreakerState,
    BreakerStatistics,
    BreakerTransition,
    CircuitBreaker,
    Permit,
)


class BreakerPermit(Protocol):
    """The right to one request."""

    def end(self, outcome: BreakerOutcome) -> None:
        """Say how it ended; called once."""


class UpstreamBreaker(Protocol):
    """A breaker that says without waiting what it knows.

    A call that it lets in is ended exactly once, whatever becomes of it.
    """

    @property
    def is_closed(self) -> bool:
        """Whether every call is let in; read for every request and every upstream."""

    def refusal(self) -> float | None:
        """Seconds after which a call may be let in; ``None`` where one would be now."""

    def admit_nowait(self) -> BreakerPermit | None:
        """Let a call in; ``None`` where that takes `admit`, as a probe that many compete for may.

        Raises:
            CircuitOpen: no call may start now.
        """

    async def admit(self) -> BreakerPermit:
        """Let a call in.

        Raises:
            CircuitOpen: no call may start now.
        """

    def statistics(self) -> BreakerStatistics:
        """What it knows now."""


MakeBreaker: TypeAlias = Callable[[UpstreamKey, str, BreakerSettings], UpstreamBreaker]
"""Makes an upstream's breaker, with a name to use in messages."""


class _Failed(Exception):
    """What a failure is, to a breaker that learns outcomes from exceptions."""


class _Ignored(Exception):
    """What says nothing either way."""


_FAILED, _IGNORED = _Failed(), _Ignored()


class LocalPermit:
    """A permit of a `CircuitBreaker`, ended by its outcome instead of an exception."""

    __slots__ = ("_permit",)

    def __init__(self, permit: Permit) -> None:
        permit.__enter__()
        self._permit = permit

    def end(self, outcome: BreakerOutcome) -> None:
        """Say how it ended; called once."""
        if outcome is BreakerOutcome.SUCCESS:
            self._permit.__exit__(None, None, None)
        elif outcome is BreakerOutcome.FAILURE:
            self._permit.__exit__(_Failed, _FAILED, None)
        else:
            self._permit.__exit__(_Ignored, _IGNORED, None)


class LocalBreaker:
    """This instance's own: a `CircuitBreaker` that lets one probe through at a time.

    Args:
        name: for messages, which callers may read.
        settings: when it opens and closes.

    Raises:
        ValueError: the settings make no sense; the parameter is named.
    """

    def __init__(self, name: str, settings: BreakerSettings) -> None:
        self.is_closed = True
        self._breaker = CircuitBreaker(
            name,
            window=settings.window,
            failure_rate_threshold=settings.failure_rate,
            minimum_number_of_calls=settings.minimum_calls,
            wait_in_open=settings.cooldown,
            success_threshold=settings.successes,
            record=_Failed,
            ignore=_Ignored,
            listeners=(self._moved,),
        )

    def _moved(self, move: BreakerTransition) -> None:
        self.is_closed = move.after is BreakerState.CLOSED

    def refusal(self) -> float | None:
        """Seconds after which a call may be let in; 0 while the probe is out."""
        if self.is_closed:
            return None
        now = self._breaker.statistics()
        if now.state is BreakerState.HALF_OPEN and not now.probes:
            return None
        return now.retry_after

    def admit_nowait(self) -> LocalPermit:
        """Let a call in.

        Raises:
            CircuitOpen: no call may start now.
        """
        return LocalPermit(self._breaker.permit())

    async def admit(self) -> LocalPermit:
        """The same; it never has to wait."""
        return self.admit_nowait()

    def statistics(self) -> BreakerStatistics:
        """What it knows now."""
        return self._breaker.statistics()


def local_breaker(key: UpstreamKey, name: str, settings: BreakerSettings) -> UpstreamBreaker:  # noqa: ARG001
    """A `LocalBreaker`: the `MakeBreaker` of one instance."""
    return LocalBreaker(name, settings)
