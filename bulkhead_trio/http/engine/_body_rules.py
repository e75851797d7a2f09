"""Bodies on the wire: how many bytes belong to one, and which bytes come after it.

A decoder is fed what came in and answers with what of it is body. What it was fed too much belongs
to the next message.
"""

from __future__ import annotations

import re
from typing import Protocol

from bulkhead_trio.http.engine._head_rules import CHUNKED
from bulkhead_trio.http.engine.errors import ProtocolError

MOST_CHUNK_LINE_BYTES = 256
"""Of a chunk's first line: its size, and extensions that nobody here reads."""

MOST_TRAILER_BYTES = 8 * 1024

_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t -~\x80-\xff]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^`|~0-9A-Za-z]+:[\t -~\x80-\xff]*")


class BodyDecoder(Protocol):
    """Takes bytes off the wire, gives those of one body."""

    is_complete: bool
    rest: bytes

    def feed(self, data: bytes) -> bytes:
        """The body's part of ``data``; once complete, ``rest`` is what is not part of it.

        Raises:
            ProtocolError: it is no body.
        """


class LengthDecoder:
    """A body of a known length."""

    __slots__ = ("_left", "is_complete", "rest")

    def __init__(self, length: int) -> None:
        self._left = length
        self.is_complete = length == 0
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """The body's part of ``data``."""
        if len(data) < self._left:
            self._left -= len(data)
            return data
        body, self.rest = data[: self._left], data[self._left :]
        self._left = 0
        self.is_complete = True
        return body


class ChunkedDecoder:
    """A body in chunks (RFC 9112, section 7.1). Trailers are checked and dropped.

    Strict: each line ends in CR LF, and a size is hexadecimal digits and nothing else.
    """

    __slots__ = ("_buffer", "_left", "_step", "_trailer_bytes", "is_complete", "rest")

    def __init__(self) -> None:
        self._buffer = b""
        self._left = 0
        self._trailer_bytes = 0
        self._step = self._size
        self.is_complete = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """The body's part of ``data``.

        Raises:
            ProtocolError: this is no chunk.
        """
        self._buffer += data
        parts: list[bytes] = []
        while not self.is_complete and self._step(parts):
            pass
        return b"".join(parts)

    # Each step takes what it wants off the buffer, and says whether there may be more to do.

    def _size(self, parts: list[bytes]) -> bool:  # noqa: ARG002  all steps look alike
        line = self._line(MOST_CHUNK_LINE_BYTES)
        if line is None:
            return False
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise ProtocolError("a chunk's size is malformed")
        self._left = int(match[1], 16)
        self._step = self._data if self._left else self._trailer
        return True

    def _data(self, parts: list[bytes]) -> bool:
        if not self._buffer:
            return False
        piece, self._buffer = self._buffer[: self._left], self._buffer[self._left :]
        self._left -= len(piece)
        parts.append(piece)
        if not self._left:
            self._step = self._end_of_data
        return True

    def _end_of_data(self, parts: list[bytes]) -> bool:  # noqa: ARG002
        if not b"\r\n".startswith(self._buffer[:2]):
            raise ProtocolError("a chunk is longer than it says")
        if len(self._buffer) < 2:
            return False
        self._buffer = self._buffer[2:]
        self._step = self._size
        return True

    def _trailer(self, parts: list[bytes]) -> bool:  # noqa: ARG002
        line = self._line(MOST_TRAILER_BYTES - self._trailer_bytes)
        if line is None:
            return False
        if line:
            if _TRAILER.fullmatch(line) is None:
                raise ProtocolError("a trailer is malformed")
            self._trailer_bytes += len(line) + 2
            return True
        self.rest, self._buffer = self._buffer, b""
        self.is_complete = True
        return False

    def _line(self, most: int) -> bytes | None:
        """The next line without its end; ``None`` where it is not complete."""
        end = self._buffer.find(b"\r\n", 0, most + 2)
        if end < 0:
            # The CR of an end that is still to come is no part of the line.
            if len(self._buffer) > most + 1 or b"\n" in self._buffer[: most + 2]:
                raise ProtocolError("a line of a chunked body is malformed or too long")
            return None
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        return line


def decoder_for(body: int) -> BodyDecoder:
    """What takes a body as `Head.body` says it comes."""
    return ChunkedDecoder() if body == CHUNKED else LengthDecoder(body)
