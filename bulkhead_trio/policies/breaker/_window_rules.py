"""What a closed breaker looks back on: three kinds of window, and what each has counted so far.

A window is what the user chooses; a tally is what it holds, and never changes: counting one more
call makes the next one. None takes more memory however many calls there are.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

import attrs
from msgspec import Struct

from bulkhead_trio.policies._checks import check_duration, check_whole

BUCKETS = 10
"""Parts of a `TimeWindow` that are forgotten one at a time; resilience4j and Polly have as many."""


@attrs.frozen
class Thresholds:
    """When a window of rates has had enough.

    Attributes:
        failure_rate: share of failed calls, above 0 and at most 1.
        slow_rate: share of slow calls, above 0 and at most 1.
        minimum: calls below which no rate is looked at.
    """

    failure_rate: float = 0.5
    slow_rate: float = 1.0
    minimum: int = 1

    def are_reached(self, failures: int, slow: int, calls: int) -> bool:
        """Whether ``failures`` or ``slow`` of ``calls`` (1 or more) are a share that is too much.

        A quotient is compared, since 7 / 100 is the very number that is written 0.07, and
        0.07 * 100 is not 7.
        """
        return failures / calls >= self.failure_rate or slow / calls >= self.slow_rate


class Tally(Protocol):
    """What a window holds.

    Attributes:
        calls: calls in the window.
        failures: those of them that failed.
        slow: those of them that were slow.
    """

    @property
    def calls(self) -> int: ...

    @property
    def failures(self) -> int: ...

    @property
    def slow(self) -> int: ...

    def after(self, failed: bool, slow: bool, now: float) -> Tally:
        """With one more call; itself where that changes nothing."""

    def at(self, now: float) -> Tally:
        """As it is at ``now``: without what has become too old since."""

    def opens(self, thresholds: Thresholds) -> bool:
        """Whether it is enough to open the breaker."""


# --- so many in a row ----------------------------------------------------------------------------


@attrs.frozen
class Consecutive:
    """Open after this many failures with no success between them; a slow call counts as one.

    Attributes:
        failures: 1 or more.
    """

    failures: int

    def __attrs_post_init__(self) -> None:
        check_whole("failures", self.failures, minimum=1)

    def empty(self, now: float) -> ConsecutiveTally:  # noqa: ARG002  as the other windows
        """Nothing counted yet."""
        return ConsecutiveTally(self.failures)

    def fails_trial(self, failures: int, slow: int, calls: int, thresholds: Thresholds) -> bool:  # noqa: ARG002
        """Whether half-open has failed: one bad probe is enough."""
        return failures + slow > 0


class ConsecutiveTally(Struct, frozen=True, gc=False):
    """The failures since the last success; nothing else is remembered."""

    enough: int
    failures: int = 0

    @property
    def calls(self) -> int:
        """The same: what came before them is forgotten."""
        return self.failures

    @property
    def slow(self) -> int:
        """Slow calls are among the failures and not known apart."""
        return 0

    def after(self, failed: bool, slow: bool, now: float) -> ConsecutiveTally:  # noqa: ARG002
        """With one more call; itself where that changes nothing."""
        if failed or slow:
            return ConsecutiveTally(self.enough, self.failures + 1)
        return ConsecutiveTally(self.enough) if self.failures else self

    def at(self, now: float) -> ConsecutiveTally:  # noqa: ARG002
        """Itself: time forgets nothing here."""
        return self

    def opens(self, thresholds: Thresholds) -> bool:  # noqa: ARG002
        """Whether there are enough in a row."""
        return self.failures >= self.enough


# --- the last so many ----------------------------------------------------------------------------


@attrs.frozen
class CountWindow:
    """Look at the last ``size`` calls.

    Attributes:
        size: calls, 1 or more. Each takes two bits; a thousand cost a call no time to speak of,
            ten thousand two microseconds.
    """

    size: int

    def __attrs_post_init__(self) -> None:
        check_whole("size", self.size, minimum=1)

    def empty(self, now: float) -> CountTally:  # noqa: ARG002
        """Nothing counted yet."""
        return CountTally(self.size, (1 << self.size) - 1)

    def fails_trial(self, failures: int, slow: int, calls: int, thresholds: Thresholds) -> bool:
        """Whether half-open has failed: by the shares that open it, of all its calls."""
        return thresholds.are_reached(failures, slow, calls)


class CountTally(Struct, frozen=True, gc=False):
    """The last calls as the bits of two whole numbers, the newest lowest: which failed, were slow.

    Attributes:
        mask: as many bits as the window has places.
    """

    size: int
    mask: int
    calls: int = 0
    failed_bits: int = 0
    slow_bits: int = 0

    @property
    def failures(self) -> int:
        """Calls in the window that failed."""
        return self.failed_bits.bit_count()

    @property
    def slow(self) -> int:
        """Calls in the window that were slow."""
        return self.slow_bits.bit_count()

    def after(self, failed: bool, slow: bool, now: float) -> CountTally:  # noqa: ARG002
        """With one more call; itself where that changes nothing."""
        calls, failed_bits, slow_bits = self.calls, self.failed_bits, self.slow_bits
        if calls < self.size:
            calls += 1
        elif not (failed or slow or failed_bits or slow_bits):
            return self  # full of good calls, and another one
        mask = self.mask
        return CountTally(
            self.size,
            mask,
            calls,
            (failed_bits << 1 | failed) & mask,
            (slow_bits << 1 | slow) & mask,
        )

    def at(self, now: float) -> CountTally:  # noqa: ARG002
        """Itself: time forgets nothing here."""
        return self

    def opens(self, thresholds: Thresholds) -> bool:
        """Whether there are enough calls to judge, and too many of them bad."""
        calls = self.calls
        if calls < thresholds.minimum:
            return False
        return thresholds.are_reached(
            self.failed_bits.bit_count(), self.slow_bits.bit_count(), calls
        )


# --- the last so many seconds --------------------------------------------------------------------


@attrs.frozen
class TimeWindow:
    """Look at the calls that ended in the last ``seconds``.

    They are kept in ten buckets, the oldest forgotten as a whole: between 90 and 100 % of the time
    is in view.

    Attributes:
        seconds: above 0.
    """

    seconds: float

    def __attrs_post_init__(self) -> None:
        check_duration("seconds", self.seconds)

    def empty(self, now: float) -> TimeTally:
        """Nothing counted yet."""
        width = self.seconds / BUCKETS
        return TimeTally(width, int(now // width))

    def fails_trial(self, failures: int, slow: int, calls: int, thresholds: Thresholds) -> bool:
        """Whether half-open has failed: by the shares that open it, of all its calls."""
        return thresholds.are_reached(failures, slow, calls)


Bucket: TypeAlias = tuple[int, int, int]
"""Calls, failures and slow calls."""

EMPTY: Bucket = (0, 0, 0)


class TimeTally(Struct, frozen=True, gc=False):
    """Counts of the newest bucket, of all of them, and those before the newest, oldest first.

    Attributes:
        width: seconds of a bucket.
        tick: number of the newest bucket since the clock's zero.
    """

    width: float
    tick: int
    calls: int = 0
    failures: int = 0
    slow: int = 0
    newest_calls: int = 0
    newest_failures: int = 0
    newest_slow: int = 0
    older: tuple[Bucket, ...] = (EMPTY,) * (BUCKETS - 1)

    def after(self, failed: bool, slow: bool, now: float) -> TimeTally:
        """With one more call; a clock that went back counts in the newest bucket there is."""
        tally = self.at(now)
        return TimeTally(
            tally.width,
            tally.tick,
            tally.calls + 1,
            tally.failures + failed,
            tally.slow + slow,
            tally.newest_calls + 1,
            tally.newest_failures + failed,
            tally.newest_slow + slow,
            tally.older,
        )

    def at(self, now: float) -> TimeTally:
        """Without the buckets that have become too old."""
        passed = now // self.width - self.tick
        if passed <= 0:
            return self
        tick = self.tick + int(passed)
        newest = (self.newest_calls, self.newest_failures, self.newest_slow)
        kept = (*self.older, newest, *(EMPTY,) * int(min(passed, BUCKETS)))
        older = kept[-BUCKETS:-1]
        calls, failures, slow = (sum(counts) for counts in zip(*older, strict=True))
        return TimeTally(self.width, tick, calls, failures, slow, 0, 0, 0, older)

    def opens(self, thresholds: Thresholds) -> bool:
        """Whether there are enough calls to judge, and too many of them bad."""
        calls = self.calls
        if calls < thresholds.minimum:
            return False
        return thresholds.are_reached(self.failures, self.slow, calls)


Window: TypeAlias = Consecutive | CountWindow | TimeWindow
