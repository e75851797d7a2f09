"""The path of a request: its one normal form, and what an upstream is asked for. Pure.

Two spellings of a path mean the same where RFC 3986, section 6.2.2, says so: ``%41`` is ``A``, and
``%c3`` is ``%C3``. Everything else is told apart: ``%2F`` is no slash and ``//`` is not ``/``. A
path that some program on the way might take for another one has no normal form at all, and so
matches no route: ``/a/../b`` above all, however it is spelt.
"""

from __future__ import annotations

import re
from typing import Final

from bulkhead_trio.errors import CallerError
from bulkhead_trio.gateway._pattern_rules import Pattern, Replacement

_VISIBLE: Final = bytes(set(range(0x21, 0x7F)))
_IN_PATHS: Final = bytes(set(_VISIBLE) - set(b"?#"))
"""What a path may consist of; RFC 3986 has fewer, browsers and clients send these."""

_PLAIN: Final = bytes(set(_IN_PATHS) - set(b"%\\"))
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_NO_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_UNRESERVED: Final = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
)
_SEPARATOR: Final = re.compile(rb"/|\\|%2F|%5C")
"""What any program on the way might take for a slash."""

_DOTS: Final = (b".", b"..")


def normal_path(raw: bytes) -> bytes | None:
    """The one form of all paths that mean the same; ``None`` for one that could mean another.

    That is one with

    * anything but visible ASCII, a ``?`` or a ``#`` in it, or no slash at its beginning,
    * a ``%`` that begins no escape, or an escaped NUL,
    * a segment ``.`` or ``..``, also where it is escaped, where it is set off by what only some
      programs take for a slash (``\\``, ``%2F``, ``%5C``), or has parameters (``..;x``), which some
      cut off before they look.

    Args:
        raw: as it was sent, without the query.
    """
    if not raw.translate(None, _PLAIN) and b"/." not in raw and raw[:1] == b"/":
        return raw
    if raw[:1] != b"/" or raw.translate(None, _IN_PATHS) or _NO_ESCAPE.search(raw):
        return None
    path = _ESCAPE.sub(_in_normal_form, raw)
    if b"%00" in path:
        return None
    for segment in _SEPARATOR.split(path):
        if segment.partition(b";")[0] in _DOTS:
            return None
    return path


def _in_normal_form(escape: re.Match[bytes]) -> bytes:
    byte = int(escape[1], 16)
    return bytes((byte,)) if byte in _UNRESERVED else escape[0].upper()


class PathRules:
    """How the path of a request becomes that for an upstream; made once for a route.

    Args:
        strips: whether what the route matched is taken off first.
        pattern: then, what its first match is replaced in; ``None``: nowhere.
        replacement: what it is replaced by.
    """

    __slots__ = ("_pattern", "_replacement", "_strips", "changes")

    def __init__(
        self,
        *,
        strips: bool = False,
        pattern: Pattern | None = None,
        replacement: Replacement | None = None,
    ) -> None:
        self._strips = strips
        self._pattern = pattern
        self._replacement = replacement
        self.changes = strips or pattern is not None

    def path(self, raw: bytes, normal: bytes, end: int) -> bytes:
        """The path for an upstream, without the base path of its URL.

        Where there is nothing to change, it is what was sent, byte for byte.

        Args:
            raw: as it was sent.
            normal: its normal form.
            end: where in the normal form that ends what the route matched.

        Raises:
            CallerError: what comes of it could be taken for another path.
        """
        if not self.changes:
            return raw
        path = normal
        if self._strips:
            # What is left may begin with slashes of its own; //host/x is more than a path to some.
            path = b"/" + path[end:].lstrip(b"/")
        if self._pattern is not None and self._replacement is not None:
            replaced = self._pattern.replaced(path, self._replacement)
            if replaced is not None:
                path = b"/" + replaced.lstrip(b"/")
        # Without its beginning, or put together anew, it may be something else than it was.
        checked = normal_path(path)
        if checked is None:
            raise CallerError("This path cannot be passed on.")
        return checked

    def taken_off(self, normal: bytes, end: int) -> bytes:
        """What of a request's path is not in that for an upstream; without a last slash.

        Args:
            normal: the path in its normal form.
            end: where in it that ends what the route matched.
        """
        return normal[:end].rstrip(b"/") if self._strips else b""


def base_path(url: str) -> bytes:
    """The path of an upstream's URL as it stands before every request's: without a last slash."""
    place = url.find("/", url.index("://") + 3)
    return b"" if place < 0 else url[place:].rstrip("/").encode("ascii")


def target(base: bytes, path: bytes, query: bytes) -> bytes:
    """What an upstream is asked for, as it stands in a request's first line.

    Args:
        base: of the upstream's URL, by `base_path`.
        path: by `PathRules.path`.
        query: as it was sent, without the question mark; it is not touched.

    Raises:
        CallerError: the query, or the path as it was sent, has something in it that no request's
            first line can have.
    """
    whole = b"%b%b?%b" % (base, path, query) if query else base + path
    # A fragment is cut off by some and not by others; of the rest, a blank would end the target.
    if whole.translate(None, _VISIBLE) or b"#" in whole or whole[:1] != b"/" or whole[:2] == b"//":
        raise CallerError("This path or query cannot be passed on.")
    return whole
