"""HTTP/1.1 that can become a WebSocket."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import h11
from hypercorn.events import Event, RawData
from hypercorn.protocol.events import Data, Request
from hypercorn.protocol.h11 import STREAM_ID

from bulkhead_trio.http._protocol import HTTP11Protocol
from bulkhead_trio.http._websocket import WebSocketLimits, WebSocketStream

NOT_OFFERED = b"sec-websocket-extensions"
"""Compression: a frame of a few KiB can become many MiB."""


class UpgradableProtocol(HTTP11Protocol):
    """`HTTP11Protocol` that takes ``Upgrade: websocket``, and no other upgrade.

    Attributes:
        web_socket: what the connection has become, if it has.
    """

    web_socket_limits = WebSocketLimits()
    web_socket: WebSocketStream | None = None

    async def handle(self, event: Event) -> None:
        """As before; after an upgrade bytes are frames, and no HTTP any more."""
        if self.web_socket is None or not isinstance(event, RawData):
            await super().handle(event)
        elif event.data:
            await self.web_socket.handle(Data(stream_id=STREAM_ID, data=event.data))

    async def _create_stream(self, request: h11.Request) -> None:
        if not is_web_socket(request.method, request.http_version, request.headers):
            await super()._create_stream(request)
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


def is_web_socket(method: bytes, http_version: bytes, headers: Iterable[tuple[bytes, Any]]) -> bool:
    """Whether a request's head asks for a WebSocket. With a body, it is plain HTTP."""
    if method != b"GET" or http_version != b"1.1":
        return False
    upgrades: list[bytes] = []
    tokens: list[bytes] = []
    for name, value in headers:
        if name == b"upgrade":
            upgrades.append(value.strip().lower())
        elif name == b"connection":
            tokens += [token.strip().lower() for token in value.split(b",")]
        elif name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0")):
            return False
    return upgrades == [b"websocket"] and b"upgrade" in tokens
