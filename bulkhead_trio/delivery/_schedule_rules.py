"""When a delivery is tried again. Pure.

The schedule is Standard Webhooks' own unless configured: at once, then after 5 s, 5 min, 30 min,
2, 5, 10, 14, 20 and 24 h: three days and a bit.
"""

from __future__ import annotations

import email.utils
import re
from typing import Final

import attrs

from bulkhead_trio.policies._checks import check_seconds

DEFAULT_WAITS: Final = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
"""Seconds before the second try, the third, and so on."""

JITTER: Final = 0.1
"""A wait is up to this share longer or shorter, so that what failed together does not come back
together."""

LONGEST_ASKED_SECONDS: Final = 86400.0
"""What an endpoint may ask for with ``Retry-After``, unless the schedule has a longer wait."""

LONGEST_READ_SECONDS: Final = 1e10
"""Three hundred years; a longer wait is this one."""

_WHOLE_SECONDS: Final = re.compile(r"[0-9]+")


@attrs.frozen
class RetrySchedule:
    """How long to wait between tries.

    Attributes:
        waits: seconds before the second try, the third and so on; as many as there are tries after
            the first, which has no wait. Empty: it is tried once.

    Raises:
        ValueError: a wait is no number of seconds.
    """

    waits: tuple[float, ...] = DEFAULT_WAITS

    def __attrs_post_init__(self) -> None:
        for wait in self.waits:
            check_seconds("waits", wait)

    @property
    def tries(self) -> int:
        """How often something is tried at most."""
        return 1 + len(self.waits)

    @property
    def longest_asked(self) -> float:
        """The longest wait that an endpoint may ask for, in seconds."""
        return max((LONGEST_ASKED_SECONDS, *self.waits))

    def span(self, timeout: float) -> float:
        """Seconds from the first try to the end of the last at the most, nobody asking for more.

        Args:
            timeout: seconds that one try may take.
        """
        return sum(self.waits) * (1 + JITTER) + self.tries * timeout

    def is_over(self, seconds: float, timeout: float) -> bool:
        """Whether, so long after its schedule began, nothing should be put off any more.

        Args:
            seconds: since the first try was due.
            timeout: seconds that one try may take.
        """
        return seconds > self.span(timeout)

    def wait(self, tries: int, *, random: float, asked: float | None = None) -> float | None:
        """Seconds from a try that failed to the next one; ``None`` where it was the last.

        Args:
            tries: how many there have been; 1 or more.
            random: a number in [0, 1).
            asked: seconds that the endpoint has asked for. It is never shorter than the schedule's
                own wait, nor longer than `longest_asked`; chance makes it longer, never shorter.

        Raises:
            ValueError: there has been no try.
        """
        if tries < 1:
            raise ValueError(f"tries must be 1 or more, not {tries}")
        if tries > len(self.waits):
            return None
        own = self.waits[tries - 1] * (1 - JITTER + 2 * JITTER * random)
        if asked is None:
            return own
        return max(own, min(asked, self.longest_asked) * (1 + JITTER * random))


def read_retry_after(value: str | None, *, now: float) -> float | None:
    """Seconds that a ``Retry-After`` asks to wait (RFC 9110, section 10.2.3); 0 for a past date.

    Args:
        value: seconds, or a date in any of HTTP's three forms; ``None`` where there is no header.
        now: the time, in seconds since 1970.

    Returns:
        ``None`` where it is neither.
    """
    if value is None:
        return None
    text = value.strip()
    if _WHOLE_SECONDS.fullmatch(text):
        return min(float(text), LONGEST_READ_SECONDS)
    if len(text) > 64:  # no date is: a parser of mail need not look at it
        return None
    try:
        parsed = email.utils.parsedate_tz(text)
        return None if parsed is None else max(0.0, email.utils.mktime_tz(parsed) - now)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
