"""A quota for each of many keys, and when a key may be forgotten."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable
from types import TracebackType
from typing import Any, TypeVar, TypeVarTuple

import trio

from bulkhead_trio.policies._checks import LARGEST_WHOLE, check_whole
from bulkhead_trio.policies.policy import Kind, Policy
from bulkhead_trio.policies.rate._account import Account, Reservation
from bulkhead_trio.policies.rate._decision import Decision, Rule, seconds_until
from bulkhead_trio.policies.rate._line_rules import Line, Place
from bulkhead_trio.policies.rate._rest_rules import RestOrder
from bulkhead_trio.policies.rate._shell import MOST_WAITING_UNLESS_SAID, Shell, check_cost
from bulkhead_trio.policies.rate.records import (
    KeyedRateLimiterStatistics,
    KeyStatistics,
    RateLimitRefused,
)

T = TypeVar("T")
Args = TypeVarTuple("Args")

LOOKED_AT_FOR_A_NEW_KEY = 4
"""Keys that are due and looked at whenever a new one comes: more go than come, while any are at
rest."""

LOOKED_AT_WHEN_FULL = 64
"""Keys that are looked at to find room; more than this in one go would keep others waiting."""


class KeyedRateLimiter(Shell):
    """A quota of its own for each key: a user, an address, a tenant.

    A key is forgotten only when it is at rest, which is when its state is as good as a new one's:
    so that making up keys resets nobody's debt. While ``max_keys`` keys are in debt, a new key is
    refused; its ``retry_after`` is when the first of them may be at rest. Finding them takes
    constant time a request, whatever the keys are; one is found up to a 4096th of the rule's
    longest debt late.

    Args:
        rule: what the quota of each key is.
        max_keys: keys that are remembered at the same time.
        name: for statistics, listeners and messages.
        exempt: keys that always pass, and are not remembered.
        max_wait: seconds a call of `for_key` is kept waiting, as for `RateLimiter`.
        max_waiting: callers and reservations that may wait for one key.
        shadow: let everybody pass at once, and only count and tell whom the rule would refuse.
        listeners: told of each `RateLimitRefused`.

    Raises:
        ValueError: a number makes no sense; it is named.
    """

    def __init__(
        self,
        rule: Rule[Any],
        *,
        max_keys: int = 100_000,
        name: str = "",
        exempt: Iterable[Hashable] = (),
        max_wait: float | None = None,
        max_waiting: int = MOST_WAITING_UNLESS_SAID,
        shadow: bool = False,
        listeners: Iterable[Callable[[RateLimitRefused], None]] = (),
    ) -> None:
        check_whole("max_keys", max_keys, minimum=1)
        super().__init__(
            rule,
            name=name,
            max_wait=max_wait,
            max_waiting=max_waiting,
            shadow=shadow,
            listeners=listeners,
        )
        self._max_keys = max_keys
        self._exempt = frozenset(exempt)
        self._unlimited = Decision(True, rule.limit, rule.window, rule.limit, 0.0, 0.0)
        # Every key that is remembered is here, and in one bucket of the order; its state is the
        # account's while it has one, which is while somebody waits for it.
        self._states: dict[Hashable, Any] = {}
        self._accounts: dict[Hashable, Account[Any]] = {}
        self._order = RestOrder[Hashable](rule.longest_debt)

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._states)

    # --- a decision ------------------------------------------------------------------------------

    def acquire_nowait(self, key: Hashable, cost: int = 1) -> Decision:
        """Take ``cost`` units of ``key`` if they are there; never waits, nor raises for a refusal.

        Raises:
            ValueError: ``cost`` is not a whole number of 1 or more.
        """
        if type(cost) is not int or not 1 <= cost <= LARGEST_WHOLE:
            check_cost(cost)
        now = trio.current_time()
        decision = self._take(key, cost, now)
        return decision if decision.allowed else self._refused(key, cost, decision, now)

    async def acquire(
        self, key: Hashable, cost: int = 1, *, timeout: float | None = None
    ) -> Decision:
        """Take ``cost`` units of ``key``; waits its turn for them, first come first served.

        As `RateLimiter.acquire`, in a line of each key's own. A new key that there is no room for
        does not wait.

        Raises:
            RateLimited: the wait would be too long, ``cost`` never passes, nobody more may wait for
                this key, or there is no room for it; at once.
            DeadlineUnreachable: the wait would outlast the caller's deadline; at once.
            ValueError: ``cost`` or ``timeout`` makes no sense.
        """
        check_cost(cost)
        longest = self._longest(timeout)
        await trio.lowlevel.checkpoint()
        return await self._acquire(key, cost, longest)

    def reserve(self, key: Hashable, cost: int = 1, *, timeout: float | None = None) -> Reservation:
        """Set ``cost`` units of ``key`` aside for the moment at which they can be had.

        Raises:
            RateLimited: that is too far away, as for `acquire`; deadlines are not looked at.
            ValueError: ``cost`` or ``timeout`` makes no sense.
        """
        check_cost(cost)
        longest = self._longest(timeout)
        now = trio.current_time()
        if key in self._exempt:
            self._counts.exempted += 1
            return Reservation(None, Place.gone(cost, self._unlimited))
        if key not in self._states:
            if not self._has_room(now):
                decision = self._turned_away(now)
                if not self._shadow:
                    self._refuse(key, cost, decision, now)
                through = self._refused(key, cost, decision, now)
                return Reservation(None, Place.gone(cost, through))
            self._remember(key, self._rule.initial(), now)
        account = self._account_of(key)
        try:
            place = self._reserve(account, key, now, cost, longest)
        except BaseException:
            self._close(key, account)
            raise
        return Reservation(account, place, lambda: self._close(key, account))

    def for_key(self, key: Hashable) -> KeyPolicy:
        """The limiter of one key as a policy: `call`, ``async with`` and decorator."""
        return KeyPolicy(self, key)

    def statistics(self) -> KeyedRateLimiterStatistics:
        """What the limiter knows now."""
        now = trio.current_time()
        for account in self._accounts.values():
            account.settle(now)
        counts = self._counts
        return KeyedRateLimiterStatistics(
            name=self.name,
            keys=len(self._states),
            max_keys=self._max_keys,
            forgotten=counts.forgotten,
            allowed=counts.allowed,
            refused=counts.refused,
            exempted=counts.exempted,
            turned_away=counts.turned_away,
            waiting=sum(account.line.length for account in self._accounts.values()),
            given_back=counts.given_back,
            shadow=self._shadow,
        )

    # --- inside ----------------------------------------------------------------------------------

    def _take(self, key: Hashable, cost: int, now: float) -> Decision:
        if self._exempt and key in self._exempt:
            self._counts.exempted += 1
            return self._unlimited
        if self._accounts:
            account = self._accounts.get(key)
            if account is not None:
                return self._take_behind(key, account, cost, now)
        state = self._states.get(key)
        if state is None:
            return self._take_first(key, cost, now)
        after, decision = self._rule.decide(state, now, cost)
        if decision.allowed:
            self._counts.allowed += 1
        if after is not state:
            self._states[key] = after
        return decision

    def _take_behind(self, key: Hashable, account: Account[Any], cost: int, now: float) -> Decision:
        decision = account.take(now, cost)
        if decision.allowed:
            self._close(key, account)
        return decision

    def _take_first(self, key: Hashable, cost: int, now: float) -> Decision:
        if not self._has_room(now):
            return self._turned_away(now)
        after, decision = self._rule.decide(self._rule.initial(), now, cost)
        if decision.allowed:
            self._counts.allowed += 1
            self._remember(key, after, self._rule.rests_at(after))
        return decision

    async def _acquire(self, key: Hashable, cost: int, longest: float) -> Decision:
        now = trio.current_time()
        decision = self._take(key, cost, now)
        if decision.allowed:
            return decision
        if self._shadow:
            return self._refused(key, cost, decision, now)
        if not longest or key not in self._states:
            self._refuse(key, cost, decision, now)
        account = self._account_of(key)
        try:
            return await self._wait(account, key, cost, decision, longest)
        finally:
            self._close(key, account)

    def _account_of(self, key: Hashable) -> Account[Any]:
        account = self._accounts.get(key)
        if account is None:
            line = Line(self._rule, self._states[key])
            account = self._accounts[key] = Account(line, self._counts)
        return account

    def _close(self, key: Hashable, account: Account[Any]) -> None:
        """Keep the state alone, once nobody is in line."""
        if account.line.first is None and self._accounts.get(key) is account:
            self._states[key] = account.line.close()
            del self._accounts[key]

    # --- which keys are remembered ---------------------------------------------------------------

    def _remember(self, key: Hashable, state: Any, look_at: float) -> None:
        self._states[key] = state
        self._order.add(key, look_at)

    def _has_room(self, now: float) -> bool:
        """Whether a new key may come; forgets some that are at rest."""
        self._forget_some(now, LOOKED_AT_FOR_A_NEW_KEY)
        if len(self._states) >= self._max_keys:
            self._forget_some(now, LOOKED_AT_WHEN_FULL)
        return len(self._states) < self._max_keys

    def _forget_some(self, now: float, most: int) -> None:
        for key in self._order.take_due(now, most):
            account = self._accounts.get(key)
            if account is not None:
                account.settle(now)
                self._close(key, account)
            if key in self._accounts:
                self._order.add(key, now)
                continue
            rests_at = self._rule.rests_at(self._states[key])
            if rests_at <= now:
                del self._states[key]
                self._counts.forgotten += 1
            else:
                self._order.add(key, rests_at)

    def _turned_away(self, now: float) -> Decision:
        """What a new key is told that there is no room for."""
        self._counts.turned_away += 1
        due = self._order.first_due()
        wait = seconds_until(due, now) if due > now else self._order.width
        return Decision(
            allowed=False,
            limit=self._rule.limit,
            window=self._rule.window,
            remaining=0,
            reset_after=wait,
            retry_after=wait,
        )

    def _statistics_of(self, key: Hashable) -> KeyStatistics:
        now, rule = trio.current_time(), self._rule
        waiting, state = 0, self._states.get(key)
        account = self._accounts.get(key)
        if account is not None:
            account.settle(now)
            waiting, state = account.line.length, account.line.state
        remaining = rule.limit if state is None else rule.remaining(state, now)
        return KeyStatistics(
            name=self.name,
            key=key,
            limit=rule.limit,
            window=rule.window,
            remaining=0 if waiting else remaining,
            waiting=waiting,
        )


class KeyPolicy(Policy):
    """The quota of one key of a `KeyedRateLimiter`, as a policy; it holds nothing of its own."""

    kind = Kind.RATE_LIMIT

    def __init__(self, limiter: KeyedRateLimiter, key: Hashable) -> None:
        self.name = f"{limiter.name}[{key}]"
        self.max_wait = limiter.max_wait
        self._limiter = limiter
        self._key = key

    async def call(self, work: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
        """Run ``await work(*args)`` for one unit; raises what `acquire` and it raise."""
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._limiter._acquire(self._key, 1, self.max_wait)
        return await work(*args)

    async def __aenter__(self) -> Decision:
        await trio.lowlevel.checkpoint()
        return await self._limiter._acquire(self._key, 1, self.max_wait)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing: a unit that was used does not come back."""

    def statistics(self) -> KeyStatistics:
        """What the limiter knows of this key now."""
        return self._limiter._statistics_of(self._key)
