"""What a try changes about its endpoint: whether it is failing, slowed down, or disabled. Pure."""

from __future__ import annotations

from typing import Final

from bulkhead_trio.database.webhook_records import EndpointChange
from bulkhead_trio.delivery._verdict_rules import Verdict

DISABLE_AFTER_SECONDS: Final = 432_000.0
"""Five days of nothing but failures."""

FAILING: Final = "failing"
"""Why an endpoint was disabled: nothing has been delivered for so long."""

SLOW_SECONDS: Final = 30.0
"""For which an endpoint gets nothing that is overloaded and does not say how long it wants; less
where the delivery that has found out is to be tried again sooner."""

LEAST_SLOW_SECONDS: Final = 1.0

LONGEST_SLOW_SECONDS: Final = 3600.0
"""However long it wants: it is asked again now and then, and may ask again."""


def change_of(
    verdict: Verdict,
    *,
    failing_since: float | None,
    now: float,
    slow: float | None = None,
    disable_after: float = DISABLE_AFTER_SECONDS,
) -> EndpointChange | None:
    """What is to be written down of the endpoint; ``None`` where nothing is new.

    What a claim has seen may be old by the end of its try. So whoever writes a success down makes
    the endpoint good, whatever is said here, and keeps the first moment of those that failed.

    Args:
        verdict: what the try has meant.
        failing_since: when the first of the failures was that no success has come after, in seconds
            since 1970; ``None`` where the last try before this one was a success.
        now: the time, on the same clock.
        slow: seconds for which nothing is to be sent to it; ``None`` where anything may be.
        disable_after: seconds of nothing but failures.
    """
    if verdict.outcome == "delivered":
        return None if failing_since is None else EndpointChange(is_failing=False)
    if not verdict.blames_endpoint:
        return None
    reason = verdict.disables
    if reason is None and failing_since is not None and now - failing_since >= disable_after:
        reason = FAILING
    if failing_since is not None and reason is None and slow is None:
        return None
    return EndpointChange(disable_reason=reason, slow_seconds=slow, is_failing=True)


def slow_seconds(
    verdict: Verdict, *, asked: float | None, wait: float | None, left_alone: float = 0.0
) -> float | None:
    """For how long nothing is to be sent to an endpoint; ``None`` where anything may be.

    Args:
        verdict: what a try has meant.
        asked: seconds that its ``Retry-After`` has asked for.
        wait: seconds until the delivery is tried again; ``None`` where it is not.
        left_alone: seconds for which its breaker lets nothing through.
    """
    slow = 0.0
    if verdict.slows:
        found = (
            min(SLOW_SECONDS, SLOW_SECONDS if wait is None else wait) if asked is None else asked
        )
        slow = min(max(found, LEAST_SLOW_SECONDS), LONGEST_SLOW_SECONDS)
    return max(slow, left_alone) or None
