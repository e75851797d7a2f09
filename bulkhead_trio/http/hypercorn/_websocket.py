"""WebSocket: Hypercorn's stream class between frames and ASGI, with bounds on all that it takes.

What Hypercorn 0.18 leaves open, and is closed here: a message that is too long goes on filling
memory; a compressed one can become a thousand times as long (compression is not offered); a peer
that never says anything, and one that pings without end, are served for ever; a broken frame ends
without a close frame; a handshake that is refused has no body.
"""

from __future__ import annotations

from typing import Any

import attrs
import trio
from hypercorn.protocol.events import Body, Data, EndBody, Event, Request, Response, StreamClosed
from hypercorn.protocol.ws_stream import ASGIWebsocketState, WSStream
from hypercorn.typing import ASGISendEvent
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Message, Ping, TextMessage
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError

from bulkhead_trio.http.hypercorn._budget_rules import Budget
from bulkhead_trio.http.hypercorn._protocol import ErrorRenderer

SMALL_BYTES = 1024
"""A piece of a message that is smaller counts as a message of its own."""

VERSION = b"13"

NOBODY_SECONDS = 0.05


@attrs.frozen
class WebSocketLimits:
    """What a WebSocket may take; times in seconds.

    Attributes:
        message_bytes: of one message, all its frames together; more: closed with 1009.
        messages_per_second: taken from the peer, control frames included; beyond, it waits.
        burst: how many of them at once.
        handshake: for the application to accept or refuse.
        ping: between two pings of ours.
        idle: without a sign of life; longer: closed with 1001. As long the application may leave
            messages lying; longer: closed with 1011.
        closing: for the peer to answer our close frame.
    """

    message_bytes: int = 1024 * 1024
    messages_per_second: float = 100.0
    burst: int = 200
    handshake: float = 10.0
    ping: float = 20.0
    idle: float = 60.0
    closing: float = 1.0


class WebSocketStream(WSStream):
    """One WebSocket. Its connection asks `deadline`, and calls `overdue` when that has passed."""

    def __init__(
        self, *args: Any, limits: WebSocketLimits, render_error: ErrorRenderer, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._render_error = render_error
        self._budget = Budget(rate=limits.messages_per_second, burst=limits.burst)
        self._parts: list[Any] = []
        self._size = 0
        self._began = self._heard_at = self._pinged_at = trio.current_time()
        self._closing_by: float | None = None

    async def handle(self, event: Event) -> None:
        """Take the request, bytes of frames, or the news that the connection is over."""
        if isinstance(event, Data):
            if not self.closed:
                await self._take(event.data)
            return
        await super().handle(event)
        if isinstance(event, Request) and self.app_put is None:
            await self.send(StreamClosed(stream_id=self.stream_id))  # refused already

    async def app_send(self, message: ASGISendEvent | None) -> None:
        """As Hypercorn's; when it is over, sending takes a moment."""
        if self.closed and message is not None:
            # Otherwise endless messages to nobody would keep the event loop busy.
            await trio.sleep(NOBODY_SECONDS)
            return
        await super().app_send(message)

    async def _send_wsproto_event(self, event: Any) -> None:
        try:
            data = self.connection.send(event)
        except LocalProtocolError:
            await trio.sleep(NOBODY_SECONDS)  # closed already: as above
        else:
            await self.send(Data(stream_id=self.stream_id, data=data))

    # --- what the peer sends ---------------------------------------------------------------------

    async def _take(self, data: bytes) -> None:
        self._heard_at = trio.current_time()
        if not self.handshake.accepted:
            # No frame may come before the answer to the handshake (RFC 6455, 4.1).
            if self.state is ASGIWebsocketState.HANDSHAKE:
                await self._refuse(400)
            return
        try:
            self.connection.receive_data(data)
        except LocalProtocolError:
            return  # closed from both sides: nothing that follows means anything
        for event in self.connection.events():
            await self._pace(event)
            if isinstance(event, Message):
                await self._add(event)
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, CloseConnection):
                await self._end(event)
            if self.closed:
                return

    async def _pace(self, event: Any) -> None:
        """Wait where the peer sends faster than it may; its socket does the pushing back."""
        is_piece = isinstance(event, Message) and not event.message_finished
        if is_piece and len(event.data) >= SMALL_BYTES:
            return
        if delay := self._budget.charge(trio.current_time()):
            await trio.sleep(delay)

    async def _add(self, event: Message[Any]) -> None:
        if self.state is not ASGIWebsocketState.CONNECTED or self._closing_by is not None:
            return  # our side has said its last; what still comes is for nobody
        is_ascii = not isinstance(event.data, str) or event.data.isascii()
        self._size += len(event.data) if is_ascii else len(event.data.encode())
        if self._size > self._limits.message_bytes:
            self._parts.clear()
            await self._end(CloseConnection(code=CloseReason.MESSAGE_TOO_BIG))
            return
        self._parts.append(event.data)
        if not event.message_finished:
            return
        parts, self._parts, self._size = self._parts, [], 0
        await self._deliver(
            {
                "type": "websocket.receive",
                "bytes": b"".join(parts) if isinstance(event, BytesMessage) else None,
                "text": "".join(parts) if isinstance(event, TextMessage) else None,
            }
        )

    async def _deliver(self, message: dict[str, Any]) -> None:
        if self.app_put is None:
            return
        with trio.move_on_after(self._limits.idle) as scope:
            await self.app_put(message)
        if scope.cancelled_caught:
            # Nobody reads on while the application takes nothing, not even the peer's goodbye.
            await self._end(CloseConnection(code=CloseReason.INTERNAL_ERROR))

    async def _end(self, close: CloseConnection) -> None:
        """Answer the peer's close frame, or tell it what was wrong, and end."""
        if self.connection.state is ConnectionState.REMOTE_CLOSING:
            await self._send_wsproto_event(close.response())
        else:
            await self._send_wsproto_event(close)
        await self.send(StreamClosed(stream_id=self.stream_id))

    # --- time ------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When `overdue` is to be called, if nothing comes before."""
        if self._closing_by is not None:
            return self._closing_by
        if self.state is ASGIWebsocketState.CONNECTED:
            return min(self._heard_at + self._limits.idle, self._pinged_at + self._limits.ping)
        return self._began + self._limits.handshake

    async def overdue(self) -> None:
        """Ping, or end what has been quiet for too long."""
        now = trio.current_time()
        if self._closing_by is not None:
            await self.send(StreamClosed(stream_id=self.stream_id))
        elif self.state is ASGIWebsocketState.HANDSHAKE:
            await self._refuse(500)
        elif self.state is not ASGIWebsocketState.CONNECTED:
            await self.send(StreamClosed(stream_id=self.stream_id))
        elif now >= self._heard_at + self._limits.idle:
            await self._end(CloseConnection(code=CloseReason.GOING_AWAY, reason="idle"))
        elif now >= self._pinged_at + self._limits.ping:
            self._pinged_at = now
            await self._send_wsproto_event(Ping())

    async def leave(self) -> None:
        """Tell the peer that we are going; it has a moment to say goodbye."""
        if self.state is ASGIWebsocketState.CONNECTED and self._closing_by is None:
            self._closing_by = trio.current_time() + self._limits.closing
            await self._send_wsproto_event(CloseConnection(code=CloseReason.GOING_AWAY))

    # --- refusing --------------------------------------------------------------------------------

    async def _refuse(self, status: int) -> None:
        await self._send_error_response(status)
        self.state = ASGIWebsocketState.HTTPCLOSED
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def _send_error_response(self, status_code: int) -> None:
        """As Hypercorn's, with the contract's body; the connection ends with it."""
        request_headers = list(self.scope["headers"])
        headers, body, status = self._render_error(status_code, request_headers)
        headers = [*headers, (b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        if status_code == 400 and self.handshake.version not in (None, VERSION):
            headers.append((b"sec-websocket-version", VERSION))  # RFC 6455, 4.4
        stream_id = self.stream_id
        await self.send(Response(stream_id=stream_id, headers=headers, status_code=status))
        await self.send(Body(stream_id=stream_id, data=body))
        await self.send(EndBody(stream_id=stream_id))
