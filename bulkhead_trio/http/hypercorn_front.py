"""Serves an ASGI application with Hypercorn's HTTP/1.1 protocol on Trio sockets.

Hypercorn's protocol classes do the talking; the connection round them is ours, because Hypercorn's
own Trio server has no deadline for a request's head or body, waits for ever for a slow reader, lets
one connection's unexpected error end the whole server, and closes in a way that can destroy the
answer it has just sent. ``docs/http.md`` has the details.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import attrs
import h11
import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState
from hypercorn.utils import parse_socket_addr

_log = structlog.get_logger("bulkhead_trio.http")

RECEIVE_BYTES = 64 * 1024
SPOKEN_VERSIONS = (b"1.0", b"1.1")

_REASONS = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}

ErrorRenderer = Callable[[int], tuple[list[tuple[bytes, bytes]], bytes, int]]
"""Makes headers and body for a status that the protocol itself decided on; may correct it."""


@attrs.frozen
class ConnectionLimits:
    """What one connection may take, and how many there may be; times in seconds.

    Attributes:
        connections: open at the same time; one more is answered 503 and closed.
        head: from the first byte of a request's head to its last.
        body_gap: between two pieces of a body.
        body: from the head's end to the body's.
        idle: between an answer and the next request; the first has to begin within ``head``.
        write: for the peer to take what it is sent.
        linger: after our last byte, for the peer to close; so that it can still read our answer.
        half_closed: for an answer to get out to a peer that has finished sending. From this side
            it looks just like one that has gone, and for those nobody should work much longer.
        head_bytes: of a request's head that is not complete yet.
    """

    connections: int = 4000
    head: float = 10.0
    body_gap: float = 10.0
    body: float = 60.0
    idle: float = 60.0
    write: float = 30.0
    linger: float = 1.0
    half_closed: float = 0.1
    head_bytes: int = 24 * 1024


class HypercornFront:
    """Accepts connections for one application and owns them until they end.

    Args:
        app: an ASGI 3 application; `lifespan` is not asked of it.
        limits: on connections.
        render_error: what to say when a request cannot even be read.
    """

    def __init__(
        self, app: ASGIFramework, *, limits: ConnectionLimits, render_error: ErrorRenderer
    ) -> None:
        self.limits = limits
        self.render_error = render_error
        self.app = ASGIWrapper(app)
        self.context = WorkerContext(None)
        self.config = _hypercorn_config(limits)
        self._connections: set[_Connection] = set()
        self._accepting = trio.CancelScope()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    async def serve(
        self,
        listeners: list[trio.SocketListener],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until `close` has been called and the last connection has ended."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            with self._accepting:
                await trio.serve_listeners(self._handle, listeners, handler_nursery=nursery)
            for listener in listeners:
                await listener.aclose()

    async def close(self) -> None:
        """Accept no more, close what is idle, and let the rest end with its answer."""
        self._accepting.cancel()
        await self.context.terminated.set()
        for connection in list(self._connections):
            connection.close_if_idle()

    async def _handle(self, stream: trio.SocketStream) -> None:
        connection = _Connection(self, stream)
        is_crowded = len(self._connections) >= self.limits.connections
        self._connections.add(connection)
        try:
            if is_crowded:
                await connection.turn_away()
            else:
                await connection.run()
        except* Exception:  # noqa: BLE001
            # One connection's trouble must never be another's: without this net it would end
            # the nursery that all of them live in.
            _log.exception("connection_failed")
        finally:
            self._connections.discard(connection)
            await trio.aclose_forcefully(stream)


def _hypercorn_config(limits: ConnectionLimits) -> Config:
    config = Config()
    config.errorlog = logging.getLogger("hypercorn.error")
    config.accesslog = None
    config.include_server_header = False
    config.h11_max_incomplete_size = limits.head_bytes
    config.keep_alive_max_requests = 100_000
    return config


class _Protocol(H11Protocol):
    """Hypercorn's HTTP/1.1, with our answers to what cannot be read, and without h2c."""

    render_error: ErrorRenderer
    _head: h11.Response | None = None

    @property
    def their_state(self) -> Any:
        return self.connection.their_state

    @property
    def has_partial_head(self) -> bool:
        return bool(self.connection.trailing_data[0])

    async def _check_protocol(self, event: h11.Request) -> None:
        """HTTP/2 on a plain connection is not offered: it would slip past our deadlines."""

    async def _create_stream(self, request: h11.Request) -> None:
        names = [name for name, _ in request.headers]
        # Two lengths, two readings: the classic request smuggling (RFC 9112, 6.3).
        is_ambiguous = b"content-length" in names and b"transfer-encoding" in names
        if is_ambiguous or request.http_version not in SPOKEN_VERSIONS:
            await self._send_error_response(400)
            await self.send(Closed())
            return
        await super()._create_stream(request)

    async def _send_error_response(self, status_code: int) -> None:
        if status_code == 431:
            status_code = self._what_is_too_long()
        headers, body, status_code = self.render_error(status_code)
        common = [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        await self._send_h11_event(
            h11.Response(
                status_code=status_code,
                headers=[*headers, *common, *self.config.response_headers("h11")],
            )
        )
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())

    def _what_is_too_long(self) -> int:
        if self.stream is not None:
            return 400  # not the head any more: the line before a chunk
        is_first_line = b"\n" not in self.connection.trailing_data[0]
        return 414 if is_first_line else 431

    async def _send_h11_event(self, event: Any) -> None:
        """Write a response's head together with what follows it.

        One write for a small answer; and until there is a body, an answer that has been begun can
        still become another one, when the rest of the request turns out to be malformed.
        """
        if isinstance(event, h11.Response):
            self._head = h11.Response(
                status_code=event.status_code,
                headers=event.headers,
                # Optional, but there are clients that cannot read a line without.
                reason=event.reason or _REASONS.get(event.status_code, b"Unknown"),
            )
            return
        head, self._head = self._head, None
        try:
            data = b"" if head is None else self.connection.send(head) or b""
            data += self.connection.send(event) or b""
        except h11.LocalProtocolError:
            if self.their_state is not h11.ERROR:
                raise
        else:
            await self.send(RawData(data=data))

    async def refuse(self, status_code: int) -> None:
        """Answer a request that is not complete, if nothing has been answered yet."""
        if self.connection.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            await self._send_error_response(status_code)
        await self.send(Closed())


class _Connection:
    """One connection: reads with deadlines, writes whole, closes so that the peer can read."""

    def __init__(self, front: HypercornFront, stream: trio.SocketStream) -> None:
        self._front = front
        self._limits = front.limits
        self._stream = stream
        self._send_lock = trio.Lock()
        self._reading = trio.CancelScope()
        self._is_closing = False
        self._is_first = True
        self._finished = trio.Event()
        self._phase: tuple[Any, bool] = (h11.IDLE, False)
        self._phase_began = trio.current_time()
        self._protocol: _Protocol

    async def run(self) -> None:
        """Serve requests until the connection ends."""
        try:
            sock = self._stream.socket
            client = parse_socket_addr(sock.family, sock.getpeername())
            server = parse_socket_addr(sock.family, sock.getsockname())
        except OSError:
            return  # gone already
        async with TaskGroup() as tasks:
            self._protocol = self._new_protocol(tasks, client, server)
            await self._read()

    def _new_protocol(self, tasks: TaskGroup, client: Any, server: Any) -> _Protocol:
        front = self._front
        protocol = _Protocol(
            front.app,
            front.config,
            front.context,
            tasks,
            ConnectionState({}),
            False,
            client,
            server,
            self._send,
        )
        protocol.render_error = front.render_error
        return protocol

    async def turn_away(self) -> None:
        """Say that there is no room, and close."""
        headers, body, status = self._front.render_error(503)
        lines = [
            b"HTTP/1.1 %d %b" % (status, _REASONS[status]),
            b"content-length: %d" % len(body),
            b"connection: close",
        ]
        lines += [name + b": " + value for name, value in headers]
        with trio.move_on_after(self._limits.linger):
            await self._stream.send_all(b"\r\n".join([*lines, b"", body]))
            await self._stream.send_eof()

    def close_if_idle(self) -> None:
        """Close now if no request is under way; otherwise the answer in progress is the last."""
        if self._phase == (h11.IDLE, False):
            self._is_closing = True
            self._reading.cancel()

    # --- reading ---------------------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            while await self._read_once():
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        await self._protocol.handle(Closed())

    async def _read_once(self) -> bool:
        """Handle one piece of what the peer sends; whether to go on."""
        with trio.CancelScope(deadline=self._deadline()) as self._reading:
            data = await self._stream.receive_some(RECEIVE_BYTES)
        if self._reading.cancelled_caught:
            return await self._overdue()
        if self._is_closing:
            return bool(data)  # lingering: read and forgotten
        if not data and self._phase[0] is h11.DONE:
            with trio.move_on_after(self._limits.half_closed):
                await self._finished.wait()
        self._is_first = False
        await self._protocol.handle(RawData(bytes(data)))
        self._note_phase()
        return bool(data)

    def _note_phase(self) -> None:
        phase = (self._protocol.their_state, self._protocol.has_partial_head)
        if phase != self._phase:
            self._phase = phase
            self._phase_began = trio.current_time()

    def _deadline(self) -> float:
        """Until when the peer must say something, given what it is in the middle of."""
        now, began, limits = trio.current_time(), self._phase_began, self._limits
        if self._is_closing:
            return now + limits.linger
        match self._phase:
            case (h11.IDLE, False):
                return began + (limits.head if self._is_first else limits.idle)
            case (h11.IDLE, True):
                return began + limits.head
            case (h11.SEND_BODY, _):
                return min(began + limits.body, now + limits.body_gap)
            case _:
                return math.inf  # our turn: the request's own deadline holds

    async def _overdue(self) -> bool:
        if self._is_closing or self._phase == (h11.IDLE, False):
            return False
        if trio.current_time() >= self._deadline() or self._phase[0] is h11.SEND_BODY:
            await self._protocol.refuse(408)
        return True

    # --- writing ---------------------------------------------------------------------------------

    async def _send(self, event: Event) -> None:
        """What the protocol calls to write, to close, and to say that it is idle."""
        if isinstance(event, RawData):
            if event.data:
                await self._write(event.data)
        elif isinstance(event, Closed):
            await self._finish()
            await self._protocol.handle(Closed())
        elif isinstance(event, Updated):
            self._note_phase()
            # The reader may be waiting under the deadline of the phase before.
            self._reading.deadline = self._deadline()
            if event.idle:
                self._finished.set()

    async def _write(self, data: bytes) -> None:
        async with self._send_lock:
            whole = False
            try:
                with trio.move_on_after(self._limits.write):
                    await self._stream.send_all(data)
                    whole = True
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
                pass
            finally:
                if not whole:
                    # Half an answer is on the wire: nothing that follows would make sense.
                    self._stream.socket.close()

    async def _finish(self) -> None:
        """Send our end; the reader then waits a moment for the peer's."""
        if self._is_closing:
            return
        self._is_closing = True
        self._finished.set()
        self._reading.deadline = trio.current_time() + self._limits.linger
        # Shielded: the application's task may call this, and its framework cancels it as soon as
        # the answer is out. Bounded all the same, since whoever holds the lock is writing.
        with trio.CancelScope(shield=True):
            async with self._send_lock:
                try:
                    await self._stream.send_eof()
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    self._stream.socket.close()
