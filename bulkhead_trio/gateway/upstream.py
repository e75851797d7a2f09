"""One upstream of one route: how many requests it has, how it is, and the way in."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from types import TracebackType

import trio

from bulkhead_trio.gateway._balance_rules import Share
from bulkhead_trio.gateway._health_rules import (
    Checked,
    Outing,
    Serving,
    Verdict,
    health_word,
    may_be_asked,
)
from bulkhead_trio.gateway._outcome_rules import FIRST_FAILURE_STATUS, outcome_of_error
from bulkhead_trio.gateway.breaker import BreakerPermit, MakeBreaker, UpstreamBreaker, local_breaker
from bulkhead_trio.gateway.group_settings import GroupSettings, UpstreamKey, UpstreamSettings
from bulkhead_trio.gateway.reports import UpstreamStatistics
from bulkhead_trio.policies.breaker import BreakerOutcome
from bulkhead_trio.policies.bulkhead import Bulkhead
from bulkhead_trio.policies.bulkhead import Permit as BulkheadPermit

SUCCESS, FAILURE, IGNORED = (
    BreakerOutcome.SUCCESS,
    BreakerOutcome.FAILURE,
    BreakerOutcome.IGNORED,
)


class Turn:
    """The right to send one request; leaving its ``with`` block gives everything back.

    How the request counts is decided once: by what is said here, or else by how the block ends.
    """

    __slots__ = ("_is_decided", "_permit", "_slot", "_upstream")

    def __init__(
        self, upstream: Upstream, slot: BulkheadPermit | None, permit: BreakerPermit | None
    ) -> None:
        self._upstream = upstream
        self._slot = slot
        self._permit = permit
        self._is_decided = False

    def answered(self, status: int) -> None:
        """The head of an answer has come: 5xx is a failure, else it depends on the body."""
        if status >= FIRST_FAILURE_STATUS:
            self._decide(FAILURE)

    def succeeded(self) -> None:
        """It counts as a success from now on: for a stream without an end, once it has begun."""
        self._decide(SUCCESS)

    def failed(self) -> None:
        """It counts as a failure, whatever the block ends with: for a deadline that was fair."""
        self._decide(FAILURE)

    def _decide(self, outcome: BreakerOutcome) -> None:
        if self._is_decided:
            return
        self._is_decided = True
        if self._permit is not None:
            self._permit.end(outcome)
        self._upstream._ended(outcome)

    def __enter__(self) -> Turn:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if not self._is_decided:
                self._decide(SUCCESS if exc is None else outcome_of_error(exc))
        finally:
            self._upstream.in_flight -= 1
            if self._slot is not None:
                self._slot.release()


class Upstream(Share):
    """A URL that requests of one route may go to.

    Its health is kept here and moved by the group that it is in; see `UpstreamGroup`.

    Attributes:
        key: whose it is.
        url: where it is.
        own_weight: its weight outside its slow start.
        breaker: ``None`` without one.
        bulkhead: ``None`` without one.
        checked: what checks have found.
        outing: what requests have led to.
        is_up: whether requests may go there, as far as its health goes.
        slow_since: since when it is in its slow start; ``None`` outside of one.
        was_open: whether its breaker was not closed when last looked at.
        ejections: how often it was ejected.
    """

    __slots__ = (
        "breaker", "bulkhead", "checked", "ejections", "is_up", "key", "on_ended", "outcomes",
        "outing", "own_weight", "slow_since", "url", "was_open",
    )  # fmt: skip

    def __init__(
        self,
        key: UpstreamKey,
        weight: float,
        *,
        breaker: UpstreamBreaker | None = None,
        bulkhead: Bulkhead | None = None,
    ) -> None:
        super().__init__(weight)
        self.key = key
        self.url = key[2]
        self.own_weight = weight
        self.breaker = breaker
        self.bulkhead = bulkhead
        self.checked = Checked()
        self.outing: Outing = Serving()
        self.is_up = True
        self.slow_since: float | None = None
        self.was_open = False
        self.ejections = 0
        self.outcomes = {SUCCESS: 0, FAILURE: 0, IGNORED: 0}
        self.on_ended: Callable[[Upstream, BreakerOutcome], None] | None = None

    # --- the way in ------------------------------------------------------------------------------

    def enter_nowait(self) -> Turn:
        """Begin a request, where nothing has to be waited for; use as a ``with`` block.

        Raises:
            trio.WouldBlock: its bulkhead is full, or its breaker has to ask others: use `enter`.
            CircuitOpen: its breaker is open, or its probe is out.
        """
        slot = None
        bulkhead = self.bulkhead
        if bulkhead is not None:
            # Asked first, for what is tried and found full is counted as refused.
            if bulkhead.statistics().active >= bulkhead.max_concurrent:
                raise trio.WouldBlock
            slot = bulkhead.acquire_nowait()
        permit = None
        if self.breaker is not None:
            try:
                permit = self.breaker.admit_nowait()
                if permit is None:
                    raise trio.WouldBlock
            except BaseException:
                if slot is not None:
                    slot.release()
                raise
        self.in_flight += 1
        return Turn(self, slot, permit)

    async def enter(self) -> Turn:
        """Begin a request: use as ``with await upstream.enter() as turn:``.

        Waits for a place in its bulkhead, as long as the deadline round it allows, and for the
        breaker's permit after that: nobody takes a probe along into a line.

        Raises:
            BulkheadFull: all its places are taken, those in line too.
            DeadlineUnreachable: the wait and the request would outlast the deadline.
            CircuitOpen: its breaker is open, or its probe is out.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self.in_flight += 1  # whoever waits here is a reason to choose another one
        slot = None
        try:
            if self.bulkhead is not None:
                slot = await self.bulkhead.acquire()
            permit = None
            if self.breaker is not None:
                permit = self.breaker.admit_nowait()
                if permit is None:
                    permit = await self.breaker.admit()
        except BaseException:
            self.in_flight -= 1
            if slot is not None:
                slot.release()
            raise
        return Turn(self, slot, permit)

    def _ended(self, outcome: BreakerOutcome) -> None:
        self.outcomes[outcome] += 1
        if self.on_ended is not None:
            self.on_ended(self, outcome)

    # --- how it is -------------------------------------------------------------------------------

    @property
    def health(self) -> str:
        """``unknown``, ``healthy``, ``unhealthy`` (checks) or ``ejected`` (requests)."""
        return health_word(self.checked, self.outing)

    @property
    def checks_are_good(self) -> bool:
        """Whether checks find it healthy, or nobody has looked yet."""
        return self.checked.kind is not Verdict.UNHEALTHY

    def set_health(self, checked: Checked, outing: Outing) -> bool:
        """Take over a new state of health; whether it comes back with it."""
        self.checked = checked
        self.outing = outing
        was_up, self.is_up = self.is_up, may_be_asked(checked, outing)
        return self.is_up and not was_up

    def set_weight(self, weight: float) -> None:
        """Change its own weight; in its slow start that takes effect by and by."""
        if self.slow_since is None:
            self.weight = weight
        else:
            self.weight *= weight / self.own_weight
        self.own_weight = weight

    def statistics(self) -> UpstreamStatistics:
        """What it has now."""
        return UpstreamStatistics(
            url=self.url,
            weight=self.own_weight,
            health=self.health,
            is_up=self.is_up,
            in_flight=self.in_flight,
            succeeded=self.outcomes[SUCCESS],
            failed=self.outcomes[FAILURE],
            ignored=self.outcomes[IGNORED],
            ejections=self.ejections,
            breaker=None if self.breaker is None else self.breaker.statistics(),
            bulkhead=None if self.bulkhead is None else self.bulkhead.statistics(),
        )


def upstream_of(
    settings: GroupSettings, one: UpstreamSettings, make_breaker: MakeBreaker = local_breaker
) -> Upstream:
    """A new upstream of a group.

    Raises:
        ValueError: the breaker's settings make no sense.
    """
    key = settings.key(one.url)
    # Callers read names in refusals: they tell upstreams apart and give no host away.
    digest = hashlib.sha256(one.url.encode()).hexdigest()[:8]
    name = f"upstream {digest} of route {settings.route_id}"
    limit = settings.bulkhead
    return Upstream(
        key,
        settings.weight(one),
        breaker=None if settings.breaker is None else make_breaker(key, name, settings.breaker),
        bulkhead=None
        if limit is None
        else Bulkhead(name, limit.max_concurrent, max_wait=math.inf, max_queued=limit.queue_size),
    )
