"""The members of an object that somebody sent: read one by one, with every mistake found."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from bulkhead_trio.errors import BulkheadTrioError, CallerError, InvalidBody

T = TypeVar("T")
N = TypeVar("N", bound=str)

REQUIRED: Final[Any] = object()
"""The default of a member that has to be there."""


class Wrong(ValueError):
    """A value cannot be what it should be.

    Attributes:
        inside: where in the value, such as ``[2]``; empty for all of it.
    """

    def __init__(self, message: str, inside: str = "") -> None:
        super().__init__(message)
        self.inside = inside


class SeveralWrong(ValueError):
    """Several things in a value cannot be what they should be.

    Attributes:
        mistakes: each with its place in the value.
    """

    def __init__(self, mistakes: Sequence[Wrong]) -> None:
        super().__init__("; ".join(map(str, mistakes)))
        self.mistakes = tuple(mistakes)


class Members:
    """Reads what ``document`` says, and remembers what is wrong with it.

    Args:
        document: decoded JSON.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._known: set[str] = set()
        self._errors: list[dict[str, str]] = []

    def read(self, name: str, reading: Callable[[Any], T], default: T = REQUIRED) -> T:
        """A member as ``reading`` reads it; what it is where that raises does not matter.

        Args:
            name: the member's.
            reading: makes a value of what is there, or raises ValueError with what follows the
                name.
            default: for a member that may be left out.
        """
        self._known.add(name)
        value = self._document.get(name)
        if name not in self._document and default is not REQUIRED:
            return default
        try:
            return reading(value)
        except SeveralWrong as error:
            for mistake in error.mistakes:
                self.refuse(f"$.{name}{mistake.inside}", str(mistake))
            return default
        except ValueError as error:
            inside = error.inside if isinstance(error, Wrong) else ""
            missing = "" if name in self._document else "is missing; it "
            self.refuse(f"$.{name}{inside}", f"{missing}{error}")
            return default

    def refuse(self, path: str, message: str) -> None:
        """Remember that something is wrong."""
        self._errors.append({"path": path, "message": message})

    def check(self) -> None:
        """To be called when all members have been read.

        Raises:
            InvalidBody: there were mistakes, members included that are not known.
        """
        unknown = (name for name in self._document if name not in self._known)
        self._errors += [{"path": f"$.{name}", "message": "is not known here"} for name in unknown]
        if self._errors:
            raise InvalidBody("The body is not what it should be.", errors=self._errors)


def flag(value: object) -> bool:
    """``true`` or ``false``."""
    if not isinstance(value, bool):
        raise Wrong("must be true or false")
    return value


def text(most: int, *, least: int = 1) -> Callable[[object], str]:
    """Text of ``least`` to ``most`` characters that PostgreSQL can keep."""

    def read(value: object) -> str:
        if not isinstance(value, str) or not least <= len(value) <= most:
            raise ValueError(f"must be a text of {least} to {most} characters")
        if "\0" in value:
            raise ValueError("must not contain the character NUL")
        return value

    return read


def text_or_null(most: int) -> Callable[[object], str | None]:
    """The same, or nothing."""
    read = text(most, least=0)
    return lambda value: None if value is None else read(value)


def seconds(most: float) -> Callable[[object], float]:
    """A number from 0 to ``most``."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise ValueError(f"must be a number from 0 to {most:.0f}")
        return float(value)

    return read


def moment(value: object) -> datetime.datetime:
    """A point in time as RFC 3339 writes it, with its zone."""
    wanted = "must be a time with its zone, such as 2026-02-11T12:00:00Z"
    if not isinstance(value, str) or not value.isascii() or len(value) > 40:
        raise ValueError(wanted)
    try:
        at = datetime.datetime.fromisoformat(value)
        if at.tzinfo is not None:
            return at.astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        pass  # which of them does not matter
    raise ValueError(wanted)


def checked_by(check: Callable[[str], None]) -> Callable[[str], None]:
    """A check that raises one of our errors, as one that raises ValueError."""

    def checked(value: str) -> None:
        try:
            check(value)
        except BulkheadTrioError as error:
            raise ValueError(error.message) from None

    return checked


def parameter(parameters: Mapping[str, str], name: str, reading: Callable[[Any], T]) -> T | None:
    """A field of the query as ``reading`` reads it; ``None`` where it is absent or empty.

    Raises:
        CallerError: it is not what it may be; the message begins with its name.
    """
    value = parameters.get(name)
    if not value:
        return None
    try:
        return reading(value)
    except ValueError as error:
        raise CallerError(f"{name} {error}") from None


def one_of(*names: N) -> Callable[[object], N]:
    """One of some words."""

    def read(value: object) -> N:
        for name in names:
            if name == value:
                return name
        raise ValueError(f"must be one of {', '.join(names)}")

    return read
