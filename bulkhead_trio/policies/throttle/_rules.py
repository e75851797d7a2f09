"""Client-side throttling: refuse some of the calls that would be refused anyway. Pure arithmetic.

The formula is that of "Site Reliability Engineering" (Google, O'Reilly 2016), chapter 21, "Handling
Overload", equation 21-1: https://sre.google/sre-book/handling-overload/
"""

from __future__ import annotations

from bulkhead_trio.policies._checks import check_duration, check_positive, check_whole
from bulkhead_trio.policies._recent_rules import RecentCount


def refusal_probability(requests: int, accepts: int, k: float) -> float:
    """How likely the next call is to be refused here: ``max(0, (requests - k * accepts) / ...)``.

    Args:
        requests: calls that were wanted lately, those refused here included.
        accepts: those of them that the backend accepted.
        k: how many calls may be wanted for each one accepted before any is refused here.

    Returns:
        a number in [0, 1).
    """
    return max(0.0, (requests - k * accepts) / (requests + 1))


class Acceptance:
    """What was wanted and what was accepted in the last ``window`` seconds.

    A call is counted when it is known whether it was accepted, as both in the same bucket: what was
    accepted was wanted. The book counts what is wanted when it is sent; then a burst of calls would
    look like a refusing backend until the first one is answered.

    Counted in buckets of a thirtieth of the window, so that what is seen is the last 29 to 30
    thirtieths of it.
    """

    BUCKETS = 30

    __slots__ = ("_accepts", "_k", "_min_requests", "_requests")

    def __init__(self, *, k: float, window: float, min_requests: int) -> None:
        check_positive("k", k)
        if k < 1:
            raise ValueError(f"k must be 1 or more, not {k!r}")
        check_duration("window", window)
        check_whole("min_requests", min_requests, minimum=0)
        self._k = k
        self._min_requests = min_requests
        width = window / self.BUCKETS
        self._requests = RecentCount(width=width, buckets=self.BUCKETS)
        self._accepts = RecentCount(width=width, buckets=self.BUCKETS)

    def probability(self, now: float) -> float:
        """How likely a call is to be refused at ``now``."""
        requests = self._requests.total(now)
        if requests < self._min_requests:
            return 0.0
        return refusal_probability(requests, self._accepts.total(now), self._k)

    def refusal(self, now: float, random: float) -> float:
        """Decide on one call: the probability with which it is refused; 0 where it may go on.

        One that is refused is counted.

        Args:
            now: the clock's time.
            random: a number in [0, 1).
        """
        probability = self.probability(now)
        if random >= probability:
            return 0.0
        self._requests.add(now)
        return probability

    def accepted(self, now: float) -> None:
        """Count a call that the backend accepted."""
        self._requests.add(now)
        self._accepts.add(now)

    def rejected(self, now: float) -> None:
        """Count a call that the backend did not accept."""
        self._requests.add(now)

    def requests(self, now: float) -> int:
        """Calls wanted in the window."""
        return self._requests.total(now)

    def accepts(self, now: float) -> int:
        """Calls accepted in the window."""
        return self._accepts.total(now)
