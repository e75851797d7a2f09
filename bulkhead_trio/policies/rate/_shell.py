"""What a limiter of one quota and a limiter of many have in common: how they refuse."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from typing import Any, NoReturn

import trio

from bulkhead_trio.errors import DeadlineUnreachable, RateLimited
from bulkhead_trio.policies._checks import check_wait, check_whole
from bulkhead_trio.policies.listeners import tell
from bulkhead_trio.policies.rate._account import Account, Counts
from bulkhead_trio.policies.rate._decision import Decision, Rule
from bulkhead_trio.policies.rate._line_rules import Place
from bulkhead_trio.policies.rate.records import RateLimitRefused

MOST_WAITING_UNLESS_SAID = 1_000
"""Callers that may wait for one quota: who has a thousand in front waits for nothing useful."""


class Shell:
    """The parameters of a limiter, what it counts, and its way of saying no."""

    def __init__(
        self,
        rule: Rule[Any],
        *,
        name: str,
        max_wait: float | None,
        max_waiting: int,
        shadow: bool,
        listeners: Iterable[Callable[[RateLimitRefused], None]],
    ) -> None:
        if not callable(getattr(rule, "decide", None)):
            raise ValueError(  # noqa: TRY004  nonsense is a ValueError here, of whatever type it is
                f"rule must be a rule such as FixedWindow, not {rule!r}"
            )
        self._waits_for_a_bucketful = max_wait is None and rule.most_waiting < math.inf
        if max_wait is None:
            # A pacing bucket that nobody may wait in would be none.
            max_wait = 0.0 if rule.most_waiting == math.inf else rule.longest_debt
        check_wait("max_wait", max_wait)
        check_whole("max_waiting", max_waiting, minimum=0)
        self.name = name
        self.max_wait = max_wait
        self._rule = rule
        self._max_waiting = max_waiting
        self._shadow = shadow
        self._listeners = tuple(listeners)
        self._counts = Counts()

    def _longest(self, timeout: float | None) -> float:
        """Seconds that an explicit wait may take: asked for, or the limiter's, or without end.

        Raises:
            ValueError: ``timeout`` is negative or not a number.
        """
        if timeout is None:
            return self.max_wait or math.inf
        check_wait("timeout", timeout)
        return timeout

    def _reserve(
        self, account: Account[Any], key: Hashable, now: float, cost: int, longest: float
    ) -> Place[Any]:
        """A place for the first moment at which ``cost`` can be had, which may be now.

        Raises:
            RateLimited: it never passes, or not within ``longest``, or nobody more may wait.
        """
        account.settle(now)
        decision = account.line.ask(now, cost)
        if not decision.allowed:
            if self._shadow:
                return Place.gone(cost, self._refused(key, cost, decision, now))
            self._check_may_wait(account, key, now, cost, decision, longest)
        place = account.line.join(now, cost)
        account.settle(now)
        return place

    async def _wait(
        self, account: Account[Any], key: Hashable, cost: int, decision: Decision, longest: float
    ) -> Decision:
        """Wait in line for a request that was refused just now.

        Raises:
            RateLimited: it never passes, or not within ``longest``, or nobody more may wait.
            DeadlineUnreachable: it would not pass before the caller's deadline.
        """
        now, wait = trio.current_time(), decision.retry_after
        self._check_may_wait(account, key, now, cost, decision, longest)
        if now + wait >= trio.current_effective_deadline():
            self._count(key, cost, decision, now, DeadlineUnreachable.code)
            message = f"{self._title(key)} would let it pass only after the deadline"
            raise DeadlineUnreachable(message, retry_after=wait)
        return await account.wait_for(account.line.join(now, cost))

    def _check_may_wait(
        self,
        account: Account[Any],
        key: Hashable,
        now: float,
        cost: int,
        decision: Decision,
        longest: float,
    ) -> None:
        line, wait = account.line, decision.retry_after
        if (
            self._is_too_long(wait, longest, now, line.length)
            or wait == math.inf
            or line.length >= self._max_waiting
            or line.units + cost > self._rule.most_waiting
        ):
            self._refuse(key, cost, decision, now)

    def _is_too_long(self, wait: float, longest: float, now: float, in_front: int) -> bool:
        """Whether ``wait`` is longer than may be.

        Each moment in the line is rounded up from the one before. Where a full bucket is the limit,
        that must not cost the last one its place.
        """
        if self._waits_for_a_bucketful and longest == self.max_wait:
            longest += 2 * (in_front + 2) * math.ulp(now + longest)
        return wait > longest

    def _refused(self, key: Hashable, cost: int, decision: Decision, now: float) -> Decision:
        """What the caller is told of a refusal; in shadow mode, that it passes."""
        self._count(key, cost, decision, now, RateLimited.code)
        return _let_through(decision) if self._shadow else decision

    def _refuse(self, key: Hashable, cost: int, decision: Decision, now: float) -> NoReturn:
        self._count(key, cost, decision, now, RateLimited.code)
        if decision.retry_after == math.inf:
            message = f"{self._title(key)} never lets {cost} pass at once"
            raise RateLimited(message, retry_after=None)
        message = f"{self._title(key)} allows {decision.limit} per {decision.window:g} seconds"
        raise RateLimited(message, retry_after=decision.retry_after)

    def _count(self, key: Hashable, cost: int, decision: Decision, now: float, reason: str) -> None:
        self._counts.refused += 1
        if self._listeners:
            tell(
                self._listeners,
                RateLimitRefused(self.name, key, cost, reason, decision, self._shadow, now),
            )

    def _title(self, key: Hashable) -> str:
        name = self.name or "the limiter"
        return name if key is None else f"{name} for {key!r}"


def _let_through(decision: Decision) -> Decision:
    return Decision(
        allowed=True,
        limit=decision.limit,
        window=decision.window,
        remaining=decision.remaining,
        reset_after=decision.reset_after,
        retry_after=0.0,
    )


def check_cost(cost: int) -> None:
    """Refuse a cost that would give quota back, or that cannot be counted.

    Raises:
        ValueError: it is not a whole number of 1 or more.
    """
    check_whole("cost", cost, minimum=1)
