"""Something to answer with when the real thing fails."""

from __future__ import annotations

import enum
import inspect
import math
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar, TypeVarTuple, cast

import attrs
import trio

from bulkhead_trio.policies._checks import check_duration
from bulkhead_trio.policies._matching import Errors, leaves, matcher
from bulkhead_trio.policies.listeners import tell
from bulkhead_trio.policies.policy import Kind, Policy

T = TypeVar("T")
Args = TypeVarTuple("Args")


class _Missing(enum.Enum):
    """Stands for what was not given, where ``None`` would be a value."""

    MISSING = enum.auto()


@attrs.frozen
class FallbackStatistics:
    """What a fallback has counted.

    Attributes:
        calls: calls that have come in.
        active: calls under way.
        succeeded: calls that ended with their own result.
        fell_back: calls that ended with a fallback.
        failed: calls that ended with an error: one that is not meant, one without a good value at
            hand, or the fallback's own.
        cancelled: calls that were cancelled from outside.
    """

    name: str
    calls: int
    active: int
    succeeded: int
    fell_back: int
    failed: int
    cancelled: int


@attrs.frozen
class FellBack:
    """A call failed with ``error``, and was answered with a fallback."""

    fallback: str
    error: Exception
    at: float


class Fallback(Policy):
    """Answers with something else when a call fails.

    Exactly one of ``value``, ``use`` and ``last_good`` says with what.

    A cancellation is never answered. Of a group of errors each one has to be meant by ``on``.
    When the fallback itself fails, its error is raised, with the call's as its ``__context__``.

    Args:
        value: this; the same object each time.
        use: what this returns when it is given the error; it may be an async function.
        last_good: the result of the last call that succeeded, whatever its arguments were. Where
            there has been none, or it is too old, the error is raised.
        max_age: seconds after which a good result is no longer used; it is then let go of by the
            next call that fails. ``math.inf``: never.
        on: which errors to answer: types, or a function that gets one; refusals by default too.
        name: for statistics, listeners and messages.
        listeners: told of `FellBack`.

    Raises:
        ValueError: none or several of the three are given, or another parameter makes no sense.
    """

    kind = Kind.FALLBACK

    def __init__(
        self,
        value: Any = _Missing.MISSING,
        *,
        use: Callable[[Exception], Any] | None = None,
        last_good: bool = False,
        max_age: float = math.inf,
        on: Errors = Exception,
        name: str = "",
        listeners: Iterable[Callable[[FellBack], None]] = (),
    ) -> None:
        sources = (value is not _Missing.MISSING) + (use is not None) + bool(last_good)
        if sources != 1:
            raise ValueError(
                f"value, use and last_good are alternatives: give one of them, not {sources}"
            )
        if use is not None and not callable(use):
            raise ValueError(f"use must be a function of the error, not {use!r}")
        if max_age != math.inf:
            check_duration("max_age", max_age)
        if not last_good and max_age != math.inf:
            raise ValueError("max_age goes with last_good alone")
        self.name = name
        self._value = value
        self._use = use
        self._keeps = last_good
        self._max_age = max_age
        self._good: tuple[object, float] | None = None  # the last one, and when it came
        self._is_meant = matcher("on", on)
        self._listeners = tuple(listeners)
        self._calls = 0
        self._ended = 0
        self._succeeded = 0
        self._fell_back = 0
        self._failed = 0

    async def call(self, work: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
        """Run ``await work(*args)``; its result, or the fallback where it fails."""
        self._calls += 1
        try:
            result = await work(*args)
        except Exception as error:  # noqa: BLE001  raised again unless there is an answer to it
            answer = cast("T", await self._answer(error))
            self._fell_back += 1
            if self._listeners:
                tell(self._listeners, FellBack(self.name, error, trio.current_time()))
            return answer
        finally:
            self._ended += 1
        self._succeeded += 1
        if self._keeps:
            self._good = (result, trio.current_time())
        return result

    def statistics(self) -> FallbackStatistics:
        """What the fallback has counted so far."""
        return FallbackStatistics(
            name=self.name,
            calls=self._calls,
            active=self._calls - self._ended,
            succeeded=self._succeeded,
            fell_back=self._fell_back,
            failed=self._failed,
            cancelled=self._ended - self._succeeded - self._fell_back - self._failed,
        )

    async def _answer(self, error: Exception) -> object:
        """What to answer ``error`` with; raises it, or the fallback's own error, where nothing."""
        try:
            if not all(self._is_meant(leaf) for leaf in leaves(error)):
                raise error
            if self._use is not None:
                answer = self._use(error)
                return await answer if inspect.isawaitable(answer) else answer
            return self._last_good(error) if self._keeps else self._value
        except Exception:
            self._failed += 1
            raise

    def _last_good(self, error: Exception) -> object:
        if self._good is not None:
            value, came_at = self._good
            if trio.current_time() - came_at <= self._max_age:
                return value
            self._good = None
        raise error
