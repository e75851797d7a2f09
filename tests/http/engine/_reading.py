"""Reads requests with the core alone, as a server would, and says what came of them."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import h11

from bulkhead_trio.http.engine._body_rules import BodyDecoder, decoder_for
from bulkhead_trio.http.engine._head_rules import NO_BODY, Head, HeadLimits
from bulkhead_trio.http.engine._reader_rules import RequestReader
from bulkhead_trio.http.engine.errors import ProtocolError

LIMITS = HeadLimits()


@attrs.frozen
class Request:
    """A request as it was understood."""

    method: str
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


@attrs.frozen
class Seen:
    """What came of some bytes.

    Attributes:
        requests: that were complete.
        status: of the refusal at the end; 200 where there was none.
        is_half_way: whether a request had begun that was not complete.
    """

    requests: tuple[Request, ...]
    status: int
    is_half_way: bool = False

    @property
    def is_refused(self) -> bool:
        """Whether it ended with a refusal."""
        return self.status != 200


class Reading:
    """Feeds a `RequestReader`, and takes whatever can be taken after each piece.

    Args:
        limits: on heads.
    """

    def __init__(self, limits: HeadLimits = LIMITS) -> None:
        self.reader = RequestReader(limits)
        self.requests: list[Request] = []
        self.is_over = False
        self._head: Head | None = None
        self._decoder: BodyDecoder | None = None
        self._body: list[bytes] = []

    @property
    def is_half_way(self) -> bool:
        """Whether a request has begun that is not complete."""
        return self._head is not None or (not self.is_over and self.reader.has_begun)

    @property
    def held(self) -> int:
        """How many bytes are kept of what no sense could be made of yet."""
        kept = getattr(self._decoder, "_buffer", b"")
        return self.reader.held + len(kept)

    def feed(self, piece: bytes) -> None:
        """Take one piece.

        Raises:
            ProtocolError: what comes is no request.
        """
        if self.is_over:
            return
        self.reader.feed(piece)
        while not self.is_over and self._advance():
            pass

    def _advance(self) -> bool:
        if self._head is None:
            if (head := self.reader.next_head()) is None:
                return False
            self._head = head
            self._decoder = None if head.body == NO_BODY else decoder_for(head.body)
        if (decoder := self._decoder) is not None and not decoder.is_complete:
            if (body := self.reader.next_body(decoder)) is None:
                return False
            self._body.append(body)
            return True
        self._finish(self._head)
        return True

    def _finish(self, head: Head) -> None:
        body = b"".join(self._body)
        self.requests.append(Request(head.method, head.target, tuple(head.headers), body))
        self._head = None
        self._body.clear()
        self.is_over = not head.keeps_alive


def read(*pieces: bytes, limits: HeadLimits = LIMITS) -> Seen:
    """What comes of the pieces, fed one by one."""
    reading = Reading(limits)
    try:
        for piece in pieces:
            reading.feed(piece)
    except ProtocolError as error:
        return Seen(tuple(reading.requests), error.status)
    return Seen(tuple(reading.requests), 200, reading.is_half_way)


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The pieces of ``data``, cut at these places."""
    ordered = sorted(min(place, len(data)) for place in places)
    return [data[a:b] for a, b in zip([0, *ordered], [*ordered, len(data)], strict=True)]


def read_by_h11(data: bytes) -> Seen:
    """What h11 makes of the same bytes, with no more to come."""
    server = h11.Connection(h11.SERVER)
    requests: list[Request] = []
    server.receive_data(data)
    try:
        while isinstance(request := server.next_event(), h11.Request):
            body = b""
            while isinstance(event := server.next_event(), h11.Data):
                body += bytes(event.data)
            if not isinstance(event, h11.EndOfMessage):
                return Seen(tuple(requests), 200, is_half_way=True)
            requests.append(_as_ours(request, body))
            _answer(server)
            if server.our_state is not h11.DONE or server.their_state is not h11.DONE:
                return Seen(tuple(requests), 200)
            server.start_next_cycle()
    except h11.RemoteProtocolError as error:
        return Seen(tuple(requests), error.error_status_hint)
    return Seen(tuple(requests), 200, bool(server.trailing_data[0]))


def _as_ours(request: h11.Request, body: bytes) -> Request:
    headers = tuple((bytes(name), bytes(value)) for name, value in request.headers)
    return Request(request.method.decode("ascii"), bytes(request.target), headers, body)


def _answer(server: h11.Connection) -> None:
    # Not 200, after which CONNECT, which we refuse, would have made a tunnel of the connection.
    server.send(h11.Response(status_code=404, headers=[("Content-Length", "0")]))
    server.send(h11.EndOfMessage())
