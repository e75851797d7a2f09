"""Reading requests from one connection, one at a time, with llhttp."""

from __future__ import annotations

import httptools
import msgspec

MOST_BODY_BYTES = 4 * 1024 * 1024


class Request(msgspec.Struct, frozen=True):
    """One request; the names of its headers are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    is_last: bool


class Unreadable(Exception):
    """What came is no request, or too long."""


class RequestReader:
    """Bytes in, requests out. The methods that begin with ``on_`` are for the parser."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._ready: list[Request] = []
        self._begin()

    def feed(self, data: bytes) -> list[Request]:
        """The requests that these bytes complete.

        Raises:
            Unreadable: they do not belong to one.
        """
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            raise Unreadable("an upgrade") from error
        except httptools.HttpParserError as error:
            raise Unreadable(str(error)) from error
        if self._size > MOST_BODY_BYTES:
            raise Unreadable("the body is too long")
        ready, self._ready = self._ready, []
        return ready

    def _begin(self) -> None:
        self._target: list[bytes] = []
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0

    def on_message_begin(self) -> None:
        """A new one."""
        self._begin()

    def on_url(self, piece: bytes) -> None:
        """A piece of the target."""
        self._target.append(piece)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        self._body.append(piece)
        self._size += len(piece)

    def on_message_complete(self) -> None:
        """All of it is there."""
        self._ready.append(
            Request(
                self._parser.get_method().decode("ascii"),
                b"".join(self._target).decode("latin-1"),
                self._headers,
                b"".join(self._body),
                not self._parser.should_keep_alive(),
            )
        )
