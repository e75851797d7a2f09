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

_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t -~\x80-\xff]*)?")
_TRAILER = re.compile(rb"([!#$%&'*+\-.^`|~0-9A-Za-z]+):[\t -~\x80-\xff]*")

_NO_TRAILERS = frozenset([b"content-length", b"transfer-encoding", b"host"])
"""Fields that say where a message ends or goes: nobody may say so behind it (RFC 9110, 6.5.1)."""


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

    __slots__ = ("_at", "_buffer", "_left", "_step", "_trailer_bytes", "is_complete", "rest")

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
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
        # Cut once: of thousands of tiny chunks, each would otherwise copy all that follow it.
        self._buffer, self._at = self._buffer[self._at :], 0
        if self.is_complete:
            self.rest, self._buffer = self._buffer, b""
        return b"".join(parts)

    # Each step passes over what it wants of the buffer, and says whether there may be more to do.

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
        piece = self._buffer[self._at : self._at + self._left]
        if not piece:
            return False
        self._at += len(piece)
        self._left -= len(piece)
        parts.append(piece)
        if not self._left:
            self._step = self._end_of_data
        return True

    def _end_of_data(self, parts: list[bytes]) -> bool:  # noqa: ARG002
        end = self._buffer[self._at : self._at + 2]
        if not b"\r\n".startswith(end):
            raise ProtocolError("a chunk is longer than it says")
        if len(end) < 2:
            return False
        self._at += 2
        self._step = self._size
        return True

    def _trailer(self, parts: list[bytes]) -> bool:  # noqa: ARG002
        line = self._line(MOST_TRAILER_BYTES - self._trailer_bytes)
        if line is None:
            return False
        if line:
            match = _TRAILER.fullmatch(line)
            if match is None or match[1].lower() in _NO_TRAILERS:
                raise ProtocolError("a trailer is malformed")
            self._trailer_bytes += len(line) + 2
        else:
            self.is_complete = True
        return True

    def _line(self, most: int) -> bytes | None:
        """The next line without its end; ``None`` where it is not complete."""
        at = self._at
        end = self._buffer.find(b"\r\n", at, at + most + 2)
        if end < 0:
            # The CR of an end that is still to come is no part of the line.
            if (
                len(self._buffer) - at > most + 1
                or self._buffer.find(b"\n", at, at + most + 2) >= 0
            ):
                raise ProtocolError("a line of a chunked body is malformed or too long")
            return None
        self._at = end + 2
        return self._buffer[at:end]


def decoder_for(body: int) -> BodyDecoder:
    """What takes a body as `Head.body` says it comes."""
    return ChunkedDecoder() if body == CHUNKED else LengthDecoder(body)
