"""What a rate limit answers, and what every rule has to be able to say."""

from __future__ import annotations

import math
from typing import Protocol, TypeVar

import msgspec

S = TypeVar("S")


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What a limit says to one request.

    A struct of msgspec rather than an attrs class: one is made for every request, and this takes a
    tenth of the time.

    Attributes:
        allowed: whether it may pass.
        limit: the quota, in units of cost.
        window: what the quota is for, in seconds.
        remaining: the largest cost that would still pass after this request, at the same moment.
        reset_after: seconds until the quota is whole again.
        retry_after: seconds until this request would pass; 0 when it does, ``math.inf`` when its
            cost is above what can ever pass.
    """

    allowed: bool
    limit: int
    window: float
    remaining: int
    reset_after: float
    retry_after: float


class Rule(Protocol[S]):
    """A rate limit as a pure rule over a state of its own; it reads no clock.

    Every rule decides by comparing ``now`` with a moment that depends on state and cost alone, so
    that ``retry_after`` is exact: a request that is refused at ``now`` passes at
    ``now + retry_after`` as floats add, where nothing else has passed in between. A refused request
    uses nothing. A clock that goes back gives nobody quota, and keeps nobody waiting for longer
    than the rule's longest wait.
    """

    @property
    def limit(self) -> int:
        """The largest cost that can pass at one moment."""

    @property
    def window(self) -> float:
        """Seconds that the quota is for."""

    @property
    def longest_debt(self) -> float:
        """Seconds after its last request at which any state is at rest."""

    @property
    def most_waiting(self) -> float:
        """Units that may wait for their turn; ``math.inf`` where the rule sets no bound."""

    def initial(self) -> S:
        """The state before any request."""

    def decide(self, state: S, now: float, cost: int = 1) -> tuple[S, Decision]:
        """Whether ``cost`` units, 1 or more, pass at ``now``, and the state after that."""

    def remaining(self, state: S, now: float) -> int:
        """The largest cost that would pass at ``now``."""

    def rests_at(self, state: S) -> float:
        """From when on ``state`` is as good as the initial one, which may be forgotten for it."""


def seconds_until(moment: float, now: float) -> float:
    """The least wait with ``now + wait >= moment`` as floats add, for ``moment`` after ``now``.

    The difference may have been rounded down; the float above it is not below the true difference,
    and sums are rounded monotonously, so that one step is enough.
    """
    wait = moment - now
    return wait if now + wait >= moment else math.nextafter(wait, math.inf)
