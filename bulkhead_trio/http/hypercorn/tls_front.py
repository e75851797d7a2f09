"""TLS listeners: handshakes, and then HTTP/2 or HTTP/1.1, as the client chooses."""

from __future__ import annotations

import ssl

import trio
from hypercorn.typing import ASGIFramework

from bulkhead_trio.http.hypercorn._connection import Connection
from bulkhead_trio.http.hypercorn._h2_connection import H2Connection
from bulkhead_trio.http.hypercorn._h2_rules import H2Limits
from bulkhead_trio.http.hypercorn._protocol import ErrorRenderer
from bulkhead_trio.http.hypercorn._residents import Resident, Residents
from bulkhead_trio.http.hypercorn._transport import Address, Secured, address_of
from bulkhead_trio.http.hypercorn._websocket import WebSocketLimits
from bulkhead_trio.http.hypercorn.front import make_serving
from bulkhead_trio.http.hypercorn.tls import HandshakeLimits, Handshakes
from bulkhead_trio.http.limits import ConnectionLimits

TOLD = ConnectionLimits(connections=32, connections_per_address=8)
"""How many connections beyond the limits are told so at a time; the rest are closed unheard. Under
TLS telling costs a handshake, which is what a flood is after. One address has its part of that."""


class TLSFront:
    """Accepts TLS connections for one application and owns them until they end.

    Args:
        app: an ASGI 3 application; `lifespan` is not asked of it.
        context: what is offered, from `bulkhead_trio.http.hypercorn.tls.server_context`.
        limits: on connections.
        render_error: what to say when a request cannot even be read.
        handshakes: limits on them.
        http2: limits on a connection that speaks HTTP/2.
        web_sockets: limits on what becomes a WebSocket.
        tunnels: whether the application is given a tunnel instead, over HTTP/1.1
            (`bulkhead_trio.http.tunnel`).
    """

    def __init__(
        self,
        app: ASGIFramework,
        context: ssl.SSLContext,
        *,
        limits: ConnectionLimits,
        render_error: ErrorRenderer,
        handshakes: HandshakeLimits = HandshakeLimits(),  # noqa: B008  frozen
        http2: H2Limits = H2Limits(),  # noqa: B008  frozen
        web_sockets: WebSocketLimits = WebSocketLimits(),  # noqa: B008  frozen
        tunnels: bool = False,
    ) -> None:
        self._serving = make_serving(app, limits, render_error, web_sockets, tunnels=tunnels)
        self._http2 = http2
        self._handshakes = Handshakes(context, handshakes)
        self._residents = Residents()
        self._crowd = Residents()
        self._accepting = trio.CancelScope()

    @property
    def connections(self) -> int:
        """How many are open, those in the middle of a handshake included."""
        return len(self._residents) + len(self._crowd) + len(self._handshakes)

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
                await trio.serve_listeners(self.handle, listeners, handler_nursery=nursery)
            for listener in listeners:
                await listener.aclose()

    async def close(self) -> None:
        """Accept no more, close what is idle, and let the rest end with its answer."""
        self._accepting.cancel()
        await self._serving.context.terminated.set()
        self._residents.close()
        self._crowd.close()

    async def handle(self, stream: trio.SocketStream) -> None:
        """Serve one connection, from its handshake to its end; it is closed on the way out."""
        try:
            if self._place(address_of(stream)) is None:
                return
            if (agreed := await self._handshakes.perform(stream)) is not None:
                secured, protocol = agreed
                place = self._place(secured.client)  # others have come meanwhile
                if place is not None:
                    is_crowded = place is self._crowd
                    await place.run(self._connection(secured, protocol, is_crowded=is_crowded))
        except OSError:
            pass  # gone already
        finally:
            await trio.aclose_forcefully(stream)

    def _place(self, client: Address) -> Residents | None:
        """Where a connection from there belongs; ``None``: it is not even told that it cannot stay.

        Whoever has room is looked at first, so that those who have none cannot be in the way.
        """
        if self._residents.has_room(self._serving.limits, client):
            return self._residents
        return self._crowd if self._crowd.has_room(TOLD, client) else None

    def _connection(self, secured: Secured, protocol: str | None, *, is_crowded: bool) -> Resident:
        if protocol == "h2":
            return H2Connection(self._serving, secured, self._http2, is_crowded=is_crowded)
        return Connection(self._serving, secured, is_crowded=is_crowded)
