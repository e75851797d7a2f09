"""Rules that move a concurrency limit by how much slower calls have become: Vegas, Gradient2."""

from __future__ import annotations

import math

import attrs
import msgspec

from bulkhead_trio.policies._checks import check_positive, check_share, check_whole
from bulkhead_trio.policies.bulkhead._adaptive_rules import LimitRule, LimitSample, check_range


def log10_step(limit: int) -> int:
    """The unit in which Vegas steps: the whole part of log10, and at least 1."""
    return max(1, int(math.log10(limit)))


class VegasState(msgspec.Struct, frozen=True, gc=False):
    """What `Vegas` remembers.

    Attributes:
        estimate: the limit before it is cut to a whole number.
        no_load: seconds of the quickest call since the last probe; 0 before the first.
        probe_count: samples since the last probe.
        probe_jitter: from 0.5 up to 1, drawn anew for each probe.
    """

    estimate: float
    no_load: float = 0.0
    probe_count: int = 0
    probe_jitter: float = 0.75

    @property
    def limit(self) -> int:
        """How many calls may run at once."""
        return int(self.estimate)


@attrs.frozen
class Vegas(LimitRule[VegasState]):
    """Watches the queue that must have formed downstream where calls take longer than the quickest.

    ``queue = limit * (1 - no_load / seconds)``, rounded up. With ``u = max(1, int(log10(limit)))``
    the limit grows by 6u while the queue is at most u, grows by u while it is below 3u (alpha),
    stays up to 6u (beta), and shrinks by u above that and after every drop. It grows only while at
    least half of it is in use. Every ``jitter * 30 * limit`` samples, the jitter random in
    [0.5, 1), the next call is taken as the quickest, whatever it took: so it finds out when the
    downstream has become slower for good.

    Source: Netflix concurrency-limits, ``VegasLimit.java``, with its published constants: alpha
    3u, beta 6u, threshold u, probe multiplier 30, smoothing 1.0, minimum 1, maximum 1000. One thing
    differs: the time of a dropped call is no measure of anything (a refusal is quick), so a drop
    only shrinks the limit.

    Args:
        minimum: lowest limit.
        maximum: highest limit.
        probe_multiplier: see above; 1 or more.
        smoothing: share of the newest estimate, above 0 and at most 1.

    Raises:
        ValueError: a number makes no sense; it is named.
    """

    minimum: int = 1
    maximum: int = 1000
    probe_multiplier: int = 30
    smoothing: float = 1.0

    def __attrs_post_init__(self) -> None:
        check_range(self.minimum, self.maximum)
        check_whole("probe_multiplier", self.probe_multiplier, minimum=1)
        check_share("smoothing", self.smoothing)

    def initial(self, limit: int, *, chance: float = 0.5) -> VegasState:
        """The limit to begin with, before any call was measured."""
        return VegasState(limit, probe_jitter=_jitter(chance))

    def sampled(self, state: VegasState, sample: LimitSample) -> VegasState:
        """The state after one more finished call; one that took no time at all says nothing."""
        estimate = state.estimate
        if sample.dropped:
            return self._moved(state, estimate - log10_step(int(estimate)))
        seconds = sample.seconds
        if seconds <= 0:
            return state
        count = state.probe_count + 1
        if state.probe_jitter * self.probe_multiplier * estimate <= count:
            return VegasState(estimate, seconds, 0, _jitter(sample.chance))
        no_load = state.no_load
        if no_load == 0 or seconds < no_load:
            return VegasState(estimate, seconds, count, state.probe_jitter)
        counted = VegasState(estimate, no_load, count, state.probe_jitter)
        if sample.in_flight * 2 < estimate:
            return counted
        return self._moved(counted, estimate + self._step(counted, seconds))

    def _step(self, state: VegasState, seconds: float) -> int:
        queue = math.ceil(state.estimate * (1 - state.no_load / seconds))
        unit = log10_step(state.limit)
        if queue <= unit:
            return 6 * unit
        if queue < 3 * unit:
            return unit
        if queue > 6 * unit:
            return -unit
        return 0

    def _moved(self, state: VegasState, wanted: float) -> VegasState:
        within = max(self.minimum, min(self.maximum, wanted))
        estimate = (1 - self.smoothing) * state.estimate + self.smoothing * within
        return VegasState(estimate, state.no_load, state.probe_count, state.probe_jitter)


def _jitter(chance: float) -> float:
    return 0.5 + 0.5 * chance


WARM_UP = 10
"""The long average is the plain mean of so many samples before it becomes an exponential one."""


class Gradient2State(msgspec.Struct, frozen=True, gc=False):
    """What `Gradient2` remembers.

    Attributes:
        estimate: the limit before it is cut to a whole number.
        long: the long average of seconds; 0 before the first call.
        warm_up_sum: sum of the first seconds.
        warm_up_count: how many they are, up to 10.
    """

    estimate: float
    long: float = 0.0
    warm_up_sum: float = 0.0
    warm_up_count: int = 0

    @property
    def limit(self) -> int:
        """How many calls may run at once."""
        return int(self.estimate)


@attrs.frozen
class Gradient2(LimitRule[Gradient2State]):
    """Compares each call with a long average: the steeper the rise, the lower the limit.

    ``gradient = tolerance * long / seconds``, within 0.5 and 1, and the new limit is
    ``limit * gradient + queue_size``, of which ``smoothing`` counts. ``long`` is an exponential
    average over ``long_window`` samples; where it is more than twice what the newest call took, it
    is cut by 5 % a sample. The limit moves only while at least half of it is in use.

    Source: Netflix concurrency-limits, ``Gradient2Limit.java`` and ``ExpAvgMeasurement.java``, with
    their published constants: minimum 20, maximum 200, tolerance 1.5, long window 600 (the first 10
    samples as a plain mean), smoothing 0.2, queue size 4. One thing differs: a dropped call that
    was quicker than the average is left out. It was refused, and says nothing of how long the
    others take; the source would count it as a good sign.

    Args:
        minimum: lowest limit.
        maximum: highest limit.
        tolerance: how many times the average a call may take before the limit falls; 1 or more.
        long_window: samples; 1 or more.
        smoothing: share of the newest estimate, above 0 and at most 1.
        queue_size: by how much the limit may grow; 0 or more.

    Raises:
        ValueError: a number makes no sense; it is named.
    """

    minimum: int = 20
    maximum: int = 200
    tolerance: float = 1.5
    long_window: int = 600
    smoothing: float = 0.2
    queue_size: int = 4

    def __attrs_post_init__(self) -> None:
        check_range(self.minimum, self.maximum)
        check_positive("tolerance", self.tolerance)
        if self.tolerance < 1:
            raise ValueError(f"tolerance must be 1 or more, not {self.tolerance!r}")
        check_whole("long_window", self.long_window, minimum=1)
        check_share("smoothing", self.smoothing)
        check_whole("queue_size", self.queue_size, minimum=0)

    def initial(self, limit: int, *, chance: float = 0.5) -> Gradient2State:  # noqa: ARG002
        """The limit to begin with, before any call was measured."""
        return Gradient2State(limit)

    def sampled(self, state: Gradient2State, sample: LimitSample) -> Gradient2State:
        """The state after one more finished call; one that took no time at all says nothing."""
        seconds, estimate = sample.seconds, state.estimate
        if seconds <= 0:
            return state
        if sample.dropped and (not state.warm_up_count or seconds < state.long):
            return state
        averaged = self._averaged(state, seconds)
        long = averaged.long
        kept = long * 0.95 if long / seconds > 2 else long
        if sample.in_flight >= estimate / 2:
            gradient = max(0.5, min(1.0, self.tolerance * long / seconds))
            wanted = estimate * gradient + self.queue_size
            smoothed = estimate * (1 - self.smoothing) + wanted * self.smoothing
            estimate = max(self.minimum, min(self.maximum, smoothed))
        return Gradient2State(estimate, kept, averaged.warm_up_sum, averaged.warm_up_count)

    def _averaged(self, state: Gradient2State, seconds: float) -> Gradient2State:
        if state.warm_up_count < WARM_UP:
            total, count = state.warm_up_sum + seconds, state.warm_up_count + 1
            return Gradient2State(state.estimate, total / count, total, count)
        newest = 2 / (self.long_window + 1)
        long = state.long * (1 - newest) + seconds * newest
        return Gradient2State(state.estimate, long, state.warm_up_sum, state.warm_up_count)
