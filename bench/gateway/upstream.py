"""What the gateway proxies to where nginx is not installed or is too fast: our engine, bare.

Paths that end with ``/slow`` are answered after `SLOW_SECONDS`.
"""

from __future__ import annotations

from typing import Any

import trio

from bench.http.engine import serve
from bench.peers import constant

SLOW_SECONDS = 0.010


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The constant answer, at once or later."""
    if scope["type"] == "http" and scope["raw_path"].endswith(b"/slow"):
        await trio.sleep(SLOW_SECONDS)
    await constant.app(scope, receive, send)


if __name__ == "__main__":
    trio.run(serve, app)
