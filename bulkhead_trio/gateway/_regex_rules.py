"""Many regular expressions, of which the first that matches is wanted. Pure.

Most patterns of routes have a segment in them that has to be there word for word: ``orders`` in
``/v[0-9]+/orders/(.*)``. A pattern is kept under its rarest such segment, and only those are tried
that are kept under a segment of the path. So ten thousand of them cost a few look-ups and a try or
two. Those that have no such segment, or a common one, are tried all at once, as a `PatternSet`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from bulkhead_trio.gateway._pattern_rules import Pattern, PatternError, PatternSet

FEW: Final = 4
"""Patterns that are tried one by one: a set of them would not be quicker."""

_TOKEN: Final = re.compile(
    r"""
    (?P<slash>/)
    | (?P<literal>[A-Za-z0-9_~!&',;=:@%-]|\\[.~!&',;=:@%_-])
    | (?P<start>\A\^)
    | (?P<end>(?:\$|\\z)\Z)
    | (?P<other>\[\^?\]?(?:\\.|\[:\^?[a-z]+:\]|[^\]\\])*\]|\\[dDwWsS]|\.)
    | (?P<repeat>[*+?]|\{[0-9]+(?:,[0-9]*)?\})
    | (?P<group>\((?![?])|\(\?:|\(\?P?<[A-Za-z_])
    """,
    re.VERBOSE,
)
"""The parts of a pattern that are understood here. From anything else nothing is concluded."""

_IN_GROUP: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|\[:\^?[a-z]+:\]|[^\]\\])*\]|(?P<edge>[()])|.")
_REPEATS: Final = "*+?{"


def required_segments(pattern: str) -> frozenset[bytes]:
    """Segments that every path has that matches: not all of them, but each for certain.

    That is literal text between two slashes, or between a slash and the end, where nothing round
    it is optional. Of patterns with alternatives, flags, or anything that is not well understood
    here, nothing is said.
    """
    segments: set[bytes] = set()
    # The text since the last slash; None where it is not literal, or follows no slash.
    current: list[str] | None = None
    for kind, text, is_repeated in _tokens(pattern):
        match kind:
            case "slash" if is_repeated:  # it may be missing, or there twice
                current = None
            case "slash" | "end":
                if current:
                    segments.add("".join(current).encode("ascii"))
                current = []
            case "literal" if current is not None and not is_repeated:
                current.append(text[-1])
            case "unknown":
                return frozenset()
            case "literal" | "other":
                current = None
            case _:
                pass  # a repeat, which what it follows knows of, or the start
    return frozenset(segments)


def _tokens(pattern: str) -> Iterator[tuple[str, str, bool]]:
    """The parts of a pattern: of which kind, the text, and whether a repeat follows."""
    place = 0
    while place < len(pattern):
        found = None if r"\Q" in pattern else _TOKEN.match(pattern, place)
        if found is None:
            yield "unknown", "", False
            return
        kind, end = str(found.lastgroup), found.end()
        if kind == "group":
            kind, end = "other", _end_of_group(pattern, place)
        yield kind, pattern[place:end], pattern[end : end + 1] in _REPEATS and end < len(pattern)
        place = end


def _end_of_group(pattern: str, place: int) -> int:
    """Where a group ends that begins at ``place``; whatever is in it counts as one thing."""
    depth = 0
    for found in _IN_GROUP.finditer(pattern, place):
        if found["edge"] is not None:
            depth += 1 if found["edge"] == "(" else -1
        if depth == 0:
            return found.end()
    return len(pattern)


Ranks: TypeAlias = tuple[int, ...]


class FirstMatch:
    """Finds the first of many patterns that matches and is for a method.

    Args:
        patterns: in their order.
        methods: for which each is; ``None`` for all.
    """

    __slots__ = ("_by_segment", "_methods", "_others", "_patterns")

    def __init__(
        self, patterns: Sequence[Pattern], methods: Sequence[frozenset[str] | None]
    ) -> None:
        self._patterns = tuple(patterns)
        self._methods = tuple(methods)
        required = [required_segments(each.text) for each in patterns]
        uses = Counter(segment for segments in required for segment in segments)
        by_segment: dict[bytes | None, list[int]] = {}
        for rank, segments in enumerate(required):
            # The longer of two that are equally rare: it will be in fewer paths.
            best = min(segments, key=lambda each: (uses[each], -len(each), each), default=None)
            by_segment.setdefault(best, []).append(rank)
        self._others = self._bunches(by_segment.pop(None, []))
        self._by_segment = {
            segment: self._bunches(ranks) for segment, ranks in by_segment.items() if segment
        }

    def find(self, path: bytes, method: str) -> int | None:
        """The number of the first pattern that matches; ``None`` where none does."""
        best: int | None = None
        by_segment = self._by_segment
        if by_segment:
            for segment in by_segment.keys() & path.split(b"/"):
                for bunch in by_segment[segment]:
                    best = bunch.first(path, method, best)
        for bunch in self._others:
            best = bunch.first(path, method, best)
        return best

    def _bunches(self, ranks: list[int]) -> tuple[_Bunch, ...]:
        if not ranks:
            return ()
        if len(ranks) <= FEW:
            return (_Bunch(self._patterns, self._methods, ranks, None),)
        try:
            together = PatternSet(self._patterns[rank] for rank in ranks)
        except PatternError:
            half = len(ranks) // 2
            return self._bunches(ranks[:half]) + self._bunches(ranks[half:])
        return (_Bunch(self._patterns, self._methods, ranks, together),)


class _Bunch:
    """Patterns that are tried together."""

    __slots__ = ("_methods", "_patterns", "_ranks", "_together")

    def __init__(
        self,
        patterns: tuple[Pattern, ...],
        methods: tuple[frozenset[str] | None, ...],
        ranks: list[int],
        together: PatternSet | None,
    ) -> None:
        self._patterns = patterns
        self._methods = methods
        self._ranks = tuple(ranks)
        self._together = together

    def first(self, path: bytes, method: str, best: int | None) -> int | None:
        """The number of its first that matches, where that is before ``best``; or ``best``."""
        if self._together is not None:
            for number in self._together.matching(path):
                rank = self._ranks[number]
                if (best is None or rank < best) and self._takes(rank, method):
                    best = rank
            return best
        for rank in self._ranks:
            if best is not None and rank >= best:
                return best
            if self._takes(rank, method) and self._patterns[rank].end_of_match(path) is not None:
                return rank
        return best

    def _takes(self, rank: int, method: str) -> bool:
        methods = self._methods[rank]
        return methods is None or method in methods
