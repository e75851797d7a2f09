"""A client that sends and reads bodies at the same time, and keeps none of them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import attrs
import h11
import trio

from .._client import Address, Headers, NoAnswerError, request_bytes

READ_BYTES = 65_536


@attrs.define
class Streamed:
    """An answer whose body was read and not kept."""

    status: int
    headers: tuple[tuple[str, str], ...]
    length: int = 0
    digest: str = ""
    pieces: int = 0

    def all(self, name: str) -> list[str]:
        """Every value of a header, in order."""
        return [value for key, value in self.headers if key == name.lower()]


class Exchange:
    """One request on a connection of its own, whose parts are sent and read as a test wants."""

    def __init__(self, stream: trio.SocketStream, method: str) -> None:
        self._stream = stream
        self._h11 = h11.Connection(h11.CLIENT)
        word = "HEAD" if method == "HEAD" else "GET"
        self._h11.send(h11.Request(method=word, target="/", headers=[("Host", "test")]))
        self._h11.send(h11.EndOfMessage())
        self.informational: list[int] = []

    async def send(self, data: bytes) -> None:
        """Some bytes of the request; a server that has closed already may have answered."""
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError:
            return

    async def send_chunk(self, piece: bytes) -> None:
        """A chunk of its body; an empty one is the last."""
        await self.send(b"%x\r\n%b\r\n" % (len(piece), piece))

    async def head(self) -> Streamed:
        """The answer's head.

        Raises:
            NoAnswerError: there is none.
        """
        while True:
            event = await self._event()
            if isinstance(event, h11.InformationalResponse):
                self.informational.append(event.status_code)
                continue
            assert isinstance(event, h11.Response), event
            pairs = tuple((n.decode(), v.decode("latin-1")) for n, v in event.headers)
            return Streamed(event.status_code, pairs)

    async def piece(self) -> bytes:
        """What comes next of the answer's body, ``b""`` at its end.

        Raises:
            NoAnswerError: it was cut short.
        """
        event = await self._event()
        if isinstance(event, h11.Data):
            return bytes(event.data)
        assert isinstance(event, h11.EndOfMessage), event
        assert not event.headers, f"trailers: {event.headers}"
        return b""

    async def exactly(self, size: int) -> bytes:
        """So many bytes of the answer's body."""
        got = b""
        while len(got) < size:
            piece = await self.piece()
            assert piece, f"ended after {got!r}"
            got += piece
        assert len(got) == size, got
        return got

    async def rest(self, answer: Streamed) -> Streamed:
        """Read the body to its end; its length and digest are noted in ``answer``.

        Raises:
            NoAnswerError: it was cut short.
        """
        digest = hashlib.sha256()
        while piece := await self.piece():
            digest.update(piece)
            answer.length += len(piece)
            answer.pieces += 1
        answer.digest = digest.hexdigest()
        return answer

    async def _event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            while (event := self._h11.next_event()) is h11.NEED_DATA:
                self._h11.receive_data(await self._stream.receive_some(READ_BYTES))
        except (h11.RemoteProtocolError, trio.BrokenResourceError) as error:
            raise NoAnswerError(str(error)) from error
        if isinstance(event, h11.ConnectionClosed):
            raise NoAnswerError("closed without an answer")
        return event


@asynccontextmanager
async def open_exchange(
    address: Address, target: str, *, method: str = "GET", headers: Headers = ()
) -> AsyncIterator[Exchange]:
    """Connect and send a head; closed on the way out."""
    async with await trio.open_tcp_stream(*address) as stream:
        exchange = Exchange(stream, method)
        await exchange.send(request_bytes(target, method=method, headers=headers))
        yield exchange


async def stream(
    address: Address,
    target: str,
    pieces: Iterable[bytes],
    *,
    size: int | None,
    headers: Headers = (),
    timeout: float = 30.0,
) -> Streamed:
    """``POST`` a body, counted where ``size`` is known and otherwise chunked, reading meanwhile.

    Raises:
        NoAnswerError: no whole answer came.
        trio.TooSlowError: it took longer than ``timeout`` seconds.
    """
    framing = ("Transfer-Encoding", "chunked") if size is None else ("Content-Length", str(size))
    fields = [*(headers.items() if hasattr(headers, "items") else headers), framing]
    answers: list[Streamed] = []
    with trio.fail_after(timeout):
        async with open_exchange(address, target, method="POST", headers=fields) as exchange:

            async def read() -> None:
                answers.append(await exchange.rest(await exchange.head()))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                for piece in pieces:
                    await (exchange.send(piece) if size is not None else exchange.send_chunk(piece))
                if size is None:
                    await exchange.send_chunk(b"")
    return answers[0]
