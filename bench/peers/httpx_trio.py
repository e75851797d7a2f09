"""The plain proxy with our server and httpx on Trio: all as in ours but the client."""

from __future__ import annotations

import trio

from bench.http.engine import serve
from bench.peers.httpx import Proxy


async def run() -> None:
    """Serve until told to stop."""
    proxy = Proxy()
    async with proxy.client:
        await serve(proxy)


if __name__ == "__main__":
    trio.run(run)
