"""The server: accepts connections, owns their tasks, and keeps them to their limits."""

from __future__ import annotations

import email.utils
import socket
import time
from collections.abc import Callable

import structlog
import trio

from bulkhead_trio.http.engine._answer_rules import answer_head
from bulkhead_trio.http.engine._head_rules import HeadLimits
from bulkhead_trio.http.engine.connection import ASGIApp, Connection, Phase
from bulkhead_trio.http.engine.readiness import Readiness
from bulkhead_trio.http.limits import ConnectionLimits
from bulkhead_trio.policies.rate import KeyedRateLimiter, LeakyBucket

_log = structlog.get_logger("bulkhead_trio.http")

LOOK_SECONDS = 0.1
"""Between two looks at the connections' limits; so exact they are."""

ACCEPTED_AT_ONCE = 2
"""Connections accepted before anything else gets a turn: each may have a request ready, and whoever
comes with a hundred of them must not make those wait who are here already."""

ErrorRenderer = Callable[
    [int, list[tuple[bytes, bytes]]], tuple[list[tuple[bytes, bytes]], bytes, int]
]
"""Makes headers and body for a status that the engine itself decided on; may correct it.

Its second argument is the request's headers, as far as they could be read."""


class HTTPServer:
    """Serves one ASGI application over HTTP/1.1.

    Args:
        app: an ASGI 3 application.
        limits: on connections.
        render_error: makes the answer to what never reaches the application.
        head_limits: on requests' heads.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: ConnectionLimits,
        render_error: ErrorRenderer,
        head_limits: HeadLimits = HeadLimits(),  # noqa: B008  frozen
    ) -> None:
        self.app = app
        self.limits = limits
        self.head_limits = head_limits
        self._render_error = render_error
        self.address: tuple[str, int] | None = None
        self.is_draining = False
        self._connections: set[Connection] = set()
        self._readiness = Readiness()
        self._accepting = trio.CancelScope()
        self._date = (0, b"")
        # A refused connection is read again in its turn, and its socket does the pushing back.
        self.refusals = KeyedRateLimiter(
            LeakyBucket(rate=limits.refusals_per_second, capacity=limits.connections, pacing=True),
            max_waiting=limits.connections,
            name="refusals",
        )

    def refusal(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The whole answer to a request that never reaches the application."""
        fields, body, status = self._render_error(status, headers)
        framing = [(b"content-length", b"%d" % len(body))]
        head = answer_head(
            status,
            [*fields, *framing],
            date_line=self.date_line(),
            is_to_head=False,
            is_http_11=True,
        )
        return head.wire + b"connection: close\r\n\r\n" + body

    def date_line(self) -> bytes:
        """The ``Date`` line of now, made once a second."""
        now = int(time.time())  # a date is what the wall clock says
        if now != self._date[0]:
            line = b"date: %b\r\n" % email.utils.formatdate(now, usegmt=True).encode("ascii")
            self._date = (now, line)
        return self._date[1]

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
        try:
            async with trio.open_nursery() as own:
                await own.start(self._readiness.run)
                own.start_soon(self._watch_limits)
                async with trio.open_nursery() as connections:
                    await self._listen(listeners, connections, task_status)
                own.cancel_scope.cancel()
        finally:
            self._readiness.close()

    async def _listen(
        self,
        listeners: list[trio.SocketListener],
        connections: trio.Nursery,
        task_status: trio.TaskStatus[None],
    ) -> None:
        try:
            with self._accepting:
                async with trio.open_nursery() as nursery:
                    for listener in listeners:
                        nursery.start_soon(self._accept, listener.socket, connections)
                    task_status.started()
        finally:
            for listener in listeners:
                listener.socket.close()

    async def close(self) -> None:
        """Accept no more, close what is idle, and let the rest end with its answer."""
        self.is_draining = True
        self._accepting.cancel()
        for connection in list(self._connections):
            if connection.phase in (Phase.IDLE, Phase.REFUSED):
                connection.scope.cancel()
        await trio.lowlevel.checkpoint()

    # --- connections -----------------------------------------------------------------------------

    async def _accept(self, listener: trio.socket.SocketType, nursery: trio.Nursery) -> None:
        raw = socket.socket(fileno=socket.dup(listener.fileno()))
        raw.setblocking(False)
        with raw:
            self.address = raw.getsockname()[:2]
            while True:
                await trio.lowlevel.wait_readable(raw)
                for _ in range(ACCEPTED_AT_ONCE):
                    try:
                        sock, address = raw.accept()
                    except BlockingIOError:
                        break
                    self._begin(sock, address[:2], nursery)

    def _begin(self, sock: socket.socket, client: tuple[str, int], nursery: trio.Nursery) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(self, sock, client)
        connection.is_crowded = len(self._connections) >= self.limits.connections
        self._connections.add(connection)
        self._readiness.watch(sock, connection)
        nursery.start_soon(self._own, connection)

    async def _own(self, connection: Connection) -> None:
        try:
            await connection.run()
        except Exception:  # noqa: BLE001
            # One connection's trouble must never be another's: without this net it would end
            # the nursery that all of them live in.
            _log.exception("connection_failed")
        finally:
            self._connections.discard(connection)
            self._readiness.forget(connection.sock)
            connection.sock.close()

    async def _watch_limits(self) -> None:
        while True:
            await trio.sleep(LOOK_SECONDS)
            now = trio.current_time()
            for connection in list(self._connections):
                if connection.deadline <= now:
                    connection.scope.cancel()
