"""Event types, and what an endpoint may ask for. Pure.

A type is names joined by full stops, from the general to the particular: ``order.completed``. An
endpoint lists patterns: ``*`` for everything, ``order.*`` for all that begins with ``order.``, or
a type itself. Which endpoint takes which is looked up in the database's index of patterns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

EVERYTHING: Final = "*"

MOST_CHARACTERS: Final = 128
"""Of a type or a pattern."""

MOST_PATTERNS: Final = 100
"""Of an endpoint."""

_TYPE: Final = re.compile(r"[a-zA-Z0-9_]+(?:\.[a-zA-Z0-9_]+)*")
_PATTERN: Final = re.compile(r"\*|[a-zA-Z0-9_]+(?:\.[a-zA-Z0-9_]+)*(?:\.\*)?")


def check_event_type(text: str) -> str:
    """An event's type, as it is.

    Raises:
        ValueError: it is none; the message follows its name.
    """
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"must have at most {MOST_CHARACTERS} characters")
    if _TYPE.fullmatch(text) is None:
        raise ValueError("must be letters, digits and _, in names joined by full stops")
    return text


def check_pattern(text: str) -> str:
    """What an endpoint may ask for, as it is.

    Raises:
        ValueError: it is none; the message follows its name.
    """
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"must have at most {MOST_CHARACTERS} characters")
    if _PATTERN.fullmatch(text) is None:
        raise ValueError("must be an event type, the beginning of one and .*, or *")
    return text


def check_patterns(texts: Sequence[str]) -> tuple[str, ...]:
    """An endpoint's patterns, each of them once, in their order.

    Raises:
        ValueError: there is none, there are too many, or one is none.
    """
    if not 1 <= len(texts) <= MOST_PATTERNS:
        raise ValueError(f"must have 1 to {MOST_PATTERNS} entries")
    return tuple(dict.fromkeys(check_pattern(text) for text in texts))
