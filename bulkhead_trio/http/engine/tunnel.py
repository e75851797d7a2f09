"""A connection of the engine after 101: bytes of another protocol, for the application."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import trio

from bulkhead_trio.http._upgrade_rules import is_web_socket
from bulkhead_trio.http.engine._answer_rules import AnswerHead, Framing, switching_head
from bulkhead_trio.http.engine._head_rules import Head
from bulkhead_trio.http.engine.errors import LocalProtocolError
from bulkhead_trio.http.engine.exchange import Exchange
from bulkhead_trio.http.tunnel import TUNNEL

if TYPE_CHECKING:
    from bulkhead_trio.http.engine.connection import Connection

PIECE_BYTES = 65_536


def asks_for_tunnel(head: Head) -> bool:
    """Whether an application may be given a tunnel for this request."""
    return head.is_http_11 and is_web_socket(head.method.encode("ascii"), b"1.1", head.headers)


class Tunnel:
    """One end of a tunnel: what the client sends, and what it is sent; see `ByteStream`.

    A client that breaks off, or takes nothing for the connection's ``write`` limit, has the
    application cancelled, as it always has.

    Args:
        connection: whose exchange it is; it is closed when the application returns.
        ahead: what has been read of it already.
    """

    __slots__ = ("_ahead", "_connection", "_has_ended", "_is_closed")

    def __init__(self, connection: Connection, ahead: bytes) -> None:
        self._connection = connection
        self._ahead = ahead
        self._has_ended = False
        self._is_closed = False

    async def read_piece(self) -> bytes:
        """What comes next; ``b""`` once the client has finished."""
        if self._is_closed:
            raise trio.ClosedResourceError
        if self._ahead:
            await trio.lowlevel.checkpoint()
            piece, self._ahead = self._ahead[:PIECE_BYTES], self._ahead[PIECE_BYTES:]
            return piece
        try:
            return await self._connection.receive()
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def write(self, data: bytes) -> None:
        """Send all of it."""
        if self._has_ended:
            raise trio.ClosedResourceError
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            await self._connection.write(data)
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def send_eof(self) -> None:
        """Finish on our side."""
        self._finish()
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Finish, and read no more; the connection does the rest when the application returns."""
        self._is_closed = True
        self._finish()
        await trio.lowlevel.checkpoint()

    def _finish(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            with contextlib.suppress(OSError):
                self._connection.sock.shutdown(socket.SHUT_WR)


class TunnelExchange(Exchange):
    """A request that may be answered by a tunnel, or by anything else as usual."""

    __slots__ = ("_scope",)

    def __init__(self, connection: Connection, head: Head) -> None:
        super().__init__(connection, head)
        self._scope: dict[str, Any] = {}

    def asgi_scope(self) -> dict[str, Any]:
        """The request for the application, with the extension."""
        self._scope = super().asgi_scope()
        self._scope["extensions"][TUNNEL] = self.open_tunnel
        return self._scope

    async def open_tunnel(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> Tunnel:
        """Answer 101; see `bulkhead_trio.http.tunnel.OpenTunnel`.

        Raises:
            LocalProtocolError: it is another status, a header that cannot be sent, or too late.
        """
        if self._answer is not None:
            raise LocalProtocolError("the answer has been begun already")
        connection = self._connection
        wire = switching_head(status, headers, date_line=connection.serving.date_line)
        self._answer = AnswerHead(wire, Framing.NONE, 0, says_close=True)
        self.has_started = self.is_over = True
        self.leaves_open = False
        await connection.become_tunnel(wire, self._scope)
        return Tunnel(connection, connection.take_rest())
