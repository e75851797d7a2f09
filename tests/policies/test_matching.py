"""Which errors a policy is about."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from bulkhead_trio.policies._matching import leaves, matcher


def test_matcher_of_types_takes_their_subclasses() -> None:
    """One type, several, or none."""
    assert matcher("on", OSError)(ConnectionError())
    assert not matcher("on", OSError)(ValueError())
    assert matcher("on", (OSError, ValueError))(ValueError())
    assert not matcher("on", ())(ValueError())


def test_matcher_of_a_function_asks_it() -> None:
    """It gets the error, and its word counts."""
    is_busy = matcher("on", lambda error: str(error) == "busy")
    assert is_busy(ValueError("busy"))
    assert not is_busy(ValueError("gone"))


@pytest.mark.parametrize(
    "nonsense", [None, 3, "ValueError", (ValueError, "x"), trio.Cancelled, BaseException, [OSError]]
)
def test_matcher_of_nonsense_is_refused(nonsense: Any) -> None:
    """A cancellation can never be meant; the message names the parameter."""
    with pytest.raises(ValueError, match="retry_on must be types of Exception or a function"):
        matcher("retry_on", nonsense)


def test_leaves_of_groups_within_groups() -> None:
    """In order, however deep; an error alone is its own leaf."""
    a, b, c = ValueError("a"), OSError("b"), KeyError("c")
    assert leaves(ExceptionGroup("", [a, ExceptionGroup("", [b]), c])) == [a, b, c]
    assert leaves(a) == [a]
