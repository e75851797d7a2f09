"""HTTP/1.1 that can become a WebSocket, or a tunnel for one."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable

import attrs
import h11
from hypercorn.events import Event, RawData, Updated
from hypercorn.protocol.events import Data, Request
from hypercorn.protocol.h11 import STREAM_ID

from bulkhead_trio.http._upgrade_rules import is_web_socket
from bulkhead_trio.http.engine._answer_rules import switching_head
from bulkhead_trio.http.engine._head_rules import HeadLimits
from bulkhead_trio.http.hypercorn._guard_rules import Guard
from bulkhead_trio.http.hypercorn._protocol import HTTP11Protocol
from bulkhead_trio.http.hypercorn._tunnel import Tunnel, TunnelStream
from bulkhead_trio.http.hypercorn._websocket import WebSocketLimits, WebSocketStream

NOT_OFFERED = b"sec-websocket-extensions"
"""Compression: a frame of a few KiB can become many MiB."""


@attrs.frozen
class TunnelEnds:
    """What a tunnel needs of its connection: see `Tunnel`."""

    write: Callable[[bytes], Awaitable[bool]]
    send_eof: Callable[[], Awaitable[None]]


class UpgradableProtocol(HTTP11Protocol):
    """`HTTP11Protocol` that takes ``Upgrade: websocket``, and no other upgrade.

    Attributes:
        web_socket: what the connection has become, if it has.
        tunnel: or that.
    """

    web_socket_limits = WebSocketLimits()
    web_socket: WebSocketStream | None = None
    tunnel: Tunnel | None = None
    tunnel_ends: TunnelEnds | None = None

    def offer_tunnels(self, ends: TunnelEnds) -> None:
        """Give the application tunnels, and no WebSockets, to what the connection has to say."""
        self.tunnel_ends = ends
        self._guard = Guard(HeadLimits(), pauses=True)

    async def handle(self, event: Event) -> None:
        """As before; after an upgrade bytes are frames or nobody knows what, and no HTTP."""
        if self.tunnel is not None:
            await self._handle_tunnel(self.tunnel, event)
            return
        if self._guard.is_paused and self.their_state is h11.IDLE:
            self._guard.is_paused = False  # it has been answered as plain HTTP
        if self.web_socket is None or not isinstance(event, RawData):
            await super().handle(event)
        elif event.data:
            await self.web_socket.handle(Data(stream_id=STREAM_ID, data=event.data))

    async def resume(self) -> None:
        """As before; what came behind a request for a WebSocket has turned out to be HTTP."""
        if self._guard.is_paused:
            self._guard.is_paused = False
            if good := self._guard.take(b""):
                self.connection.receive_data(good)
        await super().resume()

    # --- tunnels ---------------------------------------------------------------------------------

    async def _handle_tunnel(self, tunnel: Tunnel, event: Event) -> None:
        if not isinstance(event, RawData):
            tunnel.feed_eof(is_broken=True)
            await super().handle(event)
        elif event.data:
            await tunnel.feed(event.data)
        else:
            tunnel.feed_eof()

    async def _open_tunnel(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> Tunnel:
        ends = self.tunnel_ends
        assert ends is not None  # noqa: S101  it would not have been offered
        dated = [*headers, *self.config.response_headers("h11")]
        wire = switching_head(status, dated, date_line=b"")
        self.tunnel = Tunnel(
            self._guard.take_rest(),
            write=ends.write,
            send_eof=ends.send_eof,
            has_halves=not self.ssl,
        )
        await ends.write(wire)
        # Whoever reads may have stopped, since so much was sent ahead.
        await self.send(Updated(idle=True))
        return self.tunnel

    # --- requests --------------------------------------------------------------------------------

    async def _create_stream(self, request: h11.Request) -> None:
        if not is_web_socket(request.method, request.http_version, request.headers):
            await super()._create_stream(request)
            return
        if self.tunnel_ends is not None:
            await self._create_http_stream(
                request, functools.partial(TunnelStream, open_tunnel=self._open_tunnel)
            )
            return
        headers = [(name, value) for name, value in request.headers if name != NOT_OFFERED]
        self.stream = self.web_socket = WebSocketStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
            limits=self.web_socket_limits,
            render_error=self.render_error,
        )
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=headers,
                http_version=request.http_version.decode(),
                method="GET",
                raw_path=request.target,
                state=self.connection_state,
            )
        )
        if self.ahead and self.web_socket is not None:
            # No frame may come before the answer to the handshake (RFC 6455, 4.1).
            await self.web_socket.handle(Data(stream_id=STREAM_ID, data=b""))
