"""Reading one request: its head as it came, its body with h11's help."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

import h11
import trio

from bulkhead_trio.testing.upstream._log import LoggedRequest
from bulkhead_trio.testing.upstream._wire import Gone, Wire
from bulkhead_trio.testing.upstream.script import MOST_HEAD_BYTES

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

Use = Callable[[bytes], Awaitable[None]]


class Malformed(Exception):
    """What came is no request."""


class IncomingRequest:
    """One request on a wire.

    Args:
        wire: it.
        head: raw, with the empty line.
        logged: where what is read of it is noted.

    Raises:
        Malformed: the head is none.
    """

    def __init__(self, wire: Wire, head: bytes, logged: LoggedRequest) -> None:
        self.raw_head = head
        self.logged = logged
        self._wire = wire
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEAD_BYTES)
        self._is_asked_for = False
        self._length = 0
        self._digest = hashlib.sha256()
        self.is_complete = False
        event = self._next(head)
        if not isinstance(event, h11.Request):
            raise Malformed("no request")
        self.method = event.method.decode("ascii")
        self.target = event.target.decode("latin-1")
        self.is_http_1_0 = event.http_version == b"1.0"
        raw = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in event.headers.raw_items()]
        self.headers = tuple(raw)
        self.is_last = "close" in self.all("connection") or self.is_http_1_0
        self.expects_continue = self._h11.they_are_waiting_for_100_continue
        logged.note(
            method=self.method,
            target=self.target,
            version=event.http_version.decode("ascii"),
            headers=self.headers,
        )

    def all(self, name: str) -> list[str]:
        """Every value of a header, in lower case."""
        return [value.lower() for key, value in self.headers if key.lower() == name]

    @property
    def has_counted_body(self) -> bool:
        """Whether its body's length was said beforehand."""
        return bool(self.all("content-length"))

    @property
    def has_body(self) -> bool:
        """Whether a body comes with it, be it an empty one."""
        return self.has_counted_body or bool(self.all("transfer-encoding"))

    async def read(self, use: Use | None = None, *, seconds: float = 0.0, ask: bool = True) -> None:
        """Read the body to its end, ``seconds`` apart, and give its pieces to ``use``.

        With ``ask``, a client that waits to be told to continue is told.

        Raises:
            Gone: the client went before its end.
            Malformed: its framing is none.
        """
        if ask and self.expects_continue and not self._is_asked_for:
            self._is_asked_for = True
            await self._wire.send(CONTINUE)
        while not self.is_complete:
            event = self._next(b"")
            if event is h11.NEED_DATA:
                data = await self._wire.receive()
                if not data:
                    raise Gone
                if (event := self._next(data)) is h11.NEED_DATA:
                    continue
            if isinstance(event, h11.Data):
                await self._take(bytes(event.data), use, seconds)
            elif isinstance(event, h11.EndOfMessage):
                self._finish(event)

    async def _take(self, piece: bytes, use: Use | None, seconds: float) -> None:
        self._digest.update(piece)
        self._length += len(piece)
        self.logged.note(length=self._length)
        if use is not None:
            await use(piece)
        if seconds:
            await trio.sleep(seconds)

    def _finish(self, event: h11.EndOfMessage) -> None:
        self.is_complete = True
        fields = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in event.headers.raw_items()]
        self.logged.note(is_complete=True, digest=self.digest, trailers=tuple(fields))
        self._wire.give_back(self._h11.trailing_data[0])

    @property
    def length(self) -> int:
        """Bytes of the body so far."""
        return self._length

    @property
    def digest(self) -> str:
        """SHA-256 of the body so far, in hexadecimal."""
        return self._digest.hexdigest()

    def _next(self, data: bytes) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            if data:
                self._h11.receive_data(data)
            return self._h11.next_event()
        except h11.RemoteProtocolError as error:
            raise Malformed(str(error)) from error
