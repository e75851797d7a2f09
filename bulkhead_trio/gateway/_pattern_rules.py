"""Regular expressions of routes, by RE2: whatever the pattern, time grows with the text alone.

A tenant's pattern is run on what anybody sends, so an engine that goes back and tries again is out
of the question: ``(a+)+$`` would stop the server. What RE2 cannot do in linear time it does not
have: back-references, look-ahead and look-behind. Syntax: https://github.com/google/re2/wiki/Syntax
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import re2

LONGEST_PATTERN: Final = 1024
"""Characters."""

LARGEST_PROGRAM: Final = 5_000
"""Instructions of a compiled pattern; what a step on a text costs at most grows with them."""

_MEMORY_BYTES: Final = 2**20
"""What one pattern may use; over it, RE2 goes on without its tables, slower."""

_SET_MEMORY_BYTES: Final = 2**28
"""What a set of patterns may use, most of it only when texts ask for it."""

_LEFT_OUT: Final = (
    (re.compile(r"\(\?<?[=!]"), "look-ahead and look-behind"),
    (re.compile(r"\\[1-9]|\(\?P="), "back-references"),
    (re.compile(r"\(\?>|[*+?}]\+"), "possessive and atomic groups"),
)
_REFERENCE: Final = re.compile(rb"\$(?:(\$)|([0-9]{1,3})|\{([0-9A-Za-z_]{1,64})\})|\$")


class PatternError(Exception):
    """A pattern, or what is to replace what it matches, makes no sense; the message says why."""


class Pattern:
    """A regular expression for the paths of requests, which are ASCII.

    Args:
        text: RE2's syntax.

    Raises:
        PatternError: it cannot be compiled.
    """

    __slots__ = ("_compiled", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._compiled = _compile(text)

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"

    @property
    def groups(self) -> int:
        """How many groups it has."""
        return int(self._compiled.groups)

    @property
    def names(self) -> dict[str, int]:
        """The numbers of those groups that have names."""
        return {name.decode(): number for name, number in self._compiled.groupindex.items()}

    def end_of_match(self, text: bytes) -> int | None:
        """Where a match that begins where ``text`` does ends; ``None`` where there is none."""
        match = self._compiled.match(text)
        return None if match is None else match.end()

    def replaced(self, text: bytes, replacement: Replacement) -> bytes | None:
        """``text`` with its first match replaced; ``None`` where there is none."""
        match = self._compiled.search(text)
        if match is None:
            return None
        return b"".join((text[: match.start()], replacement.filled(match), text[match.end() :]))

    def can_match_a_path(self) -> bool:
        """Whether anything that begins with a slash could match from its beginning on."""
        try:
            least, most = self._compiled.possiblematchrange(8)
        except re2.error:  # anything could
            return True
        # Nothing at all is where every path begins; "0" is the character after the slash.
        return bool(not least or (least < b"0" and most >= b"/"))

    def only_match(self) -> bytes | None:
        """The one path that it matches; ``None`` where there are others, or that is unknown."""
        bounds = self._bounds()
        if bounds is None or bounds[0] != bounds[1]:
            return None
        # One that does not hold to the end matches all that begins so. Before a letter there may be
        # no boundary of words that there is before a slash, and the other way round.
        goes_on = any(self.end_of_match(bounds[0] + more) is not None for more in (b"x", b"/"))
        return None if goes_on else bounds[0]

    def matches_only_below(self, beginning: bytes) -> bool:
        """Whether all that it matches is known to begin with ``beginning``, which ends with "/"."""
        bounds = self._bounds()
        if bounds is None or bounds[0] < beginning:
            return False
        after = beginning[:-1] + b"0"  # the character after the slash
        # A bound of what has no end is the first text beyond it, which it does not match.
        return bounds[1] < after or (bounds[1] == after and self.end_of_match(after) is None)

    def _bounds(self) -> tuple[bytes, bytes] | None:
        """Between which texts, in the order of their bytes, what it matches of a path lies."""
        try:
            least, most = self._compiled.possiblematchrange(LONGEST_PATTERN)
        except re2.error:  # anything could
            return None
        return least, most


class Replacement:
    """What takes the place of a match: text with ``$1``, ``${1}``, ``${name}``, ``$0``, ``$$``.

    A group that took no part in the match is nothing.

    Args:
        text: in ASCII.
        pattern: whose groups it names.

    Raises:
        PatternError: it names a group that is not there.
    """

    __slots__ = ("_parts",)

    def __init__(self, text: str, pattern: Pattern) -> None:
        self._parts: list[bytes | int] = []
        encoded, place, names = text.encode("ascii"), 0, pattern.names
        for found in _REFERENCE.finditer(encoded):
            self._parts.append(encoded[place : found.start()])
            place = found.end()
            if found[1]:
                self._parts.append(b"$")
            else:
                self._parts.append(_group(found, pattern.groups, names))
        self._parts.append(encoded[place:])

    def filled(self, match: Any) -> bytes:
        """The text for one match."""
        return b"".join(
            part if isinstance(part, bytes) else (match.group(part) or b"") for part in self._parts
        )


def _group(found: re.Match[bytes], groups: int, names: dict[str, int]) -> int:
    """The number of the group that is referred to."""
    said = found[0].decode()
    name = found[2] or found[3]
    if name is None:
        raise PatternError(f"has {said} that names no group; a dollar sign itself is $$")
    number = int(name) if name.isdigit() else names.get(name.decode(), -1)
    if not 0 <= number <= groups:
        raise PatternError(f"names a group that the pattern does not have: {said}")
    return number


class PatternSet:
    """Many patterns at once: says which of them match, in about the time that one takes.

    Args:
        patterns: in the order of their numbers.

    Raises:
        PatternError: they are too much for the memory that they may use.
    """

    __slots__ = ("_set",)

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        self._set = re2.Set.MatchSet(_options(_SET_MEMORY_BYTES))
        try:
            for pattern in patterns:
                self._set.Add(pattern.text.encode("ascii"))
            self._set.Compile()
        except re2.error as error:
            raise PatternError("needs too much memory") from error

    def matching(self, text: bytes) -> Sequence[int]:
        """The numbers, from 0, of those that match from the beginning of ``text`` on."""
        return self._set.Match(text) or ()


def _options(max_mem: int) -> Any:
    options = re2.Options()
    options.max_mem = max_mem
    options.log_errors = False  # or a bad pattern is written to stderr
    options.encoding = re2.Options.Encoding.LATIN1  # a byte is a character
    return options


def _compile(text: str) -> Any:
    if len(text) > LONGEST_PATTERN:
        raise PatternError(f"must have at most {LONGEST_PATTERN} characters")
    if not text.isascii() or not text.isprintable():
        raise PatternError("must be printable ASCII: paths have everything else in escapes")
    try:
        compiled = re2.compile(text.encode("ascii"), _options(_MEMORY_BYTES))
    except re2.error as error:
        raise PatternError(_why_not(text, error)) from None
    if compiled.programsize > LARGEST_PROGRAM:
        raise PatternError("is too large: repeat less")
    return compiled


def _why_not(text: str, error: Exception) -> str:
    for sign, name in _LEFT_OUT:
        if sign.search(text):
            return f"does not compile: {name} are not supported (RE2, linear time)"
    reason = error.args[0] if error.args else ""
    told = reason.decode("ascii", "replace") if isinstance(reason, bytes) else str(reason)
    return f"does not compile: {told}"
