"""Plain connections that somebody else has accepted, and that are to become something else than the
engine speaks: WebSockets. Hypercorn's protocol classes do the talking, as in `front`.
"""

from __future__ import annotations

from typing import Any

import trio
from hypercorn.typing import ASGIFramework

from bulkhead_trio.http.hypercorn._connection import Connection
from bulkhead_trio.http.hypercorn._protocol import ErrorRenderer
from bulkhead_trio.http.hypercorn._residents import Residents
from bulkhead_trio.http.hypercorn._transport import Plain
from bulkhead_trio.http.hypercorn._websocket import WebSocketLimits
from bulkhead_trio.http.hypercorn.front import make_serving
from bulkhead_trio.http.limits import ConnectionLimits


class Handover:
    """Serves plain connections that ask for a WebSocket: what `HTTPServer` hands over.

    Args:
        app: an ASGI 3 application; `lifespan` is not asked of it.
        limits: on connections; how many there are is for whoever accepts them.
        render_error: what to say when a request cannot even be read.
        web_sockets: limits on them.
    """

    def __init__(
        self,
        app: ASGIFramework,
        *,
        limits: ConnectionLimits,
        render_error: ErrorRenderer,
        web_sockets: WebSocketLimits = WebSocketLimits(),  # noqa: B008  frozen
    ) -> None:
        self._serving = make_serving(app, limits, render_error, web_sockets)
        self._residents = Residents()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._residents)

    async def __call__(self, stream: trio.SocketStream, ahead: bytes, client: Any) -> None:
        """Serve one connection to its end; it is closed on the way out.

        Args:
            stream: connected; nobody else touches it any more.
            ahead: all that has been read from it, from the request's first byte on.
            client: the peer's address, as ASGI wants it; ``None``: the socket's.
        """
        try:
            await self._residents.run(Connection(self._serving, Plain(stream, ahead, client)))
        except OSError:
            pass  # gone already
        finally:
            await trio.aclose_forcefully(stream)

    async def close(self) -> None:
        """Close what is idle, say goodbye on WebSockets, and let the rest end."""
        await self._serving.context.terminated.set()
        self._residents.close()
