"""How values that several resources answer with are written."""

from __future__ import annotations

import datetime
import functools
import math

from bulkhead_trio.policies.rate import Decision


def wire_time(moment: datetime.datetime) -> str:
    """A point in time, in UTC with milliseconds: ``2026-02-11T12:00:00.000Z``."""
    text = moment.astimezone(datetime.UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def rate_limit_headers(
    policy: str, decision: Decision, *, wall_clock: float
) -> tuple[tuple[bytes, bytes], ...]:
    """What a caller is told about its quota, in the old and in the draft's form.

    Args:
        policy: the quota's name.
        decision: what it said to this request.
        wall_clock: Unix time now; the old form speaks of a date, so here alone it is read.
    """
    reset_after = math.ceil(decision.reset_after)
    reset_at = math.ceil(wall_clock + decision.reset_after)
    window = math.ceil(decision.window)
    return _quota_lines(policy, decision.limit, window, decision.remaining, reset_after, reset_at)


def tenant_quota_words(limit: int, decision: Decision) -> str:
    """What a tenant that has used up its quota is told of that.

    The headers speak of the quota by which it was decided. Where processes or instances have a part
    of the limit each, that is the part, and this says both.

    Args:
        limit: the tenant's.
        decision: what its quota said to this request.
    """
    words = f"Your tenant may send {limit} requests per {decision.window:g} s"
    if decision.limit == limit:
        return f"{words}."
    return f"{words}; it has a part of that, {decision.limit}, with the process that answers."


def event_quota_words(decision: Decision, parts: int) -> str:
    """What a tenant that has used up its quota of events is told of that.

    Args:
        decision: what the quota said to this request.
        parts: how many processes have a part of the quota each.
    """
    words = f"Your tenant may send {decision.limit} events per {decision.window:g} s"
    if parts == 1:
        return f"{words}."
    return f"{words} to the process that answers, which has one of {parts} parts of its quota."


@functools.lru_cache(maxsize=256)
def _quota_lines(
    policy: str, limit: int, window: int, remaining: int, reset_after: int, reset_at: int
) -> tuple[tuple[bytes, bytes], ...]:
    """Remembered: during a flood, thousands of answers say the same until the second ends."""
    name = policy.encode("ascii")
    return (
        (b"x-ratelimit-limit", b"%d" % limit),
        (b"x-ratelimit-remaining", b"%d" % remaining),
        (b"x-ratelimit-reset", b"%d" % reset_at),
        (b"ratelimit-policy", b'"%b";q=%d;w=%d' % (name, limit, window)),
        (b"ratelimit", b'"%b";r=%d;t=%d' % (name, remaining, reset_after)),
    )
