"""Rate limits as buckets that fill or leak at an even rate, as pure rules."""

from __future__ import annotations

import math

import attrs
import msgspec

from bulkhead_trio.policies._checks import check_positive, check_whole
from bulkhead_trio.policies.rate._decision import Decision, seconds_until

NEARLY_ONE = 0.999
"""A part of a unit above which it takes a closer look whether rounding makes it a whole one."""


class Level(msgspec.Struct, frozen=True, gc=False):
    """The state of a bucket: how many units could be had when it was last looked at.

    Two numbers, 80 bytes with them: one is kept for every key, and made for every request. The
    units rather than the one moment of the generic cell rate algorithm: where ``1 / rate`` is below
    what a float can tell apart at ``at``, a moment would not move, and everything would pass.

    Attributes:
        units: may be below zero, by what rounding let pass too early or by what a pacing queue has
            let out.
        at: when that was.
    """

    units: float
    at: float


@attrs.frozen
class _Bucket:
    """``capacity`` units that come back at ``rate`` units a second."""

    rate: float
    capacity: int

    def __attrs_post_init__(self) -> None:
        check_positive("rate", self.rate, unit="number of units a second")
        check_whole("capacity", self.capacity, minimum=1)
        if not math.isfinite(self.capacity / self.rate):
            raise ValueError(f"rate must be enough to fill the bucket ever, not {self.rate!r}")

    @property
    def limit(self) -> int:
        """The largest cost that can pass at one moment: the capacity."""
        return self.capacity

    @property
    def window(self) -> float:
        """Seconds in which ``capacity`` units come back."""
        return self.capacity / self.rate

    @property
    def longest_debt(self) -> float:
        """Seconds after its last request at which any state is at rest."""
        return self.window

    @property
    def most_waiting(self) -> float:
        """No bound of its own on what may wait."""
        return math.inf

    def initial(self) -> Level:
        """The state before any request."""
        return Level(self.capacity, -math.inf)

    def decide(self, state: Level, now: float, cost: int = 1) -> tuple[Level, Decision]:
        """Whether ``cost`` units pass at ``now``, and the state after that.

        Of the time by which a clock went back nothing comes back twice.
        """
        at, units, rate, capacity = state.at, state.units, self.rate, self.capacity
        if now < at:
            at = now
            state = Level(units, at)
        if now >= at + (cost - units) / rate and cost <= capacity:
            units += (now - at) * rate
            units = (units if units < capacity else capacity) - cost
            after = Level(units, now)
            left = int(units) if units > 0 else 0
            if units - left > NEARLY_ONE:
                left = self.remaining(after, now)
            missing = (capacity - units) / rate
            return after, Decision(True, capacity, capacity / rate, left, missing, 0.0)
        full_at = at + (capacity - units) / rate
        return state, Decision(
            False,
            capacity,
            capacity / rate,
            self.remaining(state, now),
            seconds_until(full_at, now) if full_at > now else 0.0,
            math.inf if cost > capacity else seconds_until(at + (cost - units) / rate, now),
        )

    def remaining(self, state: Level, now: float) -> int:
        """The largest cost that would pass at ``now``."""
        units = state.units + max(0.0, now - state.at) * self.rate
        left = max(0, int(min(units, self.capacity)))
        # Rounded the other way than the comparison that decides, it may be one off.
        if left and now < self._ready_at(state, left):
            return left - 1
        if left < self.capacity and now >= self._ready_at(state, left + 1):
            return left + 1
        return left

    def rests_at(self, state: Level) -> float:
        """When the bucket is as it was at first."""
        return self._ready_at(state, self.capacity)

    def _ready_at(self, state: Level, cost: float) -> float:
        return state.at + (cost - state.units) / self.rate


@attrs.frozen
class TokenBucket(_Bucket):
    """Up to ``capacity`` units at once, and ``rate`` units a second in the long run.

    The bucket starts full; each unit takes a token, and ``rate`` tokens a second fall in until it
    is full again. Source: J. Turner, "New directions in communications (or which way to the
    information age?)", IEEE Communications Magazine 24/10, 1986; RFC 2697 and 2698 have it as a
    meter.

    Its weakness: in any ``t`` seconds up to ``capacity + rate * t`` units pass, so whatever is
    behind has to stand a burst of ``capacity`` on top of the rate.

    Raises:
        ValueError: ``rate`` is not a positive number, or ``capacity`` not a whole number of 1 or
            more.
    """


@attrs.frozen
class LeakyBucket(_Bucket):
    """A bucket that each request pours ``cost`` units into, and that leaks ``rate`` units a second.

    As a meter, a request passes at once if its units still fit in: at most ``capacity`` at once,
    and the same in any ``t`` seconds as from a `TokenBucket`, whose mirror image it is. Source:
    ITU-T I.371, annex A, the continuous-state leaky bucket.

    With ``pacing`` it is a queue: one request leaves ``cost / rate`` seconds after the other, even
    after a quiet time, and up to ``capacity`` units wait in the bucket. It takes a shell that waits
    to make use of it. Source: A. Tanenbaum, "Computer Networks", traffic shaping.

    Its weakness as a meter is the burst of a token bucket; as a queue, that a burst which would
    have harmed nobody waits all the same.

    Raises:
        ValueError: ``rate`` is not a positive number, or ``capacity`` not a whole number of 1 or
            more.
    """

    pacing: bool = attrs.field(default=False, kw_only=True)

    @property
    def most_waiting(self) -> float:
        """Units that may wait for their turn."""
        return self.capacity if self.pacing else math.inf

    def initial(self) -> Level:
        """The state before any request."""
        return Level(1, -math.inf) if self.pacing else super().initial()

    def decide(self, state: Level, now: float, cost: int = 1) -> tuple[Level, Decision]:
        """Whether ``cost`` units pass at ``now``, and the state after that.

        Of the time by which a clock went back nothing leaks twice.
        """
        if not self.pacing:
            return super().decide(state, now, cost)
        if now < state.at:
            state = Level(state.units, now)
        rests_at = self.rests_at(state)
        is_free = now >= rests_at
        wait = 0.0 if is_free else seconds_until(rests_at, now)
        if is_free and cost <= self.capacity:
            units = min(1.0, state.units + (now - state.at) * self.rate) - cost
            after = Level(units, now)
            reset_after = (1 - units) / self.rate
            left = self.remaining(after, now)
            return after, Decision(True, self.limit, self.window, left, reset_after, 0.0)
        left = self.capacity if is_free else 0
        retry_after = math.inf if cost > self.capacity else wait
        return state, Decision(False, self.limit, self.window, left, wait, retry_after)

    def remaining(self, state: Level, now: float) -> int:
        """The largest cost that would pass at ``now``; of a pacing queue all of it, or nothing."""
        if not self.pacing:
            return super().remaining(state, now)
        return self.capacity if now >= self.rests_at(state) else 0

    def rests_at(self, state: Level) -> float:
        """When the bucket is empty; of a pacing queue, when the next may leave."""
        return self._ready_at(state, 1) if self.pacing else super().rests_at(state)
