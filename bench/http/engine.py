"""The constant answer from our engine, bare: no edge, no data plane, nothing but HTTP and ASGI."""

from __future__ import annotations

import os
import signal

import trio

from bench.peers.constant import app
from bulkhead_trio.http.engine.connection import ASGIApp
from bulkhead_trio.http.engine.server import HTTPServer
from bulkhead_trio.http.limits import ConnectionLimits

Headers = list[tuple[bytes, bytes]]


def plain_error(status: int, _headers: Headers) -> tuple[Headers, bytes, int]:
    """An empty answer to what cannot be read."""
    return [], b"", status


async def _drain_on_signal(server: HTTPServer) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            await server.close()
            return


async def serve(application: ASGIApp) -> None:
    """Serve ``application`` at ``PORT`` until told to stop."""
    listeners = await trio.open_tcp_listeners(int(os.environ["PORT"]), host="127.0.0.1")
    server = HTTPServer(application, limits=ConnectionLimits(), render_error=plain_error)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_drain_on_signal, server)
        await server.serve(listeners)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(serve, app)
