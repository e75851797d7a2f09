"""One quota, shared by everybody who asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, TypeVar, TypeVarTuple

import trio

from bulkhead_trio.policies._checks import LARGEST_WHOLE
from bulkhead_trio.policies.policy import Kind, Policy
from bulkhead_trio.policies.rate._account import Account, Reservation
from bulkhead_trio.policies.rate._decision import Decision, Rule
from bulkhead_trio.policies.rate._line_rules import Line
from bulkhead_trio.policies.rate._shell import MOST_WAITING_UNLESS_SAID, Shell, check_cost
from bulkhead_trio.policies.rate.records import RateLimiterStatistics, RateLimitRefused

T = TypeVar("T")
Args = TypeVarTuple("Args")


class RateLimiter(Shell, Policy):
    """One quota, shared by everybody who asks this object.

    As a policy (`call`, ``async with``, decorator) each call costs 1 and raises `RateLimited` when
    the quota is used up, after waiting in line where ``max_wait`` lets it. While somebody waits,
    whoever comes later is behind them, also in `acquire_nowait`.

    Args:
        rule: what the quota is.
        name: for statistics, listeners and messages.
        max_wait: seconds a call is kept waiting; 0 refuses at once, ``math.inf`` leaves the limit
            to the caller's deadline. By default 0; for a pacing `LeakyBucket`, as long as a full
            bucket takes to run dry.
        max_waiting: callers and reservations that may wait.
        shadow: let everybody pass at once, and only count and tell whom the rule would refuse.
        listeners: told of each `RateLimitRefused`.

    Raises:
        ValueError: a number makes no sense; it is named.
    """

    kind = Kind.RATE_LIMIT

    def __init__(
        self,
        rule: Rule[Any],
        *,
        name: str = "",
        max_wait: float | None = None,
        max_waiting: int = MOST_WAITING_UNLESS_SAID,
        shadow: bool = False,
        listeners: Iterable[Callable[[RateLimitRefused], None]] = (),
    ) -> None:
        super().__init__(
            rule,
            name=name,
            max_wait=max_wait,
            max_waiting=max_waiting,
            shadow=shadow,
            listeners=listeners,
        )
        self._account = Account(Line(rule, rule.initial()), self._counts)

    # --- a decision ------------------------------------------------------------------------------

    def acquire_nowait(self, cost: int = 1) -> Decision:
        """Take ``cost`` units if they are there; never waits, never raises for a refusal.

        Raises:
            ValueError: ``cost`` is not a whole number of 1 or more.
        """
        if type(cost) is not int or not 1 <= cost <= LARGEST_WHOLE:
            check_cost(cost)
        now = trio.current_time()
        decision = self._account.take(now, cost)
        return decision if decision.allowed else self._refused(None, cost, decision, now)

    async def acquire(self, cost: int = 1, *, timeout: float | None = None) -> Decision:
        """Take ``cost`` units; waits its turn for them, first come first served.

        Whoever is cancelled while waiting has used nothing, and those behind move up.

        Args:
            cost: units.
            timeout: longest wait in seconds; by default the limiter's ``max_wait``, and without one
                whatever the caller's deadline allows.

        Raises:
            RateLimited: the wait would be longer than that, ``cost`` never passes, or nobody more
                may wait; at once.
            DeadlineUnreachable: the wait would outlast the caller's deadline; at once.
            ValueError: ``cost`` or ``timeout`` makes no sense.
        """
        check_cost(cost)
        longest = self._longest(timeout)
        await trio.lowlevel.checkpoint()
        return await self._acquire(cost, longest)

    def reserve(self, cost: int = 1, *, timeout: float | None = None) -> Reservation:
        """Set ``cost`` units aside for the moment at which they can be had; see `Reservation`.

        Raises:
            RateLimited: that is too far away, as for `acquire`; deadlines are not looked at.
            ValueError: ``cost`` or ``timeout`` makes no sense.
        """
        check_cost(cost)
        longest = self._longest(timeout)
        account, now = self._account, trio.current_time()
        return Reservation(account, self._reserve(account, None, now, cost, longest))

    # --- a policy --------------------------------------------------------------------------------

    async def call(self, work: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
        """Run ``await work(*args)`` for one unit; raises what `acquire` and it raise."""
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._acquire(1, self.max_wait)
        return await work(*args)

    async def __aenter__(self) -> Decision:
        await trio.lowlevel.checkpoint()
        return await self._acquire(1, self.max_wait)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing: a unit that was used does not come back."""

    def statistics(self) -> RateLimiterStatistics:
        """What the limiter knows now."""
        account, now = self._account, trio.current_time()
        account.settle(now)
        line, counts = account.line, self._counts
        return RateLimiterStatistics(
            limit=self._rule.limit,
            window=self._rule.window,
            remaining=0 if line.length else self._rule.remaining(line.state, now),
            allowed=counts.allowed,
            refused=counts.refused,
            name=self.name,
            waiting=line.length,
            given_back=counts.given_back,
            shadow=self._shadow,
        )

    async def _acquire(self, cost: int, longest: float) -> Decision:
        now = trio.current_time()
        decision = self._account.take(now, cost)
        if decision.allowed:
            return decision
        if self._shadow:
            return self._refused(None, cost, decision, now)
        if not longest:
            self._refuse(None, cost, decision, now)
        return await self._wait(self._account, None, cost, decision, longest)
