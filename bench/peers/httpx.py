"""A plain proxy as an ASGI application over httpx, for either loop."""

from __future__ import annotations

import os
from typing import Any

import httpx

from bench.peers.hops import end_to_end


class Proxy:
    """Sends every request to ``UPSTREAM`` and streams its answer back."""

    def __init__(self) -> None:
        self._upstream = os.environ["UPSTREAM"]
        connections = int(os.environ["UPSTREAM_CONNECTIONS"])
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self.client = httpx.AsyncClient(limits=limits, trust_env=False)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """The ASGI entry."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        query = scope["query_string"].decode("ascii")
        url = self._upstream + scope["raw_path"].decode("ascii") + (f"?{query}" if query else "")
        request = self.client.build_request(
            scope["method"],
            url,
            headers=end_to_end(scope["headers"]),
            content=await _body(receive),
        )
        answer = await self.client.send(request, stream=True)
        try:
            await send(
                {
                    "type": "http.response.start",
                    "status": answer.status_code,
                    "headers": end_to_end((k.lower(), v) for k, v in answer.headers.raw),
                }
            )
            async for piece in answer.aiter_raw():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await answer.aclose()

    async def _live(self, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await self.client.aclose()
        await send({"type": "lifespan.shutdown.complete"})


async def _body(receive: Any) -> bytes:
    pieces = []
    while True:
        message = await receive()
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(pieces)
