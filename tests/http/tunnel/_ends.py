"""Fronts of every kind that give tunnels, clients of theirs, and ends that are sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import structlog.testing
import trio

from bulkhead_trio.http.engine.server import HTTPServer
from bulkhead_trio.http.hypercorn.front import HypercornFront
from bulkhead_trio.http.hypercorn.tls import server_context
from bulkhead_trio.http.hypercorn.tls_front import TLSFront
from bulkhead_trio.http.limits import ConnectionLimits
from bulkhead_trio.http.tunnel import TUNNEL, ByteStream

from ..hypercorn._wires import HOST, client_context, render_error, write_pair

FRONTS = ("engine", "hypercorn", "tls")
PLAIN_FRONTS = ("engine", "hypercorn")
SMALL_BUFFER = 8 * 1024
REST_SECONDS = 60.0
LIMITS = ConnectionLimits(head=5.0, idle=7.0, write=6.0, linger=1.0, half_closed=0.1)

UPGRADE = (
    b"GET /chat?x=1 HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\n"
    b"Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
PLAIN = b"GET /plain HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEADERS = [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), (b"X-A", b"b")]

Handle = Callable[[ByteStream], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]


async def answer(send: Any, body: bytes, *, status: int = 200) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@attrs.define
class Application:
    """Opens a tunnel where it is offered one, and keeps account of what becomes of it.

    Attributes:
        handle: what it does with one.
        ended: how its calls have ended.
    """

    handle: Handle
    ended: list[str] = attrs.field(factory=list)
    running: int = 0

    async def __call__(self, scope: Any, _: Any, send: Any) -> None:
        self.running += 1
        try:
            if TUNNEL not in scope["extensions"]:
                await answer(send, b"plain")
            else:
                assert (scope["type"], scope["path"], scope["method"]) == ("http", "/chat", "GET")
                await self.handle(await scope["extensions"][TUNNEL](101, HEADERS))
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise
        else:
            self.ended.append("done")
        finally:
            self.running -= 1


async def echo(stream: ByteStream) -> None:
    """Sends back what comes, until that ends one way or the other."""
    with contextlib.suppress(trio.BrokenResourceError):
        while data := await stream.read_piece():
            await stream.write(data)


@attrs.define
class Front:
    """A front that serves.

    Attributes:
        has_halves: whether a client may finish and still be answered.
    """

    front: HTTPServer | HypercornFront | TLSFront
    address: tuple[str, int]
    scope: trio.CancelScope
    has_halves: bool

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[trio.abc.Stream]:
        """A client's connection, with a small buffer."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        sock.connect(self.address)
        # Else the kernel would hold small pieces back for real time, which the mock clock skips.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        stream: trio.abc.Stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        if isinstance(self.front, TLSFront):
            stream = trio.SSLStream(stream, client_context("http/1.1"), server_hostname=HOST)
        try:
            yield stream
        finally:
            await trio.aclose_forcefully(stream)

    async def wait_at_rest(self) -> None:
        with trio.fail_after(REST_SECONDS):
            while self.front.connections:
                await trio.sleep(0.1)


@asynccontextmanager
async def serving(
    kind: str, app: App, directory: Path, *, logs_mistakes: bool = False, **options: Any
) -> AsyncIterator[Front]:
    """A front of that kind, which has to leave nothing behind, and to log no accident."""
    files = len(os.listdir("/proc/self/fd"))
    options = {"limits": LIMITS, "render_error": render_error, "tunnels": True, **options}
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            sock = listeners[0].socket
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)  # is inherited
            made: HTTPServer | HypercornFront | TLSFront
            if kind == "engine":
                made = HTTPServer(app, **options)
            elif kind == "hypercorn":
                made = HypercornFront(app, **options)
            else:
                made = TLSFront(app, server_context(*write_pair(directory)), **options)
            scope = trio.CancelScope()

            async def serve(task_status: trio.TaskStatus[None]) -> None:
                with scope:
                    await made.serve(listeners, task_status=task_status)

            address = sock.getsockname()[:2]
            await nursery.start(serve)
            yield Front(made, address, scope, has_halves=kind != "tls")
            scope.cancel()
    assert made.connections == 0
    assert len(os.listdir("/proc/self/fd")) == files
    accidents = [log for log in logs if log["log_level"] in ("error", "critical")]
    assert logs_mistakes or not accidents, accidents


async def read_until(stream: trio.abc.Stream, end: bytes) -> bytes:
    said = b""
    while not said.endswith(end):
        piece = await stream.receive_some(1)
        assert piece, said
        said += piece
    return said


async def upgraded(stream: trio.abc.Stream, ahead: bytes = b"") -> bytes:
    """Ask for a tunnel; gives the answer's head."""
    await stream.send_all(UPGRADE + ahead)
    return await read_until(stream, b"\r\n\r\n")


async def read_exactly(stream: trio.abc.Stream, size: int) -> bytes:
    said = b""
    while len(said) < size:
        piece = await stream.receive_some(65_536)
        assert piece, f"ended after {len(said)} bytes of {size}"
        said += piece
    return said


async def read_all(stream: trio.abc.Stream) -> bytes:
    """What comes until the other side has finished."""
    said = b""
    while piece := await stream.receive_some(65_536):
        said += piece
    return said


async def read_what_comes(stream: trio.abc.Stream) -> bytes:
    """What comes until it is over, one way or the other."""
    said = b""
    with contextlib.suppress(trio.BrokenResourceError):
        while piece := await stream.receive_some(65_536):
            said += piece
    return said


def reset(stream: trio.abc.Stream) -> None:
    """End a connection with RST rather than FIN."""
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    assert isinstance(stream, trio.SocketStream)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


class SocketEnd:
    """One end of a tunnel that is a socket of Trio's."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.is_closed = False

    async def read_piece(self) -> bytes:
        return bytes(await self.stream.receive_some(65_536))

    async def write(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def send_eof(self) -> None:
        await self.stream.send_eof()

    async def aclose(self) -> None:
        self.is_closed = True
        await self.stream.aclose()


def socket_ends() -> tuple[SocketEnd, trio.SocketStream]:
    """An end, and whoever is behind it."""
    ours, theirs = trio.socket.socketpair()
    for sock in (ours, theirs):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
    return SocketEnd(trio.SocketStream(ours)), trio.SocketStream(theirs)
