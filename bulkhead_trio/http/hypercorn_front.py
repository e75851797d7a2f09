"""Serves an ASGI application with Hypercorn's HTTP/1.1 protocol on Trio sockets.

Hypercorn's protocol classes do the talking; the connection round them is ours, because Hypercorn's
own Trio server has no deadline for a request's head or body, waits for ever for a slow reader, lets
one connection's unexpected error end the whole server, and closes in a way that can destroy the
answer it has just sent. ``docs/http.md`` has the details.
"""

from __future__ import annotations

import logging

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework

from bulkhead_trio.http._connection import Connection, Serving
from bulkhead_trio.http._protocol import ErrorRenderer
from bulkhead_trio.http.limits import ConnectionLimits

_log = structlog.get_logger("bulkhead_trio.http")


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
        self._serving = Serving(
            app=ASGIWrapper(app),
            config=_hypercorn_config(limits),
            context=WorkerContext(None),
            limits=limits,
            render_error=render_error,
        )
        self._connections: set[Connection] = set()
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
        await self._serving.context.terminated.set()
        for connection in list(self._connections):
            connection.close_if_idle()

    async def _handle(self, stream: trio.SocketStream) -> None:
        connection = Connection(self._serving, stream)
        is_crowded = len(self._connections) >= self._serving.limits.connections
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
