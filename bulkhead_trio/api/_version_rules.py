"""Optimistic concurrency: ``ETag`` names the version of an object, ``If-Match`` asks for one.

The comparison is the strong one of RFC 9110, 13.1.1: a weak tag matches nothing.
"""

from __future__ import annotations

import re

import attrs

from bulkhead_trio.errors import Conflict, InvalidHeader

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAGS = re.compile(rf"[ \t]*{_TAG}[ \t]*(?:,[ \t]*(?:{_TAG}[ \t]*)?)*")
_EACH = re.compile(_TAG)
_OURS = re.compile(r'"([1-9][0-9]{0,17})"')


def etag_of(version: int) -> str:
    """What ``ETag`` says of a version: ``"3"``, with its quotes."""
    return f'"{version}"'


@attrs.frozen
class Precondition:
    """Which versions a change is meant for.

    Attributes:
        versions: these alone; ``None``: whichever there is.
    """

    versions: frozenset[int] | None = None

    @classmethod
    def of(cls, if_match: str | None) -> Precondition:
        """Read ``If-Match``; ``None`` where there is no such header.

        Raises:
            InvalidHeader: it is neither ``*`` nor a list of entity tags.
        """
        if if_match is None or if_match.strip() == "*":
            return cls()
        if not _TAGS.fullmatch(if_match):
            raise InvalidHeader('If-Match must be * or the ETag of an answer, such as "3"')
        ours = (_OURS.fullmatch(tag) for tag in _EACH.findall(if_match))
        return cls(frozenset(int(match[1]) for match in ours if match is not None))

    def expected(self, current: int) -> int | None:
        """The version to insist on when writing; ``None``: the last one who writes wins.

        Raises:
            Conflict: ``current`` is not one that the change is meant for.
        """
        if self.versions is None:
            return None
        if current not in self.versions:
            raise Conflict(
                f"It has been changed: its version is {current} now. Read it again, and send its "
                "ETag as If-Match."
            )
        return current
