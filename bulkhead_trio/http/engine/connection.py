"""One connection of a server: reads requests one after the other, and has each answered.

The application runs in the connection's own task, so that a request costs no task and no scope. The
connection has one cancel scope for its life: a peer that goes, or a limit that passes, cancels it,
and the application with it. Limits cost no timer: the connection says by when it must have got on,
in ``deadline``, and the server looks at all of them a few times a second.
"""

from __future__ import annotations

import enum
import socket
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, Protocol, TypeAlias

import structlog
import trio

from bulkhead_trio.errors import Rejected
from bulkhead_trio.http.engine._answer_rules import CONTINUE
from bulkhead_trio.http.engine._body_rules import BodyDecoder
from bulkhead_trio.http.engine._head_rules import Head, HeadLimits
from bulkhead_trio.http.engine._reader_rules import RequestReader
from bulkhead_trio.http.engine.errors import ProtocolError
from bulkhead_trio.http.engine.exchange import Exchange
from bulkhead_trio.http.engine.readiness import FINISHED, GONE
from bulkhead_trio.http.limits import ConnectionLimits
from bulkhead_trio.policies.rate import KeyedRateLimiter

Message: TypeAlias = dict[str, Any]
Scope: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = structlog.get_logger("bulkhead_trio.http")

READ_BYTES = 65_536
"""Read at once, and the most that is held of a body that the application has not asked for."""

NEVER = float("inf")

REFUSED_BY = "bulkhead_trio.refused_by"
"""What an application puts into the scope of a request that it has refused: by whom, as a key."""


class Phase(enum.Enum):
    """What a connection is waiting for."""

    IDLE = "a request to begin"
    HEAD = "the rest of a head"
    BODY = "more of a body"
    APPLICATION = "the application"
    WRITE = "the peer to read"
    REFUSED = "its turn to be read again"
    CLOSING = "the peer to close"


class Serving(Protocol):
    """What the connections of one server share."""

    app: ASGIApp
    limits: ConnectionLimits
    head_limits: HeadLimits
    address: tuple[str, int] | None
    is_draining: bool
    refusals: KeyedRateLimiter

    def date_line(self) -> bytes:
        """The ``Date`` line of now."""

    def refusal(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The whole answer to a request that never reaches the application."""


class PeerClosed(Exception):
    """The peer has closed its side where a request might have come."""


class Connection:
    """One client's connection.

    Args:
        serving: what it shares with the server's others.
        sock: connected, not blocking; the connection closes it.
        client: the peer's address, as ASGI wants it.
    """

    __slots__ = (
        "_body_by", "_failure", "_is_readable", "_reader", "_task", "client", "deadline",
        "has_gone", "is_crowded", "is_finished", "phase", "scope", "serving", "sock",
    )  # fmt: skip

    def __init__(
        self, serving: Serving, sock: socket.socket, client: tuple[str, int] | None
    ) -> None:
        self.serving = serving
        self.sock = sock
        self.client = client
        self.scope = trio.CancelScope()
        self.deadline = NEVER
        self.phase = Phase.HEAD
        self.is_crowded = False
        self.is_finished = False
        self.has_gone = False
        self._body_by = NEVER
        self._failure: ProtocolError | None = None
        self._reader = RequestReader(serving.head_limits)
        self._task: trio.lowlevel.Task | None = None
        self._is_readable = False

    # --- its life --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve requests until there are no more; never raises but for cancellation."""
        exchange: Exchange | None = None
        try:
            with self.scope:
                self._allow(self.serving.limits.head)
                while not self.is_crowded:
                    head = await self._next_head()
                    exchange = Exchange(self, head)
                    refused_by = await self._answer(exchange)
                    if not exchange.leaves_open or self.serving.is_draining:
                        break
                    self.phase = Phase.IDLE
                    self._allow(self.serving.limits.idle)
                    if refused_by is not None:
                        self.phase = Phase.REFUSED
                        await self.serving.refusals.acquire(refused_by)
                        self.phase = Phase.IDLE
        except (PeerClosed, Rejected):
            pass  # nobody is there any more; or it would have to wait too long to be read again
        except ProtocolError as error:
            self._failure = error
        except OSError:
            self.has_gone = True  # reset, or the like
        if self._failure is not None:
            await self._refuse(self._failure.status, exchange)
        elif self.scope.cancelled_caught and not self.has_gone:
            await self._refuse(self._status_of_limit(), exchange)
        if self.is_crowded:
            await self._refuse(503, None)
        await self._close()

    async def _answer(self, exchange: Exchange) -> str | None:
        """Have the request answered; says whose refusal it was, where it was refused."""
        self.phase = Phase.APPLICATION
        self.deadline = self._body_by = NEVER
        scope = exchange.asgi_scope()
        try:
            await self.serving.app(scope, exchange.receive, exchange.send)
            exchange.finish()
        except Exception:  # noqa: BLE001  whatever it is, it costs this connection and no other
            _log.exception("application_failed")
            if exchange.has_started:
                raise PeerClosed from None
            raise ProtocolError("the application failed", status=500) from None
        refused_by: str | None = scope.get(REFUSED_BY)
        return refused_by

    def _status_of_limit(self) -> int:
        """What to say to a peer that a limit has cut off; 0 for nothing."""
        if self.phase is Phase.HEAD:
            return 408 if self._reader.has_begun else 0
        return 408 if self.phase is Phase.BODY else 0

    async def _refuse(self, status: int, exchange: Exchange | None) -> None:
        if not status or (exchange is not None and exchange.is_half_way):
            return
        headers = [] if exchange is None or exchange.is_over else exchange.head.headers
        with trio.move_on_after(self.serving.limits.linger):
            try:
                await self.write(self.serving.refusal(status, headers))
            except OSError:
                self.has_gone = True

    async def _close(self) -> None:
        """Say that we are done, and wait a little for the peer, so that it can still read.

        Closing a socket with unread data in it resets the connection, which can take from the peer
        what it has not read yet.
        """
        self.phase = Phase.CLOSING
        if self.has_gone:
            return
        try:
            self.sock.shutdown(socket.SHUT_WR)
            with trio.move_on_after(self.serving.limits.linger):
                while self.sock_recv() != b"":
                    await self._until_readable()
        except OSError:
            return

    def _allow(self, seconds: float) -> None:
        self.deadline = trio.current_time() + seconds

    # --- reading ---------------------------------------------------------------------------------

    async def _next_head(self) -> Head:
        """The next request's head.

        Raises:
            PeerClosed: none comes any more.
            ProtocolError: what comes is none.
        """
        reader = self._reader
        while (head := reader.next_head()) is None:
            data = self.sock_recv()
            if data is None:
                if self.phase is Phase.IDLE and reader.has_begun:
                    self.phase = Phase.HEAD
                    self._allow(self.serving.limits.head)
                await self._until_readable()
            elif data:
                reader.feed(data)
            elif reader.has_begun:
                raise ProtocolError("the connection ended inside a head")
            else:
                raise PeerClosed
        return head

    async def read_body(self, decoder: BodyDecoder) -> bytes:
        """The next piece of a body; ``b""`` only at its end.

        Raises:
            ProtocolError: what comes is no body, or the rest of it does not come.
        """
        while (body := self._reader.next_body(decoder)) is None:
            data = self.sock_recv()
            if data is None:
                self.phase = Phase.BODY
                now = trio.current_time()
                if self._body_by == NEVER:
                    self._body_by = now + self.serving.limits.body
                self.deadline = min(now + self.serving.limits.body_gap, self._body_by)
                await self._until_readable()
                self.phase = Phase.APPLICATION
                self.deadline = NEVER
            elif data:
                self._reader.feed(data)
            else:
                raise ProtocolError("the connection ended inside a body")
        return body

    def skip_body(self, decoder: BodyDecoder) -> None:
        """Pass over what is here already of a body that nobody wants."""
        while not decoder.is_complete and self._reader.next_body(decoder) is not None:
            pass

    def sock_recv(self) -> bytes | None:
        """What has come: ``None`` for nothing yet, ``b""`` for the end."""
        if not self._is_readable:
            return None
        try:
            data = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            self._is_readable = False
            return None
        # A short read has emptied the socket; whatever comes later is news again. But an end that
        # has been announced already will not be announced twice.
        self._is_readable = len(data) == READ_BYTES or self.is_finished
        return data

    async def _until_readable(self) -> None:
        """Park until `on_ready` says that there is something."""
        self._task = trio.lowlevel.current_task()

        def leave(_: object) -> trio.lowlevel.Abort:
            self._task = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)

    async def until_gone(self) -> None:
        """Park until the peer has gone; what it sends meanwhile stays where it is."""
        while not self.is_finished:
            await self._until_readable()

    def on_ready(self, events: int) -> None:
        """The kernel has news of the socket."""
        self._is_readable = True
        if events & GONE:
            self.has_gone = self.is_finished = True
            self.scope.cancel()
        elif events & FINISHED and not self.is_finished:
            self.is_finished = True
            if self.phase in (Phase.APPLICATION, Phase.WRITE, Phase.REFUSED):
                # It has finished sending, or it has gone: from here they look the same. An answer
                # that is nearly ready may still get out.
                self.deadline = trio.current_time() + self.serving.limits.half_closed
        if (task := self._task) is not None:
            self._task = None
            trio.lowlevel.reschedule(task)

    # --- writing ---------------------------------------------------------------------------------

    async def write(self, data: bytes) -> None:
        """Give all of ``data`` to the kernel; waits while the peer does not read.

        Raises:
            OSError: the peer has gone.
        """
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return
        view = memoryview(data)
        before, self.phase = self.phase, Phase.WRITE
        while sent < len(view):
            self._allow(self.serving.limits.write)
            await trio.lowlevel.wait_writable(self.sock)
            try:
                sent += self.sock.send(view[sent:])
            except BlockingIOError:
                continue
        self.phase, self.deadline = before, NEVER

    async def fail(self, error: ProtocolError | OSError) -> NoReturn:
        """End the connection from within the application.

        The application is cancelled rather than given the error: it could not do anything about it,
        and its own nurseries would wrap it beyond recognition.
        """
        if isinstance(error, ProtocolError):
            self._failure = error
        else:
            self.has_gone = True
        self.scope.cancel()
        await trio.sleep_forever()
        raise AssertionError("a cancelled task cannot sleep")

    async def tell_to_go_on(self) -> None:
        """``100 Continue``."""
        await self.write(CONTINUE)
