"""Rules that move a concurrency limit: what they learn from, utilisation, and AIMD.

A rule is frozen and so is its state: ``rule.sampled(state, sample)`` is the state after one more
finished call, and ``state.limit`` the limit that follows from it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Generic, Protocol, TypeVar

import attrs
import msgspec

from bulkhead_trio.policies._checks import check_duration, check_whole, is_finite


class LimitSample(msgspec.Struct, frozen=True, gc=False):
    """One finished call.

    Attributes:
        now: when it ended, in seconds.
        seconds: how long it took.
        in_flight: calls that ran when it ended, itself among them. (Netflix counts when a call
            begins. Every level that is entered is left, so both see the same numbers in the end.)
        dropped: whether it failed because something was overloaded.
        chance: a random number in [0, 1), for a rule that draws lots.
    """

    now: float
    seconds: float
    in_flight: int
    dropped: bool = False
    chance: float = 0.5


class Limited(Protocol):
    """What every rule's state can say."""

    @property
    def limit(self) -> int:
        """How many calls may run at once."""


State = TypeVar("State", bound=Limited)


class LimitRule(ABC, Generic[State]):
    """How a limit follows what happens; pure.

    Attributes:
        minimum: the limit goes no lower.
        maximum: the limit goes no higher.
        follows_activity: whether `advanced` does anything.
    """

    minimum: int
    maximum: int
    follows_activity: ClassVar[bool] = False

    @abstractmethod
    def initial(self, limit: int, *, chance: float = 0.5) -> State:
        """The state before anything has happened; ``chance`` is random, in [0, 1)."""

    @abstractmethod
    def sampled(self, state: State, sample: LimitSample) -> State:
        """The state after one more finished call."""

    def advanced(self, state: State, now: float, active: int) -> State:  # noqa: ARG002
        """The state at ``now``, where ``active`` calls have run since it was last advanced."""
        return state


def check_range(minimum: int, maximum: int) -> None:
    """Refuse limits that are not whole numbers of at least 1, the smaller one first.

    Raises:
        ValueError: with the parameter's name.
    """
    check_whole("minimum", minimum, minimum=1)
    check_whole("maximum", maximum, minimum=minimum)


# --- utilisation ---------------------------------------------------------------------------------

GROWTH = 1.5
SHRINKAGE = 0.8
BAND = 0.1
"""Times 1.5 above target + 0.1, times 0.8 below target - 0.1."""

MOST_INTERVALS_AT_ONCE = 100
"""More than enough to get from any limit to any other: 0.8 ** 100 is 2e-10."""

_DIGITS = 9
"""Sums of times are compared to nine digits: 0.7 + 0.1 is not quite 0.8 in binary."""


class Usage(msgspec.Struct, frozen=True, gc=False):
    """What `UtilisationTarget` remembers.

    Attributes:
        limit: calls that may run at once.
        began: when the current interval began; ``None`` before anything has happened.
        seen: up to when it is known what ran.
        busy: seconds of calls within the interval: two calls for 3 s are 6.
    """

    limit: int
    began: float | None = None
    seen: float = 0.0
    busy: float = 0.0


@attrs.frozen
class UtilisationTarget(LimitRule[Usage]):
    """Keeps a share ``target`` of the permits in use: a pool that fits what is asked of it.

    At the end of every ``interval`` its utilisation is the time-weighted mean of active calls over
    the limit: the sum of the seconds that calls ran in it, divided by limit times interval. Above
    target + 0.1 the limit becomes 1.5 times what it was, rounded up; below target - 0.1 it becomes
    0.8 of what it was, rounded down; both within ``minimum`` and ``maximum``. The intervals follow
    each other without gaps from the first call on, also while nobody looks: of a silence of more
    than 100 of them, the last 100 are gone through.

    It learns nothing from how long calls take or how they end: where more calls at once only make
    each slower, take another rule.

    Source: threshold scaling as thread pools do it, with the constants of this package's
    specification (1.5, 0.8, 0.1, 10 s).

    Args:
        target: share of the permits to be in use, above 0.1 and below 0.9.
        minimum: lowest limit.
        maximum: highest limit.
        interval: seconds between two looks.

    Raises:
        ValueError: a number makes no sense; it is named.
    """

    target: float = 0.7
    minimum: int = 1
    maximum: int = 200
    interval: float = 10.0
    follows_activity: ClassVar[bool] = True

    def __attrs_post_init__(self) -> None:
        if not (is_finite(self.target) and BAND < self.target < 1 - BAND):
            raise ValueError(
                f"target must be above {BAND} and below {1 - BAND}, or the limit could only grow"
                f" or only shrink; not {self.target!r}"
            )
        check_range(self.minimum, self.maximum)
        check_duration("interval", self.interval)

    def initial(self, limit: int, *, chance: float = 0.5) -> Usage:  # noqa: ARG002
        """The first interval begins with the first call."""
        return Usage(limit)

    def sampled(self, state: Usage, sample: LimitSample) -> Usage:  # noqa: ARG002
        """Unchanged: how a call ended does not matter."""
        return state

    def advanced(self, state: Usage, now: float, active: int) -> Usage:
        """The state at ``now``; a clock that went back begins a new interval."""
        began = state.began
        if began is None or now < state.seen:
            return Usage(state.limit, began=now, seen=now)
        limit, seen, busy = state.limit, state.seen, state.busy
        behind = (now - began) // self.interval
        if behind > MOST_INTERVALS_AT_ONCE:
            began = seen = began + (behind - MOST_INTERVALS_AT_ONCE) * self.interval
            busy = 0.0
        while now >= (end := began + self.interval):
            busy += active * (end - seen)
            limit = self._stepped(limit, busy / (limit * self.interval))
            began = seen = end
            busy = 0.0
        return Usage(limit, began, now, busy + active * (now - seen))

    def _stepped(self, limit: int, utilisation: float) -> int:
        used = round(utilisation, _DIGITS)
        if used > round(self.target + BAND, _DIGITS):
            return min(self.maximum, math.ceil(limit * GROWTH))
        if used < round(self.target - BAND, _DIGITS):
            return max(self.minimum, int(limit * SHRINKAGE))
        return limit


# --- additive increase, multiplicative decrease --------------------------------------------------


class Limit(msgspec.Struct, frozen=True, gc=False):
    """What `AIMD` remembers: the limit alone."""

    limit: int


@attrs.frozen
class AIMD(LimitRule[Limit]):
    """One more with every good call, a tenth less with every dropped one: the limit saws.

    A call that took longer than ``timeout`` counts as dropped. The limit grows only while at least
    half of it is in use.

    Source: Netflix concurrency-limits, ``AIMDLimit.java``, with its published constants: backoff
    ratio 0.9, timeout 5 s, minimum 20, maximum 200.

    Args:
        minimum: lowest limit.
        maximum: highest limit.
        backoff_ratio: what is left of the limit after a drop, from 0.5 and below 1.
        timeout: seconds.

    Raises:
        ValueError: a number makes no sense; it is named.
    """

    minimum: int = 20
    maximum: int = 200
    backoff_ratio: float = 0.9
    timeout: float = 5.0

    def __attrs_post_init__(self) -> None:
        check_range(self.minimum, self.maximum)
        if not (is_finite(self.backoff_ratio) and 0.5 <= self.backoff_ratio < 1):
            raise ValueError(
                f"backoff_ratio must be from 0.5 and below 1, not {self.backoff_ratio!r}"
            )
        check_duration("timeout", self.timeout)

    def initial(self, limit: int, *, chance: float = 0.5) -> Limit:  # noqa: ARG002
        """The limit to begin with."""
        return Limit(limit)

    def sampled(self, state: Limit, sample: LimitSample) -> Limit:
        """The state after one more finished call."""
        limit = state.limit
        if sample.dropped or sample.seconds > self.timeout:
            limit = int(limit * self.backoff_ratio)
        elif sample.in_flight * 2 >= limit:
            limit += 1
        return Limit(min(self.maximum, max(self.minimum, limit)))
