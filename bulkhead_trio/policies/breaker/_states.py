"""The breaker's states, and the numbers by which it moves between them: frozen, all of them."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import ClassVar, TypeAlias

import attrs
from msgspec import Struct

from bulkhead_trio.policies._checks import check_duration, check_seconds, check_share, check_whole
from bulkhead_trio.policies.breaker._window_rules import (
    Consecutive,
    CountWindow,
    Tally,
    Thresholds,
    TimeWindow,
    Window,
)

MINIMUM_CALLS_UNLESS_SAID = 10
"""Calls before a rate means something, where the user did not say."""


class BreakerState(enum.Enum):
    """The name of a state, as people and metrics read it."""

    __hash__ = object.__hash__  # each is one object; an enum's own costs more than a look-up
    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"
    FORCED_OPEN = "FORCED_OPEN"
    DISABLED = "DISABLED"


class Closed(Struct, frozen=True, gc=False):
    """Everything passes, and ``tally`` counts how it ends."""

    kind: ClassVar[BreakerState] = BreakerState.CLOSED
    epoch: int
    tally: Tally


@attrs.frozen
class Open:
    """Nothing passes before ``until``.

    Attributes:
        failures: that the window held when it opened, and failed probes since.
        tally: the window as it was when it opened.
        openings: how often it has opened since it was last closed.
    """

    kind: ClassVar[BreakerState] = BreakerState.OPEN
    epoch: int
    tally: Tally
    failures: int
    openings: int
    until: float


@attrs.frozen
class HalfOpen:
    """A few probes find out whether it works again.

    Attributes:
        until: when they have to have found out; infinite where there is no such limit.
        probes: that are under way.
        ended: that have been counted, failed, slow and good ones.
        good: that succeeded, and in time.
        failed: that failed.
        slow: that took too long, failed or not.
    """

    kind: ClassVar[BreakerState] = BreakerState.HALF_OPEN
    epoch: int
    tally: Tally
    failures: int
    openings: int
    until: float
    probes: int = 0
    ended: int = 0
    good: int = 0
    failed: int = 0
    slow: int = 0


@attrs.frozen
class ForcedOpen:
    """Nothing passes until somebody says otherwise."""

    kind: ClassVar[BreakerState] = BreakerState.FORCED_OPEN
    epoch: int
    tally: Tally


@attrs.frozen
class Disabled:
    """Everything passes and nothing is counted, until somebody says otherwise."""

    kind: ClassVar[BreakerState] = BreakerState.DISABLED
    epoch: int
    tally: Tally


State: TypeAlias = Closed | Open | HalfOpen | ForcedOpen | Disabled


@attrs.frozen
class Limits:
    """When a breaker opens, and how it closes again.

    Attributes:
        waits_in_open: seconds until the first probe after the first, second, ... opening in a row;
            the last holds for all that follow.
        slow_above: seconds; a call that takes longer is slow.
        permitted: probes that may run at the same time.
        successes: good probes that close it.
        longest_half_open: seconds.
        trial: calls in one half-open period on which it is judged, and which it does not exceed.
    """

    window: Window
    thresholds: Thresholds
    waits_in_open: tuple[float, ...]
    slow_above: float
    permitted: int
    successes: int
    longest_half_open: float
    trial: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "trial", max(self.permitted, self.successes))

    def wait_in_open(self, openings: int) -> float:
        """Seconds that the ``openings``-th opening in a row lasts; counted from 1."""
        waits = self.waits_in_open
        return waits[min(openings, len(waits)) - 1]


def limits_of(
    *,
    window: Window,
    failure_rate_threshold: float | None,
    slow_call_duration_threshold: float | None,
    slow_call_rate_threshold: float | None,
    minimum_number_of_calls: int | None,
    wait_in_open: float | Sequence[float],
    permitted_calls_in_half_open: int,
    success_threshold: int,
    max_wait_in_half_open: float | None,
) -> Limits:
    """Check a breaker's parameters and put them together.

    Raises:
        ValueError: one makes no sense, alone or with the others; it is named.
    """
    if not isinstance(window, Consecutive | CountWindow | TimeWindow):
        raise ValueError(  # noqa: TRY004  as every other parameter that makes no sense
            f"window must be Consecutive, CountWindow or TimeWindow, not {window!r}"
        )
    for name, seconds in (
        ("slow_call_duration_threshold", slow_call_duration_threshold),
        ("max_wait_in_half_open", max_wait_in_half_open),
    ):
        if seconds is not None:
            check_duration(name, seconds)
    if slow_call_rate_threshold is not None and slow_call_duration_threshold is None:
        raise ValueError(
            "slow_call_rate_threshold means nothing without slow_call_duration_threshold"
        )
    check_whole("permitted_calls_in_half_open", permitted_calls_in_half_open, minimum=1)
    check_whole("success_threshold", success_threshold, minimum=1)
    return Limits(
        window=window,
        thresholds=_thresholds_of(
            window,
            failure_rate_threshold=failure_rate_threshold,
            slow_call_rate_threshold=slow_call_rate_threshold,
            minimum_number_of_calls=minimum_number_of_calls,
        ),
        waits_in_open=_waits_of(wait_in_open),
        slow_above=_or_never(slow_call_duration_threshold),
        permitted=permitted_calls_in_half_open,
        successes=success_threshold,
        longest_half_open=_or_never(max_wait_in_half_open),
    )


def _or_never(seconds: float | None) -> float:
    return math.inf if seconds is None else seconds


def _waits_of(wait_in_open: float | Sequence[float]) -> tuple[float, ...]:
    waits = tuple(wait_in_open) if isinstance(wait_in_open, Sequence) else (wait_in_open,)
    if not waits:
        raise ValueError("wait_in_open must be a number of seconds or a schedule of them, not ()")
    for seconds in waits:
        check_seconds("wait_in_open", seconds)
    return waits


def _thresholds_of(
    window: Window,
    *,
    failure_rate_threshold: float | None,
    slow_call_rate_threshold: float | None,
    minimum_number_of_calls: int | None,
) -> Thresholds:
    shares = {
        "failure_rate_threshold": failure_rate_threshold,
        "slow_call_rate_threshold": slow_call_rate_threshold,
    }
    for name, share in shares.items():
        if share is not None:
            check_share(name, share)
    if minimum_number_of_calls is not None:
        check_whole("minimum_number_of_calls", minimum_number_of_calls, minimum=1)
    if isinstance(window, Consecutive):
        for name, value in {**shares, "minimum_number_of_calls": minimum_number_of_calls}.items():
            if value is not None:
                raise ValueError(f"{name} means nothing to Consecutive, which knows no rates")
    most = window.size if isinstance(window, CountWindow) else math.inf
    if minimum_number_of_calls is None:
        minimum_number_of_calls = int(min(MINIMUM_CALLS_UNLESS_SAID, most))
    if minimum_number_of_calls > most:
        raise ValueError(
            f"minimum_number_of_calls must be at most the window's size of {most}, or it would"
            f" never open, not {minimum_number_of_calls}"
        )
    return Thresholds(
        failure_rate=0.5 if failure_rate_threshold is None else failure_rate_threshold,
        slow_rate=1.0 if slow_call_rate_threshold is None else slow_call_rate_threshold,
        minimum=minimum_number_of_calls,
    )
