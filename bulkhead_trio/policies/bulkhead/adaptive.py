"""The adaptive bulkhead: a bulkhead whose number of permits follows a rule."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

import attrs
import trio

from bulkhead_trio.errors import DeadlineExceeded, Rejected
from bulkhead_trio.policies._checks import check_whole
from bulkhead_trio.policies.bulkhead._adaptive_rules import LimitRule, LimitSample
from bulkhead_trio.policies.bulkhead.bulkhead import Bulkhead, BulkheadEvent, BulkheadStatistics

INITIAL_LIMIT = 20
"""The limit to begin with, from Netflix concurrency-limits; moved into the rule's range."""


def is_overload(error: Exception) -> bool:
    """Whether a call failed because something was overloaded: it was refused, or ran out of time.

    In an exception group one such error is enough.
    """
    if isinstance(error, ExceptionGroup):
        return any(is_overload(each) for each in error.exceptions)
    return isinstance(error, Rejected | DeadlineExceeded | trio.TooSlowError | TimeoutError)


@attrs.frozen
class AdaptiveBulkheadStatistics(BulkheadStatistics):
    """What an adaptive bulkhead holds at one moment, and has counted since it was made.

    Attributes:
        sampled: calls that the rule has learned from.
        dropped: those among them that failed by overload.
        rule_state: what the rule remembers, frozen.
    """

    sampled: int
    dropped: int
    rule_state: object


class AdaptiveBulkhead(Bulkhead):
    """A `Bulkhead` that finds out by itself how many calls may run at once.

    Each call that succeeds, or fails by overload, is a sample for the rule. A call that is
    cancelled, or fails otherwise, is none: it ended early for reasons of its own. The limit moves
    when a call comes or ends, and when `adjust` is called; there is no task in the background.

    Args:
        name: for statistics, listeners and messages.
        rule: `UtilisationTarget`, `AIMD`, `Vegas`, `Gradient2`, or another `LimitRule`.
        initial: permits to begin with; by default 20, or the nearest that the rule allows.
        max_wait: seconds a caller waits for a permit; see `Bulkhead`.
        max_queued: callers that may wait; see `Bulkhead`.
        is_overload: whether an error that a call ended with is one of overload; by default a
            `Rejected`, a `DeadlineExceeded`, a `trio.TooSlowError` or a `TimeoutError`.
        chance: gives a random number in [0, 1), for rules that draw lots.
        listeners: told of what a `Bulkhead` tells; `BulkheadResized` when the limit moves.

    Raises:
        ValueError: a number makes no sense; it is named.
    """

    def __init__(
        self,
        name: str,
        rule: LimitRule[Any],
        *,
        initial: int | None = None,
        max_wait: float = 0.0,
        max_queued: int | None = None,
        is_overload: Callable[[Exception], bool] = is_overload,
        chance: Callable[[], float] = random.random,
        listeners: Iterable[Callable[[BulkheadEvent], None]] = (),
    ) -> None:
        if not isinstance(rule, LimitRule):
            raise ValueError(  # noqa: TRY004  nonsense is a ValueError here, of whatever type it is
                f"rule must be a LimitRule, not {rule!r}"
            )
        if initial is None:
            initial = max(rule.minimum, min(rule.maximum, INITIAL_LIMIT))
        _check_within("initial", initial, rule)
        super().__init__(
            name, initial, max_wait=max_wait, max_queued=max_queued, listeners=listeners
        )
        self.rule = rule
        self._is_overload = is_overload
        self._chance = chance
        self._state = rule.initial(initial, chance=chance())
        self._sampled = 0
        self._dropped = 0

    def adjust(self) -> int:
        """Apply what is due by the clock alone, and say what the limit is now.

        Only `UtilisationTarget` moves without calls.
        """
        self._advance(trio.current_time())
        return self._max_concurrent

    def resize(self, max_concurrent: int) -> None:
        """Let the rule begin afresh from ``max_concurrent``; see `Bulkhead.resize`.

        Raises:
            ValueError: ``max_concurrent`` is not within what the rule allows.
        """
        _check_within("max_concurrent", max_concurrent, self.rule)
        # The rule first: whoever is told of the new limit may come in at once, and ask the rule.
        self._state = self.rule.initial(max_concurrent, chance=self._chance())
        super().resize(max_concurrent)

    def statistics(self) -> AdaptiveBulkheadStatistics:
        """What the bulkhead holds now."""
        return AdaptiveBulkheadStatistics(
            **attrs.asdict(super().statistics()),
            sampled=self._sampled,
            dropped=self._dropped,
            rule_state=self._state,
        )

    # --- inside ----------------------------------------------------------------------------------

    def _try_enter(self) -> float | None:
        if self.rule.follows_activity:
            self._advance(trio.current_time())
        return super()._try_enter()

    def _leave(self, since: float, now: float, error: BaseException | None) -> None:
        # The limit moves first: a permit that is one too many now must not change hands. And
        # whatever a rule or a predicate that somebody wrote does, the permit comes back.
        try:
            self._advance(now)
            if error is None:
                self._learn(since, now, is_dropped=False)
            elif isinstance(error, Exception) and self._is_overload(error):
                self._learn(since, now, is_dropped=True)
        finally:
            super()._leave(since, now, error)

    def _advance(self, now: float) -> None:
        if self.rule.follows_activity:
            self._state = self.rule.advanced(self._state, now, self._active)
            self._follow_rule()

    def _learn(self, since: float, now: float, *, is_dropped: bool) -> None:
        self._sampled += 1
        self._dropped += is_dropped
        sample = LimitSample(now, now - since, self._active, is_dropped, self._chance())
        self._state = self.rule.sampled(self._state, sample)
        self._follow_rule()

    def _follow_rule(self) -> None:
        limit = self._state.limit
        if limit != self._max_concurrent:
            super().resize(limit)


def _check_within(name: str, limit: int, rule: LimitRule[Any]) -> None:
    check_whole(name, limit, minimum=rule.minimum)
    if limit > rule.maximum:
        raise ValueError(f"{name} must be at most the rule's {rule.maximum}, not {limit!r}")
