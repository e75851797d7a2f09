"""Which errors a policy is about: types, or a function, asked of each leaf of a group."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Errors: TypeAlias = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]
"""A type, several, or a function that says yes or no."""


def matcher(name: str, errors: Errors) -> Callable[[Exception], bool]:
    """What says whether one error is meant.

    Raises:
        ValueError: with the parameter's ``name``: it is neither types of errors nor a function. A
            cancellation is no `Exception` and can never be meant.
    """
    if callable(errors) and not isinstance(errors, type):
        return errors
    types = errors if isinstance(errors, tuple) else (errors,)
    if not all(isinstance(each, type) and issubclass(each, Exception) for each in types):
        raise ValueError(f"{name} must be types of Exception or a function, not {errors!r}")
    return lambda error: isinstance(error, types)


def leaves(error: Exception) -> list[Exception]:
    """The errors in a group, however deep; of any other error itself."""
    if not isinstance(error, ExceptionGroup):
        return [error]
    return [leaf for inner in error.exceptions for leaf in leaves(inner)]
