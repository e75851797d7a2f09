"""How a call's end counts: ignored, or recorded as a failure, or else a success; in this order."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from bulkhead_trio.errors import Rejected
from bulkhead_trio.policies._matching import Errors, matcher


class BreakerOutcome(enum.Enum):
    """How a permitted call ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"


def _never(result: object) -> bool:  # noqa: ARG001  what stands in for a missing predicate
    return False


def _check_predicate(name: str, predicate: object) -> None:
    if predicate is not None and not callable(predicate):
        raise ValueError(f"{name} must be a function of the result, not {predicate!r}")


@attrs.frozen
class Classification:
    """What the user wants ignored and recorded, made into functions."""

    ignores: Callable[[Exception], bool]
    records: Callable[[Exception], bool]
    ignores_result: Callable[[Any], bool]
    records_result: Callable[[Any], bool]

    @classmethod
    def of(
        cls,
        *,
        ignore: Errors,
        record: Errors,
        ignore_result: Callable[[Any], bool] | None,
        record_result: Callable[[Any], bool] | None,
    ) -> Classification:
        """Check and prepare a breaker's parameters.

        Raises:
            ValueError: one of them is neither types of errors nor a function.
        """
        _check_predicate("ignore_result", ignore_result)
        _check_predicate("record_result", record_result)
        return cls(
            ignores=matcher("ignore", ignore),
            records=matcher("record", record),
            ignores_result=ignore_result or _never,
            records_result=record_result or _never,
        )

    def of_error(self, error: BaseException) -> BreakerOutcome:
        """The outcome of a call that raised ``error``.

        Of a group each leaf is asked: one failure makes it a failure, otherwise one ignored error
        makes it ignored. What is no `Exception` (a cancellation above all) and a refusal by another
        policy say nothing of what is protected, whatever is configured. Nor does what comes
        together with a cancellation: that may well be of being cut off.
        """
        if not isinstance(error, BaseExceptionGroup):
            return self._of_leaf(error)
        if not isinstance(error, ExceptionGroup):
            return BreakerOutcome.IGNORED
        outcomes = [self._of_leaf(leaf) for leaf in _leaves(error)]
        for outcome in (BreakerOutcome.FAILURE, BreakerOutcome.IGNORED):
            if outcome in outcomes:
                return outcome
        return BreakerOutcome.SUCCESS

    def of_result(self, result: object) -> BreakerOutcome:
        """The outcome of a call that returned ``result``."""
        if self.ignores_result(result):
            return BreakerOutcome.IGNORED
        return BreakerOutcome.FAILURE if self.records_result(result) else BreakerOutcome.SUCCESS

    def _of_leaf(self, error: BaseException) -> BreakerOutcome:
        if not isinstance(error, Exception) or isinstance(error, Rejected):
            return BreakerOutcome.IGNORED
        if self.ignores(error):
            return BreakerOutcome.IGNORED
        return BreakerOutcome.FAILURE if self.records(error) else BreakerOutcome.SUCCESS


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
