"""Where an upstream says that something is, as its client has to ask for it. Pure.

An upstream knows itself by the address that we ask it at, and says so in ``Location``: an address
of the inside, which its client cannot reach. What names the upstream's own origin becomes a
reference without one (RFC 3986, section 4.2), which clients take as meant for where they have
asked, whatever host, port and scheme that was, also through proxies that are not ours. So nobody's
``Host`` is believed. It is what nginx does as ``proxy_redirect default``, and Apache as
``ProxyPassReverse``.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from bulkhead_trio.errors import InvalidRequest
from bulkhead_trio.http.client._url_rules import Origin, origin_of

LOCATIONS: Final = frozenset([b"location", b"content-location"])
"""Headers of answers whose value is a reference."""

LONGEST_ORIGIN: Final = 300
"""Bytes: a scheme, a host's name, a port. What is longer is nobody's origin."""

_ABSOLUTE: Final = re.compile(rb"((?:https?:)?)//([^/?#\\]*)((?:[/?#][^\x00- \x7f]*)?)", re.I)
"""With no blanks or controls, some of which browsers pass over as if they were not there."""


class Asked(msgspec.Struct, frozen=True):
    """Where a request has been sent, as far as its answer may speak of that.

    Attributes:
        origin: the upstream's.
        base: the path of its URL, without a last slash.
        taken_off: what the route took off the request's path, without a last slash.
    """

    origin: Origin
    base: bytes = b""
    taken_off: bytes = b""


def led_back(location: bytes, asked: Asked) -> bytes:
    """The reference as its client can use it; as it is, where it leads to anybody else.

    The path of the upstream's URL is taken off again, and what the route took off is put back. A
    path beside that of the upstream's URL stays, and one that is relative is the client's already.

    Args:
        location: the header's value.
        asked: where the request went.
    """
    found = _ABSOLUTE.fullmatch(location)
    if found is None:
        return location
    scheme, authority, rest = found.groups()
    if not _is_origin(scheme or asked.origin.scheme.encode("ascii") + b":", authority, asked):
        return location
    end = _end_of_path(rest)
    path, more = rest[:end] or b"/", rest[end:]
    if path == asked.base or path.startswith(asked.base + b"/"):
        path = asked.taken_off + (path[len(asked.base) :] or b"/")
    # Two slashes at its beginning, or what browsers take for them, would be another host.
    return (b"/." + path if path.startswith((b"//", b"/\\")) else path) + more


def _end_of_path(rest: bytes) -> int:
    """Where the query or the fragment begins."""
    places = [place for mark in (b"?", b"#") if (place := rest.find(mark)) >= 0]
    return min(places, default=len(rest))


def _is_origin(scheme: bytes, authority: bytes, asked: Asked) -> bool:
    if len(authority) > LONGEST_ORIGIN:
        return False
    try:
        named = origin_of((scheme + b"//" + authority).decode("ascii"))
    except (InvalidRequest, UnicodeDecodeError):
        return False
    return named == asked.origin
