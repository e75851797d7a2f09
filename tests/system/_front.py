"""One of the fronts as a process of its own, with an application that says what it was asked.

``python _front.py engine|hypercorn LIMITS`` prints the port that it listens on. The limits are
those of `ConnectionLimits` as JSON. It ends with its standard input.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

import structlog
import trio

from bulkhead_trio.api.edge import unreadable_request
from bulkhead_trio.http.engine.server import HTTPServer
from bulkhead_trio.http.hypercorn.front import HypercornFront
from bulkhead_trio.http.limits import ConnectionLimits

FRONTS = {"engine": HTTPServer, "hypercorn": HypercornFront}


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Says what it was asked; ``/404`` answers without reading, ``/endless`` without end."""
    if scope["path"] == "/404":
        await answer(send, 404, b"nothing")
    elif scope["path"] == "/endless":
        await endless(send)
    else:
        await answer(send, 200, json.dumps(await asked(scope, receive)).encode("ascii"))


async def asked(scope: Any, receive: Any) -> dict[str, Any]:
    """The request, as JSON can hold it."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    query = b"?" + scope["query_string"] if scope["query_string"] else b""
    return {
        "method": scope["method"],
        "target": (scope["raw_path"] + query).decode("latin-1"),
        "body": body.decode("latin-1"),
        "headers": [
            [name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]
        ],
    }


async def answer(send: Any, status: int, body: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def endless(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})


async def main(name: str, limits: ConnectionLimits) -> None:
    """Serve until standard input ends."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    front = FRONTS[name](application, limits=limits, render_error=unreadable_request)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=4096)
    async with trio.open_nursery() as nursery:
        await nursery.start(front.serve, listeners)
        print(listeners[0].socket.getsockname()[1], flush=True)
        await trio.lowlevel.wait_readable(sys.stdin)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    trio.run(main, sys.argv[1], ConnectionLimits(**json.loads(sys.argv[2])))
