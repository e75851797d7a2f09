"""Rate limits over windows of time, as pure rules: ``decide(state, now, cost)``."""

from __future__ import annotations

import math

import attrs
import msgspec

from bulkhead_trio.policies._checks import check_duration, check_whole
from bulkhead_trio.policies.rate._decision import Decision, seconds_until


class Window(msgspec.Struct, frozen=True, gc=False):
    """The state of a fixed window: when it began, and how much of it is used."""

    began: float = -math.inf
    used: int = 0


@attrs.frozen
class _Windowed:
    """What all rules over windows have in common: ``limit`` units in ``seconds``."""

    limit: int
    seconds: float

    def __attrs_post_init__(self) -> None:
        check_whole("limit", self.limit, minimum=1)
        check_duration("seconds", self.seconds)

    @property
    def window(self) -> float:
        """Seconds that the quota is for."""
        return self.seconds

    @property
    def longest_debt(self) -> float:
        """Seconds after its last request at which any state is at rest."""
        return self.seconds

    @property
    def most_waiting(self) -> float:
        """No bound of its own on what may wait."""
        return math.inf

    def _decision(
        self, *, allowed: bool, remaining: int, reset_after: float, retry_after: float
    ) -> Decision:
        return Decision(allowed, self.limit, self.seconds, remaining, reset_after, retry_after)


@attrs.frozen
class FixedWindow(_Windowed):
    """At most ``limit`` units in each window of ``seconds``.

    The oldest of limits, and the cheapest. A window begins with the first request after the one
    before it has ended, so a client that starts fresh gets the whole quota at once, and
    ``reset_after`` is exact.

    Its weakness: up to twice the limit passes within ``seconds`` round the edge of two windows.

    Raises:
        ValueError: ``limit`` is below 1, or ``seconds`` not a positive number.
    """

    def initial(self) -> Window:
        """The state before any request."""
        return Window()

    def decide(self, state: Window, now: float, cost: int = 1) -> tuple[Window, Decision]:
        """Whether ``cost`` units pass at ``now``, and the state after that.

        A clock that went back makes the window begin anew, with what was used of it.
        """
        if now < state.began:
            state = Window(now, state.used)
        current = state if now < state.began + self.seconds else Window(now)
        used = current.used + cost
        if used <= self.limit:
            after = Window(current.began, used)
            reset_after = self._reset_after(after, now)
            return after, self._decision(
                allowed=True, remaining=self.limit - used, reset_after=reset_after, retry_after=0.0
            )
        reset_after = self._reset_after(current, now)
        return state, self._decision(
            allowed=False,
            remaining=self.limit - current.used,
            reset_after=reset_after,
            retry_after=math.inf if cost > self.limit else reset_after,
        )

    def remaining(self, state: Window, now: float) -> int:
        """The largest cost that would pass at ``now``."""
        return self.limit if now >= state.began + self.seconds else self.limit - state.used

    def rests_at(self, state: Window) -> float:
        """When the window ends."""
        return state.began + self.seconds

    def _reset_after(self, current: Window, now: float) -> float:
        if not current.used:
            return 0.0
        return min(self.seconds, seconds_until(self.rests_at(current), now))


class Counters(msgspec.Struct, frozen=True, gc=False):
    """The state of a sliding window: when the current one began, and two counts.

    Attributes:
        began: when the current window began.
        before: units of the window before it.
        used: units of this one.
    """

    began: float = -math.inf
    before: int = 0
    used: int = 0


@attrs.frozen
class SlidingWindow(_Windowed):
    """About ``limit`` units in any ``seconds``, from two counters.

    The window before counts with the share of it that is still inside the last ``seconds``, as if
    its requests had come evenly. Source: Cloudflare, "How we built rate limiting capable of scaling
    to millions of domains" (Julien Desgats, 2017), where 0.003 % of 400 million requests were
    decided wrongly.

    Its weakness is that guess. At a share ``f`` of the current window, up to ``limit * (1 + f)``
    units may have passed in the last ``seconds`` (all of the window before at its end), so just
    below twice the limit at worst; and a request may be refused that an exact log would let pass
    (all of the window before at its beginning).

    Raises:
        ValueError: ``limit`` is below 1, or ``seconds`` not a positive number.
    """

    @property
    def longest_debt(self) -> float:
        """Twice ``seconds``: a window counts until the one after it has ended."""
        return 2 * self.seconds

    def initial(self) -> Counters:
        """The state before any request."""
        return Counters()

    def decide(self, state: Counters, now: float, cost: int = 1) -> tuple[Counters, Decision]:
        """Whether ``cost`` units pass at ``now``, and the state after that.

        A clock that went back makes the current window begin anew, with what was used of it.
        """
        if now < state.began:
            state = Counters(now, state.before, state.used)
        current = self._at(state, now)
        ready_at = self._ready_at(current, cost)
        if now >= ready_at:
            after = Counters(current.began, current.before, current.used + cost)
            return after, self._decision(
                allowed=True,
                remaining=self._left(after, now),
                reset_after=seconds_until(self.rests_at(after), now),
                retry_after=0.0,
            )
        rests_at = self.rests_at(current)
        return state, self._decision(
            allowed=False,
            remaining=self._left(current, now),
            reset_after=seconds_until(rests_at, now) if rests_at > now else 0.0,
            retry_after=seconds_until(ready_at, now),
        )

    def remaining(self, state: Counters, now: float) -> int:
        """The largest cost that would pass at ``now``."""
        return self._left(self._at(state, max(now, state.began)), max(now, state.began))

    def rests_at(self, state: Counters) -> float:
        """When nothing of what was used counts any more."""
        if state.used:
            return state.began + self.seconds + self.seconds
        return state.began + self.seconds if state.before else -math.inf

    def _at(self, state: Counters, now: float) -> Counters:
        """The counters as they are at ``now``, which is not before they began."""
        end = state.began + self.seconds
        if now < end:
            return state
        if state.used and now < end + self.seconds:
            return Counters(end, state.used)
        return Counters(now)

    def _ready_at(self, current: Counters, cost: int) -> float:
        """When ``cost`` units pass; ``math.inf`` for never."""
        if cost > self.limit:
            return math.inf
        if current.used + cost <= self.limit:
            return self._ready_within(current, cost)
        return self._ready_within(Counters(current.began + self.seconds, current.used), cost)

    def _ready_within(self, current: Counters, cost: int) -> float:
        """When the window before counts little enough; ``cost`` fits beside what is used."""
        free = self.limit - current.used - cost
        if free >= current.before:
            return current.began
        return current.began + self.seconds * (1 - free / current.before)

    def _left(self, current: Counters, now: float) -> int:
        """The largest cost that passes now: estimated, then put right against the comparison."""
        share = 1 - (now - current.began) / self.seconds
        most = self.limit - current.used
        left = max(0, most - math.ceil(current.before * share) - 1)
        for _ in range(2):  # rounding may have moved the estimate by one, either way
            if left < most and now >= self._ready_within(current, left + 1):
                left += 1
        return left


class Log(msgspec.Struct, frozen=True, gc=False):
    """The state of a sliding log.

    Attributes:
        entries: for each moment at which something passed, until when it counts, and its units;
            the oldest first.
        used: the units of all of them.
    """

    entries: tuple[tuple[float, int], ...] = ()
    used: int = 0


@attrs.frozen
class SlidingLog(_Windowed):
    """At most ``limit`` units in any ``seconds``, exactly.

    Remembers when each unit passed: the textbook's sliding window, as in Figma's "An alternative
    approach to rate limiting" (2017), which calls it the sliding window log. What passed at ``t``
    counts before ``t + seconds``, and no more from then on.

    Its weakness: space and time in proportion to the requests that passed in one window, up to
    ``limit`` of them a key. Only those that pass are remembered.

    Raises:
        ValueError: ``limit`` is below 1, or ``seconds`` not a positive number.
    """

    def initial(self) -> Log:
        """The state before any request."""
        return Log()

    def decide(self, state: Log, now: float, cost: int = 1) -> tuple[Log, Decision]:
        """Whether ``cost`` units pass at ``now``, and the state after that.

        With a clock that went back, nothing counts for longer than ``seconds`` from ``now``.
        """
        until = now + self.seconds
        if state.entries and state.entries[-1][0] > until:
            state = Log(tuple((min(until, end), units) for end, units in state.entries), state.used)
        current = self._at(state, now)
        if current.used + cost <= self.limit:
            after = _with(current, until, cost)
            return after, self._decision(
                allowed=True,
                remaining=self.limit - after.used,
                reset_after=self.seconds,
                retry_after=0.0,
            )
        return state, self._decision(
            allowed=False,
            remaining=self.limit - current.used,
            reset_after=self._until(self.rests_at(current), now) if current.used else 0.0,
            retry_after=self._until(self._ready_at(current, cost), now),
        )

    def remaining(self, state: Log, now: float) -> int:
        """The largest cost that would pass at ``now``."""
        return self.limit - self._at(state, now).used

    def rests_at(self, state: Log) -> float:
        """When the newest entry no longer counts."""
        return state.entries[-1][0] if state.entries else -math.inf

    def _at(self, state: Log, now: float) -> Log:
        """What of ``state`` still counts at ``now``."""
        gone, used = 0, state.used
        for until, units in state.entries:
            if until > now:
                break
            gone += 1
            used -= units
        return Log(state.entries[gone:], used) if gone else state

    def _ready_at(self, current: Log, cost: int) -> float:
        """When enough has stopped to count for ``cost``, which does not pass now."""
        missing = current.used + cost - self.limit
        for until, units in current.entries:
            missing -= units
            if missing <= 0:
                return until
        return math.inf

    def _until(self, moment: float, now: float) -> float:
        return moment if moment == math.inf else min(self.seconds, seconds_until(moment, now))


def _with(log: Log, until: float, cost: int) -> Log:
    entries = log.entries
    if entries and entries[-1][0] == until:
        return Log((*entries[:-1], (until, entries[-1][1] + cost)), log.used + cost)
    return Log((*entries, (until, cost)), log.used + cost)
