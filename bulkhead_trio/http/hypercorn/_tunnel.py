"""A tunnel on a connection that Hypercorn's protocol classes speak HTTP/1.1 on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias

import trio
from hypercorn.protocol.events import Event, Request, StreamClosed
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.typing import ASGISendEvent

from bulkhead_trio.http.engine.errors import LocalProtocolError
from bulkhead_trio.http.tunnel import TUNNEL

PIECE_BYTES = 65_536

MakeTunnel: TypeAlias = Callable[[int, Iterable[tuple[bytes, bytes]]], Awaitable["Tunnel"]]


class Tunnel:
    """One end of a tunnel: what the client sends, and what it is sent; see `ByteStream`.

    The connection's reader hands it what comes, piece by piece, each when the one before has been
    taken; so who does not read stops the client.

    Args:
        ahead: what has been read already.
        write: has the kernel take all of it; says whether it did.
        send_eof: finishes on our side.
        has_halves: whether the client can be read after that.

    Attributes:
        has_ended: set when the application is done with it.
    """

    def __init__(
        self,
        ahead: bytes,
        *,
        write: Callable[[bytes], Awaitable[bool]],
        send_eof: Callable[[], Awaitable[None]],
        has_halves: bool,
    ) -> None:
        self.has_ended = trio.Event()
        self._ahead = ahead
        self._write = write
        self._send_eof = send_eof
        self._has_halves = has_halves
        self._has_finished = False
        self._is_broken = False
        self._put, self._get = trio.open_memory_channel[bytes](0)

    # --- for the connection ----------------------------------------------------------------------

    async def feed(self, data: bytes) -> None:
        """Hand over what has come; returns when it has been taken, or nobody wants it."""
        try:
            await self._put.send(data)
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            await trio.lowlevel.checkpoint()

    def feed_eof(self, *, is_broken: bool = False) -> None:
        """Nothing more comes: the client has finished, or the connection is over."""
        self._is_broken = self._is_broken or is_broken
        self._put.close()

    def end(self) -> None:
        """The application is done with it."""
        self.has_ended.set()
        self._get.close()

    # --- for the application ---------------------------------------------------------------------

    async def read_piece(self) -> bytes:
        """What comes next; ``b""`` once the client has finished."""
        if self._ahead and not self.has_ended.is_set():
            await trio.lowlevel.checkpoint()
            piece, self._ahead = self._ahead[:PIECE_BYTES], self._ahead[PIECE_BYTES:]
            return piece
        try:
            return await self._get.receive()
        except trio.EndOfChannel:
            if self._is_broken:
                raise trio.BrokenResourceError("the client has gone") from None
            return b""

    async def write(self, data: bytes) -> None:
        """Send all of it."""
        if self._has_finished:
            raise trio.ClosedResourceError
        if not await self._write(data):
            raise trio.BrokenResourceError("the client has gone, or does not read")

    async def send_eof(self) -> None:
        """Finish on our side; under TLS that is the end of both."""
        if self._has_finished:
            await trio.lowlevel.checkpoint()
            return
        self._has_finished = True
        await self._send_eof()
        if not self._has_halves:
            self._put.close()

    async def aclose(self) -> None:
        """Finish, and read no more."""
        self.end()
        await self.send_eof()


class TunnelStream(HTTPStream):
    """Hypercorn's HTTP stream, of a request that may be answered by a tunnel."""

    tunnel: Tunnel | None = None

    def __init__(self, *args: Any, open_tunnel: MakeTunnel, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._open_tunnel = open_tunnel

    async def handle(self, event: Event) -> None:
        """As Hypercorn's; the application finds the extension in its scope."""
        await super().handle(event)
        if isinstance(event, Request):
            # The application's task has been made, and does not run before we wait for something.
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[TUNNEL] = self._open

    async def app_send(self, message: ASGISendEvent | None) -> None:
        """As Hypercorn's; after 101 all that there is to say is that the application is done."""
        if self.tunnel is None:
            await super().app_send(message)
        elif message is not None:
            raise LocalProtocolError("the answer was a tunnel")
        else:
            self.tunnel.end()
            if not self.closed:
                await self.send(StreamClosed(stream_id=self.stream_id))

    async def _open(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> Tunnel:
        if self.tunnel is not None or hasattr(self, "response"):
            raise LocalProtocolError("the answer has been begun already")
        self.tunnel = tunnel = await self._open_tunnel(status, headers)
        return tunnel
