"""Which URLs a token may be sent to: origins, and paths below them at a slash. Pure.

A token that reaches the wrong server is in the wrong hands, so a URL belongs to an audience only
where nobody on the way can read it as one that does not: ``/v1/../admin`` is not below ``/v1``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Self
from urllib.parse import unquote_to_bytes

import attrs

from bulkhead_trio.errors import InvalidRequest
from bulkhead_trio.http.client._url_rules import Origin, split_url

_SEPARATOR: Final = re.compile(rb"[/\\]")
_DOTS: Final = (b".", b"..")


@attrs.frozen
class Audience:
    """Whom a token is for.

    Attributes:
        parts: origins, each with a path without a slash at its end; ``b""`` for all of it.
    """

    parts: tuple[tuple[Origin, bytes], ...]

    @classmethod
    def of(cls, prefixes: Iterable[str]) -> Self:
        """Of URLs such as ``https://api.example.com`` and ``https://api.example.com/v1``.

        Raises:
            ValueError: one of them is no such URL; it is named.
        """
        return cls(tuple(_part(prefix) for prefix in prefixes))

    def covers(self, url: str) -> bool:
        """Whether a token may be sent to ``url``: an equal origin, and the path or one below it."""
        try:
            origin, target = split_url(url)
        except InvalidRequest:
            return False
        path = target.partition(b"?")[0]
        return not _climbs(path) and any(
            origin == own and (path == prefix or path.startswith(prefix + b"/"))
            for own, prefix in self.parts
        )


def _part(prefix: str) -> tuple[Origin, bytes]:
    try:
        origin, target = split_url(prefix)
    except InvalidRequest as error:
        raise ValueError(error.message) from None
    if "?" in prefix or "#" in prefix:
        raise ValueError(f"{prefix!r} must have neither a query nor a fragment")
    if _climbs(target):
        raise ValueError(f"{prefix!r} must have no segment of dots in its path")
    return origin, target.rstrip(b"/")


def _climbs(path: bytes) -> bool:
    """Whether anybody could take a segment for ``.`` or ``..``, however it is spelt."""
    if b"/." not in path and b"%" not in path and b"\\" not in path:
        return False
    segments = _SEPARATOR.split(unquote_to_bytes(path))
    return any(segment.partition(b";")[0] in _DOTS for segment in segments)
