"""The server: owns the connections' tasks, keeps them to their limits, shares the loop out."""

from __future__ import annotations

import email.utils
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import structlog
import trio

from bulkhead_trio.http.engine._answer_rules import answer_head
from bulkhead_trio.http.engine._head_rules import HeadLimits
from bulkhead_trio.http.engine.acceptor import Acceptor
from bulkhead_trio.http.engine.connection import (
    Address,
    ASGIApp,
    Connection,
    Handover,
)
from bulkhead_trio.http.engine.readiness import Readiness
from bulkhead_trio.http.limits import ConnectionLimits
from bulkhead_trio.policies.rate import KeyedRateLimiter, LeakyBucket

_log = structlog.get_logger("bulkhead_trio.http")

LOOK_SECONDS = 0.1
"""Between two looks at the connections' limits; so exact they are."""

LAG_GENERATION_SECONDS = 10.0

ErrorRenderer = Callable[
    [int, list[tuple[bytes, bytes]]], tuple[list[tuple[bytes, bytes]], bytes, int]
]
"""Makes headers and body for a status that the engine itself decided on; may correct it.

Its second argument is the request's headers, as far as they could be read."""


@attrs.frozen
class ServerStatistics:
    """What a server holds at one moment, and has measured since it was made; times in seconds.

    Attributes:
        connections: open ones, by what they wait for (`Phase`'s names in lower case).
        parked: of them, those of refused requests that wait for their turn to be read again.
        loop_seconds: loop time by account; ``""`` is that of accepting connections, and of those
            that have not had a request answered yet.
        loop_lag: how much later than it should have come a timer came last.
        worst_loop_lag: the same, the worst of the last ten to twenty seconds.
    """

    connections: Mapping[str, int]
    parked: int
    loop_seconds: Mapping[str, float]
    loop_lag: float
    worst_loop_lag: float


class HTTPServer:
    """Serves one ASGI application over HTTP/1.1.

    Args:
        app: an ASGI 3 application; `bulkhead_trio.http.lifespan` does the rest of its life.
        limits: on connections.
        render_error: makes the answer to what never reaches the application.
        head_limits: on requests' heads.
        state: what the application's lifespan has left for its requests.
        handover: gets connections whose client wants to speak WebSocket; ``None``: they are served
            as plain HTTP, which is what a server does that does not know an upgrade.
        tunnels: whether requests for a WebSocket are the application's own to answer, by a tunnel
            (`bulkhead_trio.http.tunnel.TUNNEL`) or as any other; nothing is handed over then.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: ConnectionLimits,
        render_error: ErrorRenderer,
        head_limits: HeadLimits = HeadLimits(),  # noqa: B008  frozen
        state: Mapping[str, Any] | None = None,
        handover: Handover | None = None,
        tunnels: bool = False,
    ) -> None:
        self.app = app
        self.limits = limits
        self.head_limits = head_limits
        self.state = state
        self.handover = handover
        self.tunnels = tunnels
        self.readiness = Readiness()
        self.is_draining = False
        self.next_look = trio.current_time()
        self._render_error = render_error
        self._connections: set[Connection] = set()
        self._by_address: Counter[str] = Counter()
        self._accepting = trio.CancelScope()
        self._dated = 0
        self.date_line = b""
        self._tell_the_date()
        self._lag = _Lag()
        # A refused connection is read again in its turn, and its socket does the pushing back.
        self.refusals = _refusal_pace(limits)

    def refusal(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The whole answer to a request that never reaches the application."""
        fields, body, status = self._render_error(status, headers)
        framing = [(b"content-length", b"%d" % len(body))]
        head = answer_head(
            status,
            [*fields, *framing],
            date_line=self.date_line,
            is_to_head=False,
            is_http_11=True,
        )
        return head.wire + b"connection: close\r\n\r\n" + body

    def _tell_the_date(self) -> None:
        """Make the ``Date`` line again, where another second has begun."""
        now = int(time.time())  # a date is what the wall clock says
        if now != self._dated:
            self._dated = now
            date = email.utils.formatdate(now, usegmt=True).encode("ascii")
            self.date_line = b"date: %b\r\n" % date

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    def statistics(self) -> ServerStatistics:
        """What the server holds now."""
        phases = Counter(connection.phase.name.lower() for connection in self._connections)
        return ServerStatistics(
            connections=dict(phases),
            parked=phases["refused"],
            loop_seconds=self.readiness.turns.spent(),
            loop_lag=self._lag.last,
            worst_loop_lag=self._lag.worst,
        )

    async def serve(
        self,
        listeners: list[trio.SocketListener],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until `close` has been called and the last connection has ended."""
        try:
            async with trio.open_nursery() as own:
                await own.start(self.readiness.run)
                own.start_soon(self._watch_limits)
                async with trio.open_nursery() as connections:
                    await self._listen(listeners, connections, task_status)
                own.cancel_scope.cancel()
        finally:
            self.readiness.close()

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
                        acceptor = self._acceptor(listener.socket, connections)
                        nursery.start_soon(acceptor.run)
                    task_status.started()
        finally:
            for listener in listeners:
                listener.socket.close()

    def cut_off(self, render: ErrorRenderer) -> None:
        """Cancel what is being worked on still; it is answered what ``render`` makes of 503."""
        self._render_error = render
        for connection in list(self._connections):
            connection.cut_off()

    async def close(self) -> None:
        """Accept no more, close what is idle, and let the rest end with its answer.

        Tunnels have had theirs, and no end of their own in sight: they are cut off.
        """
        self.is_draining = True
        self._accepting.cancel()
        for connection in list(self._connections):
            if connection.is_tunnel or connection.has_nothing_to_do:
                connection.scope.cancel()
        await trio.lowlevel.checkpoint()

    # --- connections -----------------------------------------------------------------------------

    def _acceptor(self, listener: trio.socket.SocketType, nursery: trio.Nursery) -> Acceptor:
        def begin(sock: socket.socket, client: Address | None, server: Address | None) -> None:
            sock.setblocking(False)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(self, sock, client=client, server=server)
            nursery.start_soon(self._own, connection, self._is_crowded(client))
            # From here on, not when its task begins: others may come before that.
            self._connections.add(connection)
            if client is not None:
                self._by_address[client[0]] += 1

        return Acceptor(listener.fileno(), self.readiness, begin)

    def _is_crowded(self, client: Address | None) -> bool:
        """Whether one more connection is too many, altogether or for that client's address."""
        if len(self._connections) >= self.limits.connections:
            return True
        most = self.limits.connections_per_address
        return client is not None and self._by_address[client[0]] >= most

    async def _own(self, connection: Connection, is_crowded: bool) -> None:
        try:
            self.readiness.watch(connection.sock, connection)
            if is_crowded:
                await connection.turn_away()
            else:
                await connection.run()
        except Exception:  # noqa: BLE001
            # One connection's trouble must never be another's: without this net it would end
            # the nursery that all of them live in.
            _log.exception("connection_failed")
        finally:
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if connection.client is not None:
            address = connection.client[0]
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]
        if connection.sock.fileno() >= 0:  # what it was handed over to may have closed it
            connection.send_waiting()
            self.readiness.forget(connection.sock)
            connection.sock.close()

    async def _watch_limits(self) -> None:
        while True:
            self.next_look = due = trio.current_time() + LOOK_SECONDS
            await trio.sleep_until(due)
            now = trio.current_time()
            self._tell_the_date()
            self._lag.observe(now - due, now)
            for connection in list(self._connections):
                if connection.deadline <= now:
                    connection.scope.cancel()


class _Lag:
    """How late timers come: the last one, and the worst one lately."""

    def __init__(self) -> None:
        self.last = 0.0
        self._worst = (0.0, 0.0)
        self._began = trio.current_time()

    @property
    def worst(self) -> float:
        return max(self._worst)

    def observe(self, seconds: float, now: float) -> None:
        self.last = seconds
        current, previous = self._worst
        if now - self._began >= LAG_GENERATION_SECONDS:
            current, previous, self._began = 0.0, current, now
        self._worst = (max(current, seconds), previous)


def _refusal_pace(limits: ConnectionLimits) -> KeyedRateLimiter | None:
    if limits.refusals_per_second is None:
        return None
    return KeyedRateLimiter(
        LeakyBucket(rate=limits.refusals_per_second, capacity=limits.connections, pacing=True),
        max_waiting=limits.connections,
        name="refusals",
    )
