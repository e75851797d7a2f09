"""Checks of constructor parameters: nonsense is refused by name, before anything is built on it."""

from __future__ import annotations

import math
import sys

LARGEST_WHOLE = 2**53
"""Up to here a float tells every whole number from the next; nobody counts further."""

SHORTEST_SECONDS = 1e-9
"""No clock tells less apart; and what is divided by a duration stays finite."""

LONGEST_SECONDS = 1e15
"""Thirty million years; and a few times as much is finite still."""


def check_whole(name: str, value: int, *, minimum: int) -> None:
    """Refuse what is not a whole number of at least ``minimum``, and what is beyond counting.

    Raises:
        ValueError: with the parameter's name.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(f"{name} must be a whole number, {minimum} or more, not {value!r}")
    if value > LARGEST_WHOLE:
        raise ValueError(f"{name} must be at most 2**53, not {value!r}")


def check_priority(value: int) -> None:
    """Refuse a priority that is not a whole number: anything else need not have an order.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(  # noqa: TRY004  nonsense is a ValueError here, of whatever type it is
            f"priority must be a whole number, not {value!r}"
        )


def check_seconds(name: str, value: float) -> None:
    """Refuse a duration that is negative, not a number or without an end.

    Raises:
        ValueError: with the parameter's name.
    """
    if not (is_finite(value) and value >= 0):
        raise ValueError(f"{name} must be 0 or more seconds, not {value!r}")


def check_wait(name: str, value: float) -> None:
    """Refuse a longest wait that is negative or not a number; infinite is one without limit.

    Raises:
        ValueError: with the parameter's name.
    """
    if value != math.inf:
        check_seconds(name, value)


def check_duration(name: str, value: float) -> None:
    """Refuse a length of time that is zero, negative, not a number, or beyond all measure.

    Raises:
        ValueError: with the parameter's name.
    """
    check_positive(name, value, unit="number of seconds")
    if not SHORTEST_SECONDS <= value <= LONGEST_SECONDS:
        raise ValueError(
            f"{name} must be a positive number of seconds from {SHORTEST_SECONDS:g} to"
            f" {LONGEST_SECONDS:g}, not {value!r}"
        )


def check_positive(name: str, value: float, *, unit: str = "number") -> None:
    """Refuse a measure that is zero, negative, not a number or infinite.

    Raises:
        ValueError: with the parameter's name.
    """
    if not (is_finite(value) and value > 0):
        raise ValueError(f"{name} must be a positive {unit}, not {value!r}")


def check_share(name: str, value: float) -> None:
    """Refuse a threshold outside ]0, 1].

    Raises:
        ValueError: with the parameter's name.
    """
    if not (is_finite(value) and 0 < value <= 1):
        raise ValueError(f"{name} must be above 0 and at most 1, not {value!r}")


def is_finite(value: object) -> bool:
    """Whether it is a number that a float can hold; ``True`` and ``"5"`` are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max  # of a whole number `math.isfinite` makes a float first
