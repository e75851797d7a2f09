"""One connection: reads with deadlines, writes whole, closes so that the peer can still read."""

from __future__ import annotations

import copy
import math
from typing import Any

import attrs
import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState, LifespanState

from bulkhead_trio.http.hypercorn._exchanges import LOOK_SECONDS, Exchanges
from bulkhead_trio.http.hypercorn._protocol import REASONS, ErrorRenderer
from bulkhead_trio.http.hypercorn._transport import Address, Transport
from bulkhead_trio.http.hypercorn._upgrades import TunnelEnds, UpgradableProtocol
from bulkhead_trio.http.hypercorn._websocket import WebSocketLimits, WebSocketStream
from bulkhead_trio.http.limits import ConnectionLimits

RECEIVE_BYTES = 64 * 1024


@attrs.frozen
class Serving:
    """What all connections of a front have in common."""

    app: AppWrapper
    config: Config
    context: WorkerContext
    limits: ConnectionLimits
    render_error: ErrorRenderer
    web_sockets: WebSocketLimits
    tunnels: bool = False
    state: LifespanState = attrs.field(factory=dict)


class Connection:
    """One connection: reads with deadlines, writes whole, closes so that the peer can read."""

    def __init__(self, serving: Serving, transport: Transport, *, is_crowded: bool = False) -> None:
        self._is_crowded = is_crowded
        self._serving = serving
        self._limits = serving.limits
        self._transport = transport
        self._send_lock = trio.Lock()
        self._reading = trio.CancelScope()
        self._is_closing = False
        self._has_ended = False
        self._linger_until = math.inf
        self._is_first = True
        self._may_resume = False
        self._finished = trio.Event()
        self._phase: tuple[Any, bool] = (h11.IDLE, False)
        self._phase_began = trio.current_time()
        self._tasks = Exchanges(transport.has_gone)
        self._protocol = self._new_protocol()

    @property
    def client(self) -> Address:
        """The peer's address."""
        return self._transport.client

    async def run(self) -> None:
        """Serve requests until the connection ends; where there is no room, say so and close."""
        if self._is_crowded:
            await self._turn_away()
            return
        async with self._tasks:
            await self._read()
            self._has_ended = True
            # What still runs has been told that the connection is over. An application that never
            # listens, and writes on to nobody, would take the loop's time for ever.
            self._tasks.cancel_after(self._limits.linger)

    def _new_protocol(self) -> UpgradableProtocol:
        serving = self._serving
        protocol = UpgradableProtocol(
            serving.app,
            serving.config,
            serving.context,
            self._tasks,
            ConnectionState(copy.copy(serving.state)),
            self._transport.is_tls,
            self._transport.client,
            self._transport.server,
            self._send,
        )
        protocol.render_error = serving.render_error
        protocol.web_socket_limits = serving.web_sockets
        if serving.tunnels:
            protocol.offer_tunnels(TunnelEnds(self._write, self._send_eof))
        return protocol

    async def _turn_away(self) -> None:
        headers, body, status = self._serving.render_error(503, ())
        lines = [
            b"HTTP/1.1 %d %b" % (status, REASONS[status]),
            b"content-length: %d" % len(body),
            b"connection: close",
        ]
        lines += [name + b": " + value for name, value in headers]
        with trio.move_on_after(self._limits.linger):
            await self._transport.send_all(b"\r\n".join([*lines, b"", body]))
            await self._transport.send_eof()
            while await self._transport.receive_some(RECEIVE_BYTES):
                pass  # closed with something unread, the connection would be reset

    def close_if_idle(self) -> None:
        """Close now if no request is under way; otherwise the answer in progress is the last."""
        if self._phase == (h11.IDLE, False):
            self._is_closing = True
            self._linger_until = trio.current_time()
            self._reading.cancel()
        elif self._has_ended:
            return
        elif (web_socket := self._protocol.web_socket) is not None:
            self._tasks.spawn(self._leave, web_socket)
        elif self._protocol.tunnel is not None:
            self._tasks.spawn(self._cut_off)

    async def _leave(self, web_socket: WebSocketStream) -> None:
        await web_socket.leave()
        self._reading.deadline = self._deadline()

    async def _cut_off(self) -> None:
        """End a tunnel, which has no end of its own in sight."""
        await self._finish()
        await self._protocol.handle(Closed())
        self._tasks.cancel_after(self._limits.linger)

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
        if self._may_resume:
            self._may_resume = False
            await self._protocol.resume()
            self._note_phase()
            return True
        if self._protocol.ahead > RECEIVE_BYTES:
            await self._until_finished()  # sent far ahead: not even read before it is its turn
        with trio.CancelScope(deadline=self._deadline()) as self._reading:
            data = await self._transport.receive_some(RECEIVE_BYTES)
        if self._reading.cancelled_caught:
            return await self._overdue()
        if self._is_closing:
            return bool(data)  # lingering: read and forgotten
        if self._phase[0] is h11.MUST_CLOSE and data:
            return True  # sent after what was said to be the last request: nobody will read it
        if not data and self._protocol.tunnel is None:
            await self._answer_half_closed()
        self._is_first = False
        await self._protocol.handle(RawData(bytes(data)))
        self._note_phase()
        if not data and (tunnel := self._protocol.tunnel) is not None:
            await tunnel.has_ended.wait()  # our half of it may go on
        return bool(data)

    async def _until_finished(self) -> None:
        """Wait for the end of what is being answered, or for the peer's, which nobody reads of."""
        finished = self._finished
        while not finished.is_set():
            with trio.move_on_after(LOOK_SECONDS):
                await finished.wait()
            if self._transport.has_gone():
                raise trio.BrokenResourceError

    async def _answer_half_closed(self) -> None:
        """Give what is under way, and what was sent ahead, a moment to be answered."""
        with trio.move_on_after(self._limits.half_closed):
            while self._protocol.is_answering and not self._is_closing:
                await self._finished.wait()
                if self._may_resume:
                    self._may_resume = False
                    await self._protocol.resume()

    def _note_phase(self) -> None:
        phase = (self._protocol.their_state, self._protocol.ahead > 0)
        if phase != self._phase:
            self._phase = phase
            self._phase_began = trio.current_time()

    def _deadline(self) -> float:
        """Until when the peer must say something, given what it is in the middle of."""
        now, began, limits = trio.current_time(), self._phase_began, self._limits
        if self._is_closing:
            return self._linger_until
        if (web_socket := self._protocol.web_socket) is not None:
            return web_socket.deadline
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
        if self._may_resume:
            return True
        if self._is_closing or self._phase == (h11.IDLE, False):
            return False
        if (web_socket := self._protocol.web_socket) is not None:
            await web_socket.overdue()
            return True
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
                self._finished = trio.Event()
                if self._protocol.ahead:
                    self._may_resume = True
                    self._reading.cancel()

    async def _write(self, data: bytes) -> bool:
        """Whether the kernel has taken all of it; otherwise the connection is closed."""
        async with self._send_lock:
            whole = False
            try:
                with trio.move_on_after(self._limits.write):
                    await self._transport.send_all(data)
                    whole = True
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
                pass
            finally:
                if not whole:
                    # Half an answer is on the wire: nothing that follows would make sense.
                    self._transport.abort()
        return whole

    async def _finish(self) -> None:
        """Send our end; the reader then waits a moment for the peer's."""
        if self._is_closing:
            return
        self._is_closing = True
        self._finished.set()
        self._linger_until = trio.current_time() + self._limits.linger
        self._reading.deadline = self._linger_until
        # Shielded: the application's task may call this, and its framework cancels it as soon as
        # the answer is out. Bounded all the same, since whoever holds the lock is writing.
        with trio.CancelScope(shield=True):
            await self._send_eof()

    async def _send_eof(self) -> None:
        async with self._send_lock:
            has_ended = False
            with trio.move_on_after(self._limits.linger):
                try:
                    await self._transport.send_eof()
                    has_ended = True
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass
            if not has_ended:
                self._transport.abort()
