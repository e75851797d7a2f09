"""How values that several resources answer with are written."""

from __future__ import annotations

import datetime
import math

from bulkhead_trio.policies.rate import Decision


def wire_time(moment: datetime.datetime) -> str:
    """A point in time, in UTC with milliseconds: ``2026-02-11T12:00:00.000Z``."""
    text = moment.astimezone(datetime.UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def rate_limit_headers(
    policy: str, decision: Decision, *, wall_clock: float
) -> tuple[tuple[str, str], ...]:
    """What a caller is told about its quota, in the old and in the draft's form.

    Args:
        policy: the quota's name.
        decision: what it said to this request.
        wall_clock: Unix time now; the old form speaks of a date, so here alone it is read.
    """
    reset_after = math.ceil(decision.reset_after)
    return (
        ("X-RateLimit-Limit", str(decision.limit)),
        ("X-RateLimit-Remaining", str(decision.remaining)),
        ("X-RateLimit-Reset", str(math.ceil(wall_clock + decision.reset_after))),
        ("RateLimit-Policy", f'"{policy}";q={decision.limit};w={math.ceil(decision.window)}'),
        ("RateLimit", f'"{policy}";r={decision.remaining};t={reset_after}'),
    )
