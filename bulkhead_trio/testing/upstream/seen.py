"""What a scripted upstream has seen."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Outcome: TypeAlias = Literal["open", "answered", "ended", "gone", "malformed"]
"""``open``: under way. ``answered``: the whole answer was sent. ``ended``: there was none, as the
script says. ``gone``: the client went away before it. ``malformed``: this was no request."""


class RequestSeen(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One request.

    Attributes:
        number: from 1, over all connections.
        connection: its number, from 1.
        at: when its head had come, in seconds since the upstream opened.
        method, target, version: of the first line, as they came.
        headers: as they came, in their order and their case.
        trailers: of a chunked body.
        length, digest: of the body as far as it was read, without framing; SHA-256, hexadecimal.
        is_complete: whether all of it was read.
        outcome: what became of it.
    """

    number: int
    connection: int
    at: float
    method: str = ""
    target: str = ""
    version: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    trailers: tuple[tuple[str, str], ...] = ()
    length: int = 0
    digest: str = ""
    is_complete: bool = False
    outcome: Outcome = "open"

    def all(self, name: str) -> list[str]:
        """Every value of a header, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """The value of a header, its fields joined as one list; ``None`` without it."""
        values = self.all(name)
        return ", ".join(values) if values else None


class Seen(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """All that was seen since the upstream opened, or since it was told to forget.

    Attributes:
        opened: connections that were taken.
        open: connections at this moment.
        most_open: the most of them at once.
        in_flight: requests without a whole answer at this moment.
        most_in_flight: the most of them at once.
        count: requests.
        requests: the last of them, the oldest first.
    """

    opened: int = 0
    open: int = 0
    most_open: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    count: int = 0
    requests: tuple[RequestSeen, ...] = ()
