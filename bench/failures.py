"""Telling a person what went wrong, where tasks fail in groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended, as shells have it."""


class RunFailed(Exception):
    """A benchmark could not be run to its end; its text is for whoever started it.

    Attributes:
        exit_code: what the process should end with.
    """

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions that are no groups themselves, from every depth of ``error``."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def run_explained(run: Callable[[], T], expected: tuple[type[Exception], ...]) -> T:
    """Call ``run`` and return what it returns.

    Raises:
        RunFailed: it failed with nothing but ``expected`` errors, in groups or not, or Ctrl-C.
        BaseException: what else it raised, unchanged.
    """
    try:
        return run()
    except (Exception, BaseExceptionGroup, KeyboardInterrupt) as error:
        causes = list(leaves(error))
        if any(isinstance(cause, KeyboardInterrupt) for cause in causes):
            raise RunFailed("interrupted", exit_code=INTERRUPTED) from None
        if all(isinstance(cause, expected) for cause in causes):
            raise RunFailed("; ".join(str(cause) for cause in causes)) from error
        raise
