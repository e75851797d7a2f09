"""Serves an ASGI application with Hypercorn's HTTP/1.1 protocol on Trio sockets.

Hypercorn's protocol classes do the talking; the connection round them is ours, because Hypercorn's
own Trio server has no deadline for a request's head or body, waits for ever for a slow reader, lets
one connection's unexpected error end the whole server, and closes in a way that can destroy the
answer it has just sent. ``docs/http.md`` has the details.
"""

from __future__ import annotations

import logging

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework

from bulkhead_trio.http.hypercorn._connection import Connection, Serving
from bulkhead_trio.http.hypercorn._protocol import ErrorRenderer
from bulkhead_trio.http.hypercorn._residents import Residents
from bulkhead_trio.http.hypercorn._transport import Plain
from bulkhead_trio.http.hypercorn._websocket import WebSocketLimits
from bulkhead_trio.http.limits import ConnectionLimits


class HypercornFront:
    """Accepts connections for one application and owns them until they end.

    Args:
        app: an ASGI 3 application; `lifespan` is not asked of it.
        limits: on connections.
        render_error: what to say when a request cannot even be read.
        web_sockets: limits on what becomes a WebSocket.
        tunnels: whether the application is given a tunnel instead (`bulkhead_trio.http.tunnel`).
    """

    def __init__(
        self,
        app: ASGIFramework,
        *,
        limits: ConnectionLimits,
        render_error: ErrorRenderer,
        web_sockets: WebSocketLimits = WebSocketLimits(),  # noqa: B008  frozen
        tunnels: bool = False,
    ) -> None:
        self._serving = make_serving(app, limits, render_error, web_sockets, tunnels=tunnels)
        self._residents = Residents()
        self._accepting = trio.CancelScope()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._residents)

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
        await self._serving.context.terminated.set()
        self._residents.close()

    async def _handle(self, stream: trio.SocketStream) -> None:
        try:
            transport = Plain(stream)
            has_room = self._residents.has_room(self._serving.limits, transport.client)
            connection = Connection(self._serving, transport, is_crowded=not has_room)
            await self._residents.run(connection)
        except OSError:
            pass  # gone already
        finally:
            await trio.aclose_forcefully(stream)


def make_serving(
    app: ASGIFramework,
    limits: ConnectionLimits,
    render_error: ErrorRenderer,
    web_sockets: WebSocketLimits,
    *,
    tunnels: bool = False,
) -> Serving:
    """What the connections of one front share."""
    config = Config()
    config.errorlog = logging.getLogger("hypercorn.error")
    config.accesslog = None
    config.include_server_header = False
    config.h11_max_incomplete_size = limits.head_bytes
    config.keep_alive_max_requests = 100_000
    return Serving(
        app=ASGIWrapper(app),
        config=config,
        context=WorkerContext(None),
        limits=limits,
        render_error=render_error,
        web_sockets=web_sockets,
        tunnels=tunnels,
    )
