"""Who waits for a rate limit, in which order and until when: without a clock and without tasks.

Every place in the line has a moment at which it may go, found by asking the rule for a request at
that moment, with everybody in front of it gone. A place that is given back is taken out of the
line, and those behind it are asked for anew, each when it matters: so nobody waits for the sake of
somebody who has left, and yet a thousand who leave at once cost a thousand steps, not a million.
"""

from __future__ import annotations

import math
from typing import Any, Generic, TypeVar

from bulkhead_trio.policies.rate._decision import Decision, Rule, seconds_until

S = TypeVar("S")


class Place(Generic[S]):
    """One place in a line.

    Attributes:
        cost: units that it will use.
        at: when it may go; of a place behind one that was given back, the latest it can be.
        decision: what the rule says at that moment.
        is_in_line: whether it still waits; otherwise it went, or was given back.
        has_gone: whether its moment came.
        waiter: whatever the shell keeps of the task that waits for it; ``None`` for nobody.
    """

    __slots__ = (
        "after", "at", "before", "cost", "decision", "has_gone", "is_in_line", "next", "number",
        "previous", "waiter",
    )  # fmt: skip

    def __init__(self, number: int, cost: int, previous: Place[S] | None) -> None:
        self.number = number
        self.cost = cost
        self.previous = previous
        self.next: Place[S] | None = None
        self.at = math.inf
        self.before: S
        self.after: S
        self.decision: Decision
        self.is_in_line = True
        self.has_gone = False
        self.waiter: Any = None

    @classmethod
    def gone(cls, cost: int, decision: Decision) -> Place[Any]:
        """A place that never had to be waited for, in no line: of somebody who is not limited."""
        place: Place[Any] = cls(0, cost, None)
        place.decision = decision
        place.is_in_line = False
        place.has_gone = True
        return place


class Line(Generic[S]):
    """The state of one quota, and the places of those who wait for it.

    Attributes:
        rule: what the quota is.
        state: the rule's, with everything that has gone so far.
        first: whose turn is next; ``None`` for an empty line.
    """

    __slots__ = (
        "_earliest", "_last", "_newest_gone", "_numbers", "_stale", "first", "length",
        "rule", "state", "units",
    )  # fmt: skip

    def __init__(self, rule: Rule[S], state: S) -> None:
        self.rule = rule
        self.state = state
        self.first: Place[S] | None = None
        self.length = 0
        self.units = 0
        self._last: Place[S] | None = None
        # The first place whose moment has to be found anew; so have those of all behind it.
        self._stale: Place[S] | None = None
        # From when on they are found: when the line last changed, however late somebody asks.
        self._earliest = -math.inf
        self._newest_gone: Place[S] | None = None
        self._numbers = 0

    def decide(self, now: float, cost: int) -> Decision:
        """Take ``cost`` units at ``now`` if they can be had; nobody who waits is overtaken.

        Whoever could go by ``now`` must have gone (`next_to_go`).
        """
        if self._last is not None:
            return self.ask(now, cost)
        self.state, decision = self.rule.decide(self.state, now, cost)
        if decision.allowed:
            self._newest_gone = None
        return decision

    def ask(self, now: float, cost: int) -> Decision:
        """What `decide` would say; takes nothing."""
        if self._last is None:
            return self.rule.decide(self.state, now, cost)[1]
        self.refresh(self._last)
        at, _, decision = self._asked(self._last.after, self._last.at, cost)
        return Decision(
            allowed=False,
            limit=decision.limit,
            window=decision.window,
            remaining=0,
            reset_after=seconds_until(self.rule.rests_at(self._last.after), now),
            retry_after=at if at == math.inf else seconds_until(at, now),
        )

    def join(self, now: float, cost: int) -> Place[S]:
        """A place at the end of the line, for a cost that can pass at some time."""
        place = Place(self._numbers, cost, self._last)
        self._numbers += 1
        if self._last is None:
            self.first = place
        else:
            self.refresh(self._last)
            self._last.next = place
        self._last = place
        self.length += 1
        self.units += cost
        self._find_moment(place, now)
        return place

    def leave(self, place: Place[S], now: float) -> None:
        """Take a place that is in the line out of it.

        Whoever is in front and could go by ``now`` must have gone.
        """
        self._earliest = max(now, self._earliest)
        if place.next is not None and (
            self._stale is None or place.next.number < self._stale.number or self._stale is place
        ):
            self._stale = place.next
        elif self._stale is place:
            self._stale = None
        self._unlink(place)

    def take_back(self, place: Place[S], now: float) -> bool:
        """Undo that ``place`` went, where nothing has gone since; says whether it could be."""
        if place is not self._newest_gone:
            return False
        self._newest_gone = None
        place.has_gone = False
        self.state = place.before
        self._stale = self.first
        self._earliest = max(now, self._earliest)
        return True

    def close(self) -> S:
        """The state, of which nothing can be taken back any more."""
        self._newest_gone = None
        return self.state

    def next_to_go(self, now: float, before: Place[S] | None = None) -> Place[S] | None:
        """Let the first place go if its moment has come and it is not ``before``; else ``None``."""
        place = self.first
        if place is None or place is before:
            return None
        self.refresh(place)
        if place.at > now:
            return None
        self.state = place.after
        self._earliest = max(place.at, self._earliest)
        self._unlink(place)
        place.has_gone = True
        self._newest_gone = place
        return place

    def first_with_waiter(self) -> Place[S] | None:
        """The first place that a task waits for, its moment found."""
        place = self.first
        while place is not None and place.waiter is None:
            place = place.next
        if place is not None:
            self.refresh(place)
        return place

    def refresh(self, place: Place[S]) -> None:
        """Find the moment of a place in the line, if those in front of it have changed."""
        while self._stale is not None and self._stale.number <= place.number:
            self._find_moment(self._stale, self._earliest)
            self._stale = self._stale.next

    # --- inside ----------------------------------------------------------------------------------

    def _find_moment(self, place: Place[S], earliest: float) -> None:
        before = self.state if place.previous is None else place.previous.after
        if place.previous is not None:
            earliest = max(earliest, place.previous.at)
        place.before = before
        place.at, place.after, place.decision = self._asked(before, earliest, place.cost)

    def _asked(self, state: S, at: float, cost: int) -> tuple[float, S, Decision]:
        """When from ``at`` on ``cost`` passes, and what is then."""
        after, decision = self.rule.decide(state, at, cost)
        if decision.allowed or decision.retry_after == math.inf:
            return (at if decision.allowed else math.inf), after, decision
        at += decision.retry_after
        return at, *self.rule.decide(state, at, cost)

    def _unlink(self, place: Place[S]) -> None:
        if place.previous is None:
            self.first = place.next
        else:
            place.previous.next = place.next
        if place.next is None:
            self._last = place.previous
        else:
            place.next.previous = place.previous
        place.previous = place.next = None
        place.is_in_line = False
        self.length -= 1
        self.units -= place.cost
