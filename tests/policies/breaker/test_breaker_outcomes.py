"""How a breaker counts what a call ends with: ignored, or recorded, or a success."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from bulkhead_trio.errors import BulkheadFull, CircuitOpen, DeadlineExceeded, Rejected
from bulkhead_trio.policies.breaker import BreakerOutcome
from bulkhead_trio.policies.breaker._outcome_rules import Classification

OK, FAILED, IGNORED = BreakerOutcome.SUCCESS, BreakerOutcome.FAILURE, BreakerOutcome.IGNORED


def classification(**options: Any) -> Classification:
    usual: dict[str, Any] = {
        "ignore": (), "record": Exception, "ignore_result": None, "record_result": None,
    }  # fmt: skip
    return Classification.of(**{**usual, **options})


async def cancellation() -> trio.Cancelled:
    """A real one; they can't be made by hand."""
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as error:
            found = error
            raise
    return found


def test_outcome_of_any_error_is_a_failure_unless_said() -> None:
    """Also of a deadline that passed inside."""
    assert classification().of_error(OSError()) is FAILED
    assert classification().of_error(DeadlineExceeded("late")) is FAILED


def test_outcome_ignored_goes_before_recorded_and_recorded_before_success() -> None:
    """An error that is both is ignored; one that is neither is a success."""
    both = classification(ignore=KeyError, record=(LookupError, OSError))
    assert both.of_error(KeyError()) is IGNORED
    assert both.of_error(IndexError()) is FAILED
    assert both.of_error(ConnectionError()) is FAILED
    assert both.of_error(ValueError()) is OK


def test_outcome_by_functions() -> None:
    """They get the error."""
    busy = classification(
        ignore=lambda error: str(error) == "mine", record=lambda error: str(error) == "busy"
    )
    assert busy.of_error(OSError("mine")) is IGNORED
    assert busy.of_error(OSError("busy")) is FAILED
    assert busy.of_error(OSError("gone")) is OK


async def test_outcome_of_what_never_counts() -> None:
    """Cancellations, refusals and the end of the program: ignored, whatever is configured."""
    greedy = classification(record=lambda error: error is not None)
    for error in (
        await cancellation(), BulkheadFull("full"), CircuitOpen("open"), Rejected("no"),
        KeyboardInterrupt(), SystemExit(),
    ):  # fmt: skip
        assert greedy.of_error(error) is IGNORED
        assert greedy.of_error(BaseExceptionGroup("", [error])) is IGNORED


async def test_outcome_of_a_group_is_that_of_its_worst_leaf() -> None:
    """One failure among others is a failure; failing that, one that is ignored is ignored.

    What comes together with a cancellation counts neither way: it may be of being cut off.
    """
    mixed = classification(ignore=KeyError, record=OSError)
    cancelled = await cancellation()
    assert mixed.of_error(BaseExceptionGroup("", [cancelled, OSError()])) is IGNORED
    assert mixed.of_error(ExceptionGroup("", [KeyError(), ExceptionGroup("", [OSError()])])) is (
        FAILED
    )
    assert mixed.of_error(BaseExceptionGroup("", [cancelled, ValueError()])) is IGNORED
    assert mixed.of_error(ExceptionGroup("", [ValueError(), KeyError()])) is IGNORED
    assert (
        mixed.of_error(ExceptionGroup("", [ValueError(), ExceptionGroup("", [ValueError()])])) is OK
    )


def test_outcome_of_results() -> None:
    """Ignored, recorded, or else a success; without functions always a success."""
    status = classification(
        ignore_result=lambda code: code == 503, record_result=lambda code: code >= 500
    )
    assert status.of_result(503) is IGNORED
    assert status.of_result(500) is FAILED
    assert status.of_result(404) is OK
    assert classification().of_result(None) is OK


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ignore", trio.Cancelled), ("ignore", BaseException), ("ignore", None),
        ("record", trio.Cancelled), ("record", (OSError, 3)), ("record", "OSError"),
        ("ignore_result", 3), ("record_result", "x"), ("record_result", False),
    ],
)  # fmt: skip
def test_outcome_nonsense_is_refused_by_name(name: str, value: Any) -> None:
    """What is neither types of errors nor a function; a cancellation can't be asked for."""
    with pytest.raises(ValueError, match=f"^{name} must be"):
        classification(**{name: value})
