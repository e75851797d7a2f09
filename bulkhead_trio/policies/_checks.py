"""Checks of constructor parameters: nonsense is refused by name, before anything is built on it."""

from __future__ import annotations

import math


def check_whole(name: str, value: int, *, minimum: int) -> None:
    """Refuse what is not a whole number of at least ``minimum``.

    Raises:
        ValueError: with the parameter's name.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(f"{name} must be a whole number, {minimum} or more, not {value!r}")


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
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be 0 or more seconds, not {value!r}")


def check_positive(name: str, value: float, *, unit: str = "number") -> None:
    """Refuse a measure that is zero, negative, not a number or infinite.

    Raises:
        ValueError: with the parameter's name.
    """
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be a positive {unit}, not {value!r}")


def check_share(name: str, value: float) -> None:
    """Refuse a threshold outside ]0, 1].

    Raises:
        ValueError: with the parameter's name.
    """
    if not 0 < value <= 1:
        raise ValueError(f"{name} must be above 0 and at most 1, not {value!r}")
