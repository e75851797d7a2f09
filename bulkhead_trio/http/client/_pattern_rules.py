"""Which endpoint a URL belongs to."""

from __future__ import annotations

import re

import attrs

from bulkhead_trio.errors import InvalidRequest
from bulkhead_trio.http.client._url_rules import Origin, origin_of

_PATTERN = re.compile(r"(https?)://([^/]+)((?:/[!\"$-)+->@-~]*)?)(?:(?<=/)\*)?")


@attrs.frozen
class EndpointPattern:
    """What URLs an endpoint has: ``scheme://host[:port][/path]``.

    The host is a name or an address, ``*.example.com`` for every name below one, or ``*`` for all.
    The path is that of the URL or one it lies below: ``/v1`` has ``/v1`` and ``/v1/items``, but not
    ``/v10``. ``/*`` at its end changes nothing.

    Attributes:
        text: as it was written.
        scheme: ``http`` or ``https``.
        port: its port.
        host: the whole host, or ``None``.
        suffix: ``.example.com``, or ``""`` for all hosts; ``None`` where ``host`` is given.
        path: without a slash at its end.
    """

    text: str
    scheme: str
    port: int
    host: str | None
    suffix: str | None
    path: str

    def has(self, origin: Origin, path: str) -> bool:
        """Whether a URL of that origin and path belongs to it."""
        if origin.scheme != self.scheme or origin.port != self.port:
            return False
        if self.suffix is None:
            if origin.host != self.host:
                return False
        elif not origin.host.endswith(self.suffix):
            return False
        return path == self.path or path.startswith(self.path + "/")

    @property
    def specificity(self) -> tuple[bool, int, int]:
        """The greater, the more specific: a whole host before any other, then longer ones, then
        longer paths."""
        return (self.suffix is None, len(self.suffix or ""), len(self.path))

    @property
    def key(self) -> tuple[object, ...]:
        """The same for patterns that have the same URLs."""
        return (self.scheme, self.port, self.host, self.suffix, self.path)


def parse_pattern(text: str) -> EndpointPattern:
    """The pattern that ``text`` writes.

    Raises:
        ValueError: it writes none.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is no pattern: scheme://host[:port][/path], where the host may be *"
            " or begin with *."
        )
    scheme, place, path = match.groups()
    suffix: str | None = None
    if place.startswith("*."):
        place = place[2:]
        suffix = "."
    elif place == "*" or place.startswith("*:"):
        place = "any" + place[1:]
        suffix = ""
    try:
        origin = origin_of(f"{scheme}://{place}")
    except InvalidRequest as error:
        raise ValueError(f"{text!r} is no pattern: {error.message}") from None
    if suffix == ".":
        suffix += origin.host
    host = origin.host if suffix is None else None
    return EndpointPattern(text, scheme, origin.port, host, suffix, path.rstrip("/"))
