"""Telling a person what went wrong, where tasks fail in groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import pytest

from bench.failures import INTERRUPTED, RunFailed, leaves, run_explained


def failing(error: BaseException) -> Callable[[], NoReturn]:
    def run() -> NoReturn:
        raise error

    return run


def test_leaves_are_found_at_every_depth() -> None:
    """Groups in groups are opened; a lone exception is its own leaf."""
    first, second, third = ValueError("1"), OSError("2"), KeyboardInterrupt()
    inner = BaseExceptionGroup("inner", [second, third])
    assert list(leaves(BaseExceptionGroup("outer", [first, inner]))) == [first, second, third]
    assert list(leaves(first)) == [first]


def test_run_returns_what_it_is_for() -> None:
    """A run that succeeds is left alone."""
    assert run_explained(lambda: 7, (OSError,)) == 7


def test_run_explains_expected_errors_in_one_line() -> None:
    """A group of errors that may happen becomes one sentence and exit code 1."""
    group = ExceptionGroup("group", [OSError("no server"), OSError("no answer")])
    with pytest.raises(RunFailed, match="no server; no answer") as caught:
        run_explained(failing(group), (OSError,))
    assert caught.value.exit_code == 1


def test_run_does_not_hide_a_defect() -> None:
    """An error that nobody expected keeps its traceback, beside expected ones too."""
    group = ExceptionGroup("group", [OSError("no server"), TypeError("a defect")])
    with pytest.raises(ExceptionGroup) as caught:
        run_explained(failing(group), (OSError,))
    assert caught.value is group


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), BaseExceptionGroup("group", [KeyboardInterrupt()])]
)
def test_run_that_is_interrupted_says_so(error: BaseException) -> None:
    """Ctrl-C is no failure of the run, however deep in its tasks it arrived."""
    with pytest.raises(RunFailed, match="interrupted") as caught:
        run_explained(failing(error), (OSError,))
    assert caught.value.exit_code == INTERRUPTED
