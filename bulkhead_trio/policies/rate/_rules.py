"""Rate limits as pure rules: ``decide(state, now, cost) -> (state, Decision)``."""

from __future__ import annotations

import math

import attrs


@attrs.frozen
class Decision:
    """What a limit says to one request.

    Attributes:
        allowed: whether it may pass.
        limit: the quota, in units of cost.
        window: what the quota is for, in seconds.
        remaining: units left after this request.
        reset_after: seconds until the quota is whole again.
        retry_after: seconds until this request would pass; 0 when it does.
    """

    allowed: bool
    limit: int
    window: float
    remaining: int
    reset_after: float
    retry_after: float


@attrs.frozen
class Window:
    """The state of a fixed window: when it began, and how much of it is used."""

    began: float = float("-inf")
    used: int = 0


@attrs.frozen
class FixedWindow:
    """At most ``limit`` units in each window of ``seconds``.

    A window begins with the first request after the one before it has ended, so a client that
    starts fresh gets the whole quota at once, and ``reset_after`` is exact. As every fixed window,
    it lets up to twice the limit pass round an edge; a sliding window does not.

    A request that is refused uses nothing.

    Raises:
        ValueError: ``limit`` is below 1, or ``seconds`` not a positive number.
    """

    limit: int
    seconds: float

    def __attrs_post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"limit must be 1 or more, not {self.limit}")
        if not (self.seconds > 0 and math.isfinite(self.seconds)):
            raise ValueError(f"seconds must be a positive number, not {self.seconds}")

    def initial(self) -> Window:
        """The state before any request."""
        return Window()

    def decide(self, state: Window, now: float, cost: int = 1) -> tuple[Window, Decision]:
        """Whether ``cost`` units pass at ``now``, and the state after that.

        A clock that went back stays in the window it was in.
        """
        current = Window(began=now) if now >= state.began + self.seconds else state
        allowed = current.used + cost <= self.limit
        if allowed:
            current = attrs.evolve(current, used=current.used + cost)
        reset_after = min(self.seconds, max(0.0, current.began + self.seconds - now))
        decision = Decision(
            allowed=allowed,
            limit=self.limit,
            window=self.seconds,
            remaining=self.limit - current.used,
            reset_after=reset_after,
            retry_after=0.0 if allowed else reset_after,
        )
        return current, decision

    def remaining(self, state: Window, now: float) -> int:
        """Units left at ``now``."""
        return self.limit if now >= state.began + self.seconds else self.limit - state.used
