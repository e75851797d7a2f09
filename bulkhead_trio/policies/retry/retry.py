"""Trying again: with growing waits, within a budget, and never beyond the deadline."""

from __future__ import annotations

import math
import random as _random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar, TypeVarTuple

import attrs
import trio

from bulkhead_trio.errors import CallerError, Rejected
from bulkhead_trio.policies._checks import check_duration
from bulkhead_trio.policies._matching import Errors, leaves, matcher
from bulkhead_trio.policies.deadline import Timeout
from bulkhead_trio.policies.listeners import tell
from bulkhead_trio.policies.policy import Kind, Policy
from bulkhead_trio.policies.retry._rules import Jitter, Reason, Schedule
from bulkhead_trio.policies.retry.budget import RetryBudget

T = TypeVar("T")
Args = TypeVarTuple("Args")


@attrs.frozen
class RetryStatistics:
    """What a retry has counted.

    Attributes:
        calls: calls that have come in.
        active: calls under way, those included that wait for their next try.
        tries: tries begun, first ones included.
        retried: tries begun that were not first ones.
        succeeded: calls that ended with a result that was not to be tried again.
        gave_up: calls that ended with their last error or result, by the reason.
        cancelled: calls that ended otherwise: cancelled from outside, or a predicate raised.
    """

    name: str
    calls: int
    active: int
    tries: int
    retried: int
    succeeded: int
    gave_up: Mapping[Reason, int]
    cancelled: int


@attrs.frozen
class Retrying:
    """A try failed, and there will be another.

    Attributes:
        attempt: the number of the try to come; 2 is the first retry.
        delay: seconds until then.
        error: what the last try raised; ``None`` where its result was not good enough.
    """

    retry: str
    attempt: int
    delay: float
    error: Exception | None
    at: float


@attrs.frozen
class GaveUp:
    """A try failed, and there will be no other.

    Attributes:
        attempts: tries that were made.
        error: what the last one raised; ``None`` where its result was not good enough.
    """

    retry: str
    attempts: int
    reason: Reason
    error: Exception | None
    at: float


RetryEvent: TypeAlias = Retrying | GaveUp


def is_worth_retrying(error: Exception) -> bool:
    """Whether another try may help, as far as the error says.

    Every error, except the caller's own mistakes, and refusals that name no time to come back.
    """
    if isinstance(error, Rejected):
        return error.retry_after is not None
    return not isinstance(error, CallerError)


class Retry(Policy):
    """Calls again what failed, after a wait that grows and is left to chance.

    The error raised in the end is the last one, unchanged but for a note of how many tries there
    were. An error with a ``retry_after`` is obeyed: the next try waits at least that long, and
    there is none when that is more than ``max_delay``. Where the next try could only begin when the
    caller's deadline has passed, the error is raised at once instead of slept on.

    A cancellation from outside ends a call wherever it is and is never tried again. A group of
    errors is tried again if each error in it is one to try again.

    Args:
        attempts: tries in all; 1 never tries again.
        base_delay: seconds; what the waits grow from.
        max_delay: seconds; no wait is longer.
        jitter: ``"full"`` (0 to the doubled delay), ``"decorrelated"`` (base to thrice the last
            one) or ``"none"``.
        timeout_per_try: seconds a single try may take; it then fails with `DeadlineExceeded`.
        budget: what limits the retries of all who share it.
        retry_on: which errors to try again: types, or a function that gets one (of a group, each
            in turn); by default `is_worth_retrying`.
        retry_result: says of a result that it is not good enough; when nothing more can be tried,
            the last result is returned.
        random: gives numbers in [0, 1).
        name: for statistics, listeners and messages.
        listeners: told of `Retrying` and `GaveUp`.

    Raises:
        ValueError: a parameter makes no sense; it is named.
    """

    kind = Kind.RETRY

    def __init__(
        self,
        attempts: int = 3,
        *,
        base_delay: float = 0.1,
        max_delay: float = 10.0,
        jitter: Jitter = "full",
        timeout_per_try: float | None = None,
        budget: RetryBudget | None = None,
        retry_on: Errors = is_worth_retrying,
        retry_result: Callable[[Any], bool] | None = None,
        random: Callable[[], float] = _random.random,
        name: str = "",
        listeners: Iterable[Callable[[RetryEvent], None]] = (),
    ) -> None:
        self._schedule = Schedule(attempts, base_delay, max_delay, jitter)
        if timeout_per_try is not None:
            check_duration("timeout_per_try", timeout_per_try)
        if budget is not None and not isinstance(budget, RetryBudget):
            raise ValueError(f"budget must be a RetryBudget, not {budget!r}")
        if retry_result is not None and not callable(retry_result):
            raise ValueError(f"retry_result must be a function of the result, not {retry_result!r}")
        self.name = name
        self._limit = None if timeout_per_try is None else Timeout(timeout_per_try, name=name)
        self._budget = budget
        self._is_retryable = matcher("retry_on", retry_on)
        self._retry_result = retry_result
        self._random = random
        self._listeners = tuple(listeners)
        self._calls = 0
        self._ended = 0
        self._retried = 0
        self._succeeded = 0
        self._gave_up = dict.fromkeys(Reason, 0)

    async def call(self, work: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
        """Run ``await work(*args)``, again and again if need be; raises what its last try raised.

        ``work`` is called anew for each try: it should be safe to do twice.
        """
        self._calls += 1
        if self._budget is not None:
            self._budget.count_call()
        tries = 1
        delay = self._schedule.base_delay
        try:
            while True:
                try:
                    result = await (
                        work(*args) if self._limit is None else self._limit.call(work, *args)
                    )
                except Exception as error:
                    delay = self._delay(tries, delay)
                    pause = self._after(error, tries, delay)
                    if pause is None:
                        raise
                else:
                    if self._retry_result is None or not self._retry_result(result):
                        self._succeeded += 1
                        return result
                    delay = self._delay(tries, delay)
                    pause = self._after(None, tries, delay)
                    if pause is None:
                        return result
                await self._sleep(pause)
                tries += 1
        finally:
            self._ended += 1

    def statistics(self) -> RetryStatistics:
        """What the retry has counted so far."""
        return RetryStatistics(
            name=self.name,
            calls=self._calls,
            active=self._calls - self._ended,
            tries=self._calls + self._retried,
            retried=self._retried,
            succeeded=self._succeeded,
            gave_up=MappingProxyType(dict(self._gave_up)),
            cancelled=self._ended - self._succeeded - sum(self._gave_up.values()),
        )

    def _delay(self, tries: int, previous: float) -> float:
        return self._schedule.delay(tries, previous=previous, random=self._random())

    def _after(self, error: Exception | None, tries: int, delay: float) -> _Pause | None:
        """What to do after a failed try: pause, or (``None``) give up. Counts and tells it."""
        now = trio.current_time()
        pause = self._pause(error, tries, delay, now)
        if isinstance(pause, _Pause):
            if self._listeners:
                record = Retrying(self.name, tries + 1, pause.seconds, error, now)
                tell(self._listeners, record)
            return pause
        self._gave_up[pause] += 1
        if error is not None and not (tries == 1 and pause is Reason.NOT_RETRYABLE):
            _note(error, f"{self.name or 'retry'}: gave up after {_tries(tries)} ({pause.value})")
        if self._listeners:
            tell(self._listeners, GaveUp(self.name, tries, pause, error, now))
        return None

    def _pause(
        self, error: Exception | None, tries: int, delay: float, now: float
    ) -> _Pause | Reason:
        retry_after = None
        if error is not None:
            found = leaves(error)
            if not all(self._is_retryable(leaf) for leaf in found):
                return Reason.NOT_RETRYABLE
            retry_after = _longest_retry_after(found)
        wait = self._schedule.wait(
            tries,
            delay=delay,
            retry_after=retry_after,
            now=now,
            deadline=trio.current_effective_deadline(),
        )
        if isinstance(wait, Reason):
            return wait
        if self._budget is None:
            return _Pause(wait, None)
        grant = self._budget.take_nowait()
        return Reason.BUDGET if grant is None else _Pause(wait, grant)

    async def _sleep(self, pause: _Pause) -> None:
        try:
            await trio.sleep(pause.seconds)
        except BaseException:
            if self._budget is not None and pause.grant is not None:
                self._budget.give_back(pause.grant)
            raise
        self._retried += 1


@attrs.frozen
class _Pause:
    """A wait before the next try, and what the budget granted for it."""

    seconds: float
    grant: int | None


def _longest_retry_after(errors: list[Exception]) -> float | None:
    """What the errors ask to wait, as any error may that has such an attribute."""
    asked = (getattr(error, "retry_after", None) for error in errors)
    waits = [wait for wait in asked if isinstance(wait, (int, float)) and not math.isnan(wait)]
    return max(waits, default=None)


def _tries(count: int) -> str:
    return "1 try" if count == 1 else f"{count} tries"


def _note(error: Exception, note: str) -> None:
    # One error object may be raised time and again; it is not to grow with every call.
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)
