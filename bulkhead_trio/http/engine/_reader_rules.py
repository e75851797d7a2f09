"""What has come in on a connection, taken apart: heads and bodies, one request after the other.

The same bytes mean the same, however they were cut into pieces on their way.
"""

from __future__ import annotations

import re

from bulkhead_trio.http.engine._body_rules import BodyDecoder
from bulkhead_trio.http.engine._head_rules import (
    END,
    Head,
    HeadLimits,
    HeadParser,
    check_request_line,
)
from bulkhead_trio.http.engine.errors import ProtocolError

REQUEST_LINE_REST = 64
"""What a request line has beside its target: method, version and blanks."""

_EMPTY_LINES = re.compile(rb"\A(?:\r\n)+")
MOST_EMPTY_BYTES = 64
"""Empty lines before a request line are passed over (RFC 9112, section 2.2): a few, as some clients
send after a body; not as many as somebody likes to send, for they would be no request ever."""


class RequestReader:
    """Takes bytes, gives requests.

    Args:
        limits: on heads.
    """

    __slots__ = ("_buffer", "_empty_bytes", "_limits", "_parser")

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._parser = HeadParser(limits)
        self._buffer = b""
        self._empty_bytes = 0

    @property
    def has_begun(self) -> bool:
        """Whether there is something that no request has been made of yet."""
        return bool(self._buffer)

    @property
    def held(self) -> int:
        """How many bytes no request has been made of yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take what has come in."""
        self._buffer = self._buffer + data if self._buffer else data

    def next_head(self) -> Head | None:
        """The next request's head; ``None`` while it is not complete.

        Raises:
            ProtocolError: it is none, or never can become one.
        """
        buffer = self._buffer
        end = buffer.find(END)
        if buffer.startswith(b"\r\n"):
            buffer = self._without_empty_lines()
            end = buffer.find(END)
        if end < 0:
            if buffer:
                self._check_incomplete(buffer)
            return None
        self._empty_bytes = 0
        if end == len(buffer) - 4:
            self._buffer = b""
            return self._parser.parse(buffer)
        self._buffer = buffer[end + 4 :]
        return self._parser.parse(buffer[: end + 4])

    def _without_empty_lines(self) -> bytes:
        rest = _EMPTY_LINES.sub(b"", self._buffer, count=1)
        self._empty_bytes += len(self._buffer) - len(rest)
        if self._empty_bytes > MOST_EMPTY_BYTES:
            raise ProtocolError("too many empty lines before a request")
        self._buffer = rest
        return rest

    def take_rest(self) -> bytes:
        """What has come in and no request has been made of; whoever takes it goes on from there."""
        rest, self._buffer = self._buffer, b""
        return rest

    def next_body(self, decoder: BodyDecoder) -> bytes | None:
        """The next piece of a body; ``None`` while there is none. ``b""`` only at its end.

        Raises:
            ProtocolError: it is none.
        """
        if not self._buffer:
            return None
        data, self._buffer = self._buffer, b""
        body = decoder.feed(data)
        if decoder.is_complete:
            self._buffer = decoder.rest
        return body if body or decoder.is_complete else None

    def _check_incomplete(self, buffer: bytes) -> None:
        """Give up on a head that cannot become a good one, before all of it has come."""
        limits = self._limits
        line = buffer.find(b"\r\n")
        if (len(buffer) if line < 0 else line) > limits.target_bytes + REQUEST_LINE_REST:
            raise ProtocolError("the target is too long", status=414)
        if len(buffer) > limits.head_bytes:
            raise ProtocolError("there is too much of headers", status=431)
        if line >= 0:
            check_request_line(buffer[:line])
        # The last CR may be half of a line's end.
        lines = buffer[:-1] if buffer.endswith(b"\r") else buffer
        lines = lines.replace(b"\r\n", b"")
        if b"\n" in lines or b"\r" in lines or b"\0" in lines:
            raise ProtocolError("a line does not end in CR LF")
