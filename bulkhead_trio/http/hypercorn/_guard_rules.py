"""What our own core would refuse never reaches another parser.

h11 is forgiving where parsers differ: a bare LF ends a line, a folded line is joined, a length may
be there twice. Behind this, both fronts take the same requests, and refuse the same.
"""

from __future__ import annotations

from bulkhead_trio.http._upgrade_rules import is_web_socket
from bulkhead_trio.http.engine._body_rules import BodyDecoder, decoder_for
from bulkhead_trio.http.engine._head_rules import NO_BODY, HeadLimits
from bulkhead_trio.http.engine._reader_rules import RequestReader
from bulkhead_trio.http.engine.errors import ProtocolError


class Guard:
    """Takes what comes in on a connection, and lets through what it finds good.

    A head is let through when all of it has come, a body piece by piece, and nothing after the
    request that is the connection's last.

    Args:
        limits: on heads.
        pauses: whether nothing is looked at behind a request for a WebSocket until it is known
            whether that is HTTP at all.

    Attributes:
        error: why nothing is let through any more.
        is_paused: whether it is so now; whoever knows says that it is not.
    """

    def __init__(self, limits: HeadLimits, *, pauses: bool = False) -> None:
        self.error: ProtocolError | None = None
        self.is_paused = False
        self._pauses = pauses
        self._reader = RequestReader(limits)
        self._held = b""
        self._decoder: BodyDecoder | None = None
        self._is_last = False

    @property
    def held(self) -> int:
        """How many bytes of a request have come that were not let through."""
        return len(self._held) if self.error is not None else self._reader.held

    def take(self, data: bytes) -> bytes:
        """What may go on of ``data``, and of what was held before it."""
        if self.error is not None or (self._is_last and self._decoder is None):
            return b""  # nobody will read it
        self._held += data
        self._reader.feed(data)
        good: list[bytes] = []
        try:
            while (piece := self._next_piece()) is not None:
                good.append(piece)
        except ProtocolError as error:
            self.error = error
        else:
            if self._decoder is None:  # of empty lines between requests nothing is kept
                self._held = self._held[len(self._held) - self._reader.held :]
        return b"".join(good)

    def take_rest(self) -> bytes:
        """What has come and was not looked at; it is no HTTP."""
        self._held = b""
        return self._reader.take_rest()

    def end(self) -> None:
        """Nothing more comes; inside a head that is an error."""
        if self.is_paused:
            return
        if self.error is None and self._decoder is None and self._reader.has_begun:
            self.error = ProtocolError("the connection ended inside a head")

    def _next_piece(self) -> bytes | None:
        """A whole head, or what is here of a body; ``None`` where more has to come first."""
        if (decoder := self._decoder) is not None:
            if self._reader.next_body(decoder) is None:
                return None
            if decoder.is_complete:
                self._decoder = None
            return self._understood()
        if self._is_last or self.is_paused or (head := self._reader.next_head()) is None:
            return None
        if self._pauses and head.upgrade is not None:
            self.is_paused = head.is_http_11 and is_web_socket(
                head.method.encode("ascii"), b"1.1", head.headers
            )
        self._is_last = not head.keeps_alive or not head.is_http_11  # h11 keeps none of HTTP/1.0
        if head.body != NO_BODY:
            self._decoder = decoder_for(head.body)
        return self._understood().lstrip(b"\r\n")

    def _understood(self) -> bytes:
        place = len(self._held) - self._reader.held
        piece, self._held = self._held[:place], self._held[place:]
        return piece
