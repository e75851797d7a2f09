"""One connection of a server: reads requests one after the other, and has each answered.

The application runs in the connection's own task, so that a request costs no task and no scope. The
connection has one cancel scope for its life: a peer that goes, or a limit that passes, cancels it,
and the application with it. Its socket is the `Peer`'s affair.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeAlias

import structlog
import trio

from bulkhead_trio.errors import Rejected
from bulkhead_trio.http.engine._answer_rules import CONTINUE
from bulkhead_trio.http.engine._body_rules import BodyDecoder
from bulkhead_trio.http.engine._head_rules import Head, HeadLimits
from bulkhead_trio.http.engine._reader_rules import RequestReader
from bulkhead_trio.http.engine.errors import AnswerCutOff, ClientGone, ProtocolError
from bulkhead_trio.http.engine.exchange import Exchange
from bulkhead_trio.http.engine.meter import METERED
from bulkhead_trio.http.engine.peer import NEVER, Peer, Phase
from bulkhead_trio.http.engine.readiness import Readiness
from bulkhead_trio.http.engine.tunnel import TunnelExchange, asks_for_tunnel
from bulkhead_trio.http.extensions import ACCOUNT, PARTY, REFUSED
from bulkhead_trio.http.limits import ConnectionLimits
from bulkhead_trio.policies.rate import KeyedRateLimiter

Message: TypeAlias = dict[str, Any]
Scope: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Address: TypeAlias = tuple[str, int | None]

Handover: TypeAlias = Callable[[trio.SocketStream, bytes, Address | None], Awaitable[None]]
"""Takes a connection over: its stream, what has been read of it already, and who the peer is."""

_log = structlog.get_logger("bulkhead_trio.http")

ARRIVALS = ""
"""The account of whoever has not had a request answered yet, and of accepting connections."""

NOBODY = "-"
"""The account of connections whose last request was nobody's: not those that arrive, who would have
to wait behind all of them."""


class Serving(Protocol):
    """What the connections of one server share."""

    app: ASGIApp
    limits: ConnectionLimits
    head_limits: HeadLimits
    is_draining: bool
    date_line: bytes
    next_look: float
    refusals: KeyedRateLimiter | None
    readiness: Readiness
    state: Mapping[str, Any] | None
    handover: Handover | None
    tunnels: bool

    def refusal(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The whole answer to a request that never reaches the application."""


class PeerClosed(Exception):
    """The peer has closed its side where a request might have come."""


class Connection(Peer):
    """One client's connection.

    Args:
        serving: what it shares with the server's others.
        sock: connected, not blocking; the connection closes it.
        client: the peer's address, as ASGI wants it; ``None`` where it has none.
        server: our side's, as ASGI wants it.
    """

    __slots__ = ("_body_by", "_failure", "_reader", "client", "server", "serving")

    def __init__(
        self,
        serving: Serving,
        sock: socket.socket,
        *,
        client: Address | None,
        server: Address | None,
    ) -> None:
        super().__init__(serving.readiness, ARRIVALS, sock, serving.limits)
        self.serving = serving
        self.client = client
        self.server = server
        self._body_by = NEVER
        self._failure: ProtocolError | None = None
        self._reader = RequestReader(serving.head_limits)

    # --- its life --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve requests until there are no more; never raises but for cancellation."""
        METERED.set(self)
        exchange: Exchange | None = None
        try:
            with self.scope:
                self._allow(self.serving.limits.head)
                while True:
                    exchange = None
                    head = await self._next_head()
                    if head.upgrade is None:
                        exchange = Exchange(self, head)
                    elif self._is_to_be_handed_over(head):
                        await self._hand_over(head)
                        return
                    elif self.serving.tunnels and asks_for_tunnel(head):
                        exchange = TunnelExchange(self, head)
                    else:
                        exchange = Exchange(self, head)
                    refused_by = await self._answer(exchange)
                    if not exchange.leaves_open or self.serving.is_draining:
                        self._failure = None  # it was answered before it could be cut off
                        break
                    if refused_by is not None or self._reader.has_begun or self._is_readable:
                        await self._between_requests(refused_by)
                    self.phase = Phase.IDLE
                    self.deadline = self.serving.next_look + self.serving.limits.idle
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
        await self._close()

    async def turn_away(self) -> None:
        """Answer that there are too many, and close."""
        METERED.set(self)
        await self._refuse(503, None)
        await self._close()

    async def _answer(self, exchange: Exchange) -> str | None:
        """Have the request answered; says on whose account, where it was refused."""
        self.phase = Phase.APPLICATION
        self._body_by = NEVER
        self._allow_our_turn()
        scope = exchange.asgi_scope()
        try:
            await self.serving.app(scope, exchange.receive, exchange.send)
            exchange.finish()
        except (AnswerCutOff, ClientGone):
            raise PeerClosed from None
        except Exception:  # noqa: BLE001  whatever it is, it costs this connection and no other
            if self.is_finished and not exchange.is_over:
                raise PeerClosed from None  # it was told so, and gave up
            _log.exception("application_failed")
            if exchange.has_started:
                raise PeerClosed from None
            raise ProtocolError("the application failed", status=500) from None
        name: str = scope.get(ACCOUNT, NOBODY)
        self.move_to(name, scope.get(PARTY, ""))
        return name if REFUSED in scope else None

    async def _between_requests(self, refused_by: str | None) -> None:
        """Wait for what has to come before the next request is looked at."""
        if refused_by is not None and self.serving.refusals is not None:
            self.phase = Phase.REFUSED
            await self.serving.refusals.acquire(refused_by)
        if self._reader.has_begun or self._is_readable:
            # Sent ahead. Whoever does that has no more of the loop than whoever does not.
            self.phase = Phase.TURN
            await self.next_turn()

    # --- another protocol ------------------------------------------------------------------------

    def _is_to_be_handed_over(self, head: Head) -> bool:
        # Without `Connection: upgrade` it is a request like any other, with its turns and limits.
        return (
            self.serving.handover is not None and not self.serving.tunnels and asks_for_tunnel(head)
        )

    async def _hand_over(self, head: Head) -> None:
        """Let another protocol have the connection, from this request's first byte on."""
        handover = self.serving.handover
        assert handover is not None  # noqa: S101  the only caller has asked
        await self.write(b"")
        self.phase = Phase.HANDED_OVER
        self.deadline = NEVER
        self.serving.readiness.forget(self.sock)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(self.sock))
        await handover(stream, head.wire + self._reader.take_rest(), self.client)

    async def become_tunnel(self, wire: bytes, scope: Scope) -> None:
        """Send the head of a 101; from here on, what comes and goes is for the application alone.

        It has no limits but the one for writing, and no end but that of both sides.

        Raises:
            ClientGone: it has, and whoever calls this is not cancelled with the application.
        """
        self.is_tunnel = True
        try:
            await self.write(wire)
        except OSError as error:
            await self.fail(error)
            raise ClientGone from error
        self.phase = Phase.TUNNEL
        self.deadline = NEVER
        self.move_to(scope.get(ACCOUNT, NOBODY), scope.get(PARTY, ""))

    def take_rest(self) -> bytes:
        """What has been read and is no part of any request."""
        return self._reader.take_rest()

    def _status_of_limit(self) -> int:
        """What to say to a peer that a limit has cut off; 0 for nothing."""
        if self.phase is Phase.HEAD:
            return 408 if self._reader.has_begun else 0
        return 408 if self.phase is Phase.BODY else 0

    async def _refuse(self, status: int, exchange: Exchange | None) -> None:
        if not status or (exchange is not None and exchange.has_started):
            return  # one answer a request, whatever comes of its body afterwards
        headers = [] if exchange is None else exchange.head.headers
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
            with trio.move_on_after(self.serving.limits.linger):
                await self.write(b"")
            self.sock.shutdown(socket.SHUT_WR)
            with trio.move_on_after(self.serving.limits.linger):
                while (data := self.sock_recv()) != b"":
                    if data is None:
                        await self.park()
                    else:
                        await self.next_turn()  # there may be more, of which no news will come
        except OSError:
            return

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
                self._sent_on = 0
                await self.park()
                if self._outgoing:
                    await self._send_what_was_left()
            elif data:
                reader.feed(data)
                if self._is_readable:  # it comes faster than it is read
                    await self.next_turn()
            elif reader.has_begun:
                raise ProtocolError("the connection ended inside a head")
            else:
                raise PeerClosed
        return head

    async def _send_what_was_left(self) -> None:
        limits = self.serving.limits
        await self.write(b"")
        self._allow(limits.idle if self.phase is Phase.IDLE else limits.head)

    async def read_body(self, decoder: BodyDecoder) -> bytes:
        """The next piece of a body; ``b""`` only at its end.

        Raises:
            ProtocolError: what comes is no body, or the rest of it does not come.
        """
        is_fast = self._is_readable
        while (body := self._reader.next_body(decoder)) is None:
            if is_fast:  # it comes faster than it is read
                # Not between feeding and reading: the answer may begin here, and take what is read.
                await trio.lowlevel.checkpoint()
            data = self.sock_recv()
            if data is None:
                self.phase = Phase.BODY
                now = trio.current_time()
                if self._body_by == NEVER:
                    self._body_by = now + self.serving.limits.body
                self.deadline = min(now + self.serving.limits.body_gap, self._body_by)
                await self.park()
                self.phase = Phase.APPLICATION
                self._allow_our_turn()
            elif data:
                self._reader.feed(data)
                is_fast = self._is_readable
            else:
                raise ProtocolError("the connection ended inside a body")
        return body

    def body_so_far(self, decoder: BodyDecoder) -> bytes:
        """What of a body has been read from the socket already, all of it.

        Raises:
            ProtocolError: it is none.
        """
        pieces: list[bytes] = []
        while not decoder.is_complete and (piece := self._reader.next_body(decoder)) is not None:
            pieces.append(piece)
        return b"".join(pieces)

    def cut_off(self) -> None:
        """Cancel what is being worked on for it; answered 503, unless an answer has begun."""
        if self.is_tunnel:
            self.scope.cancel()  # it has been answered
        elif self.phase in (Phase.APPLICATION, Phase.BODY, Phase.WRITE):
            self._failure = ProtocolError("the server stops", status=503)
            self.scope.cancel()

    @property
    def has_nothing_to_do(self) -> bool:
        """Whether nothing of a request has come, since the last one was answered or at all."""
        if self.phase is Phase.HEAD:
            return not (self._reader.has_begun or self._is_readable)
        return self.phase in (Phase.IDLE, Phase.REFUSED)

    async def fail(self, error: ProtocolError | OSError) -> None:
        """End the connection from within the application.

        The application is cancelled rather than given the error: it could not do anything about it,
        and its own nurseries would wrap it beyond recognition. This returns only to what is not
        cancelled with it: what it shields, or does in tasks that are others' as well.
        """
        if isinstance(error, ProtocolError):
            self._failure = error
        else:
            self.has_gone = True
        self.scope.cancel()
        await trio.lowlevel.checkpoint()

    async def tell_to_go_on(self) -> None:
        """``100 Continue``."""
        await self.write(CONTINUE)
