"""What a breaker says of itself: its statistics, and what its listeners are told."""

from __future__ import annotations

from typing import TypeAlias

import attrs

from bulkhead_trio.policies.breaker._outcome_rules import BreakerOutcome
from bulkhead_trio.policies.breaker._states import BreakerState


@attrs.frozen(kw_only=True)
class BreakerStatistics:
    """What a breaker knows at one moment.

    Attributes:
        name: the breaker's.
        state: an open breaker whose cooldown has passed is ``HALF_OPEN``: the next call probes.
        failures: failures in the window (of `Consecutive`, those in a row, slow calls included);
            after opening, those that opened it and failed probes since.
        calls: calls in the window; after opening, as it was then.
        failure_rate: share of ``calls`` that failed; ``None`` without calls, and always for
            `Consecutive`, which knows no rates.
        slow_rate: share of ``calls`` that were slow; ``None`` as above.
        retry_after: what is left of the cooldown, in seconds; 0 where there is none.
        probes: half-open calls under way.
        opened: how often it has opened by itself.
        refused: how many calls it has refused; with ``metrics_only``, would have.
        succeeded: calls that ended well since it was made, also those too late to matter.
        failed: calls that failed, likewise.
        ignored: calls that counted neither way, likewise.
        metrics_only: whether it lets everything pass.
    """

    name: str
    state: BreakerState
    failures: int
    calls: int
    failure_rate: float | None
    slow_rate: float | None
    retry_after: float
    probes: int
    opened: int
    refused: int
    succeeded: int
    failed: int
    ignored: int
    metrics_only: bool


@attrs.frozen
class BreakerTransition:
    """What a listener is told, after the breaker has moved.

    Attributes:
        at: when, on Trio's clock; for a half-open that took too long, when its time was up.
    """

    breaker: str
    before: BreakerState
    after: BreakerState
    at: float


@attrs.frozen
class BreakerRefused:
    """A call was refused.

    Attributes:
        retry_after: as the `CircuitOpen` that it got.
        passed: it was let through all the same, the breaker being there for its metrics only.
    """

    breaker: str
    state: BreakerState
    retry_after: float | None
    passed: bool
    at: float


@attrs.frozen
class BreakerCallEnded:
    """A permitted call has ended, after ``seconds``."""

    breaker: str
    outcome: BreakerOutcome
    seconds: float
    is_slow: bool
    at: float


BreakerCall: TypeAlias = BreakerRefused | BreakerCallEnded
