"""When to try again, and when to let it be: pure arithmetic.

The waits are those of Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015:
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

from __future__ import annotations

import enum
from typing import Literal, TypeAlias

import attrs

from bulkhead_trio.policies._checks import check_duration, check_seconds, check_share, check_whole
from bulkhead_trio.policies._recent_rules import RecentCount

Jitter: TypeAlias = Literal["full", "decorrelated", "none"]
JITTERS: tuple[Jitter, ...] = ("full", "decorrelated", "none")

MOST_DOUBLINGS = 1000
"""Beyond this a power of two is near the end of what a float holds, and far above any cap."""


class Reason(enum.Enum):
    """Why a call was not tried again, as a stable word for metrics and notes."""

    NOT_RETRYABLE = "not_retryable"
    ATTEMPTS = "attempts"
    RETRY_AFTER = "retry_after"
    DEADLINE = "deadline"
    BUDGET = "budget"


@attrs.frozen
class Schedule:
    """How often to try, and how long to wait between.

    Attributes:
        attempts: tries in all.
        base_delay: seconds before the second try, where nothing is left to chance.
        max_delay: no wait is longer.
        jitter: how chance shares in it, see `delay`.
    """

    attempts: int
    base_delay: float
    max_delay: float
    jitter: Jitter

    def __attrs_post_init__(self) -> None:
        check_whole("attempts", self.attempts, minimum=1)
        check_seconds("base_delay", self.base_delay)
        check_seconds("max_delay", self.max_delay)
        if self.max_delay < self.base_delay:
            raise ValueError(f"max_delay must not be below base_delay, as {self.max_delay!r} is")
        if self.jitter not in JITTERS:
            raise ValueError(f"jitter must be one of {', '.join(JITTERS)}, not {self.jitter!r}")

    def delay(self, tries: int, *, previous: float, random: float) -> float:
        """Seconds to wait before the next try.

        * ``none``: ``base_delay``, doubled with each try, up to ``max_delay``.
        * ``full``: anything from 0 to that.
        * ``decorrelated``: anything from ``base_delay`` to three times the ``previous`` delay, up
          to ``max_delay``.

        Args:
            tries: how many there have been; 1 or more.
            previous: what this said before the last try; ``base_delay`` after the first.
            random: a number in [0, 1).
        """
        if self.jitter == "decorrelated":
            spread = max(0.0, 3 * previous - self.base_delay)
            return min(self.max_delay, self.base_delay + random * spread)
        doublings = min(tries - 1, MOST_DOUBLINGS)
        ceiling = min(self.max_delay, self.base_delay * 2.0**doublings)
        return ceiling if self.jitter == "none" else random * ceiling

    def wait(
        self, tries: int, *, delay: float, retry_after: float | None, now: float, deadline: float
    ) -> float | Reason:
        """Seconds until the next try, or why there is none.

        Args:
            tries: how many there have been; 1 or more.
            delay: what `delay` says.
            retry_after: what whoever refused has asked for: at least that is waited.
            now: the clock's time.
            deadline: on the same clock; a try that could only begin then is none.
        """
        if tries >= self.attempts:
            return Reason.ATTEMPTS
        if retry_after is not None:
            if retry_after > self.max_delay:
                return Reason.RETRY_AFTER
            delay = max(delay, retry_after)
        return Reason.DEADLINE if now + delay >= deadline else delay


class Budget:
    """How many retries so many calls may cause.

    A retry is granted while the retries of the last ``window`` seconds, it included, are at most
    ``max(min_retries, ratio * calls)``, where the calls are those of the same seconds.

    Both are counted in buckets of a tenth of the window. The calls in view are never older than the
    window; the retries are in view one bucket longer, so that none that belongs to the window is
    ever left out. So the bound holds for the true last ``window`` seconds at every grant, and the
    budget is at most a tenth stricter than it.
    """

    BUCKETS = 10

    __slots__ = ("_calls", "_min_retries", "_ratio", "_retries")

    def __init__(self, *, ratio: float, min_retries: int, window: float) -> None:
        check_share("ratio", ratio)
        check_whole("min_retries", min_retries, minimum=0)
        check_duration("window", window)
        self._ratio = ratio
        self._min_retries = min_retries
        width = window / self.BUCKETS
        self._calls = RecentCount(width=width, buckets=self.BUCKETS)
        self._retries = RecentCount(width=width, buckets=self.BUCKETS + 1)

    def called(self, now: float) -> None:
        """Count a call's first try."""
        self._calls.add(now)

    def take(self, now: float) -> int | None:
        """Grant a retry; what is returned gives it back. ``None``: there is none to be had."""
        if self._retries.total(now) + 1 > self.allowed(now):
            return None
        return self._retries.add(now)

    def give_back(self, grant: int, now: float) -> None:
        """Undo a grant that was not used."""
        self._retries.take_back(grant, now)

    def allowed(self, now: float) -> float:
        """Retries that the calls in view allow."""
        return max(self._min_retries, self._ratio * self._calls.total(now))

    def calls(self, now: float) -> int:
        """Calls in view."""
        return self._calls.total(now)

    def retries(self, now: float) -> int:
        """Retries in view."""
        return self._retries.total(now)
