"""One HTTP/2 connection: reads with deadlines, writes whole, closes so that the peer can read."""

from __future__ import annotations

import copy
import math

import trio
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.typing import ConnectionState

from bulkhead_trio.http.hypercorn._connection import Serving
from bulkhead_trio.http.hypercorn._h2_protocol import GuardedH2Protocol
from bulkhead_trio.http.hypercorn._h2_rules import H2Limits, goaway
from bulkhead_trio.http.hypercorn._h2_streams import H2Exchanges
from bulkhead_trio.http.hypercorn._transport import RECEIVE_BYTES, Address, Transport

SETTINGS = b"\0\0\0\4\0\0\0\0\0"
"""The empty settings with which a server has to begin (RFC 9113, 3.4)."""


class H2Connection:
    """Serves one connection on which HTTP/2 was negotiated.

    Args:
        serving: what it shares with its front's others.
        transport: its bytes.
        limits: on what the peer may do with it.
        is_crowded: there is no room for it; it is only told so.
    """

    def __init__(
        self,
        serving: Serving,
        transport: Transport,
        limits: H2Limits,
        *,
        is_crowded: bool = False,
    ) -> None:
        self._limits = serving.limits
        self._transport = transport
        self._is_crowded = is_crowded
        self._send_lock = trio.Lock()
        self._reading = trio.CancelScope()
        self._is_closing = False
        self._linger_until = math.inf
        self._is_leaving = False
        self._is_first = True
        self._idle_since = trio.current_time()
        self._tasks = H2Exchanges()
        self._protocol = GuardedH2Protocol(
            serving.app,
            serving.config,
            serving.context,
            self._tasks,
            ConnectionState(copy.copy(serving.state)),
            transport.is_tls,
            transport.client,
            transport.server,
            self._send,
            limits=limits,
            connection_limits=serving.limits,
            render_error=serving.render_error,
        )

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
            await self._protocol.initiate()
            if self._is_leaving:
                await self._protocol.leave()
            await self._read()
            self._is_leaving = True
            # Whoever still runs has been told that the connection is over, or was cancelled.
            self._tasks.cancel_after(self._limits.linger)

    async def _turn_away(self) -> None:
        # Nothing was looked at: all of it can safely be sent again, elsewhere.
        with trio.move_on_after(self._limits.linger):
            await self._transport.send_all(SETTINGS + goaway(0))
            await self._transport.send_eof()
            while await self._transport.receive_some(RECEIVE_BYTES):
                pass  # closed with something unread, the connection would be reset

    def close_if_idle(self) -> None:
        """Take no more requests; the connection ends with the last answer."""
        if not self._is_leaving and not self._is_crowded:
            self._is_leaving = True
            if self._tasks.is_running:
                self._tasks.spawn(self._protocol.leave)

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
            data = await self._transport.receive_some(RECEIVE_BYTES)
        if self._reading.cancelled_caught:
            return await self._overdue()
        if not data or self._is_closing:
            return bool(data)  # what comes after our end is read and forgotten
        await self._protocol.handle(RawData(data))
        return True

    def _deadline(self) -> float:
        """Until when the peer must say something, given what it is in the middle of."""
        if self._is_closing:
            return self._linger_until
        if self._protocol.streams:
            return self._protocol.waits_until
        return self._idle_since + (self._limits.head if self._is_first else self._limits.idle)

    async def _overdue(self) -> bool:
        if self._is_closing:
            return False
        if self._protocol.streams:
            self._protocol.give_up_overdue()
        elif trio.current_time() >= self._deadline():
            await self._protocol.leave()
            await self._send(Closed())
        return True

    # --- writing ---------------------------------------------------------------------------------

    async def _send(self, event: Event) -> None:
        """What the protocol calls to write, to close, and to say what it is doing."""
        if isinstance(event, RawData):
            if event.data:
                await self._write(event.data)
        elif isinstance(event, Closed):
            await self._finish()
            await self._protocol.handle(Closed())
        elif isinstance(event, Updated):
            self._is_first = False
            if event.idle:
                self._idle_since = trio.current_time()
            # The reader may be waiting under the deadline of before.
            self._reading.deadline = self._deadline()

    async def _write(self, data: bytes) -> None:
        # Shielded, since it is everybody's: one request that is cancelled in the middle of a frame
        # would take all the others with it.
        with trio.CancelScope(shield=True):
            async with self._send_lock:
                whole = False
                with trio.move_on_after(self._limits.write):
                    try:
                        await self._transport.send_all(data)
                        whole = True
                    except (trio.BrokenResourceError, trio.ClosedResourceError):
                        pass
                if not whole:
                    self._transport.abort()

    async def _finish(self) -> None:
        """Send our end; the reader then waits a moment for the peer's."""
        if self._is_closing:
            return
        self._is_closing = True
        self._linger_until = trio.current_time() + self._limits.linger
        self._reading.deadline = self._linger_until
        with trio.CancelScope(shield=True):
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
