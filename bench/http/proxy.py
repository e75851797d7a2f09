"""The plain proxy with our server and our client: bodies stream both ways, nothing else is done."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from typing import Any

import trio

from bench.http.engine import serve
from bench.peers.hops import Header, end_to_end
from bulkhead_trio.http.client import ClientLimits, HTTPClient


class Proxy:
    """Sends every request to ``UPSTREAM`` and streams its answer back."""

    def __init__(self, client: HTTPClient, upstream: str) -> None:
        self._client = client
        self._upstream = upstream

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """The ASGI entry."""
        if scope["type"] != "http":
            return
        query: bytes = scope["query_string"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
        headers = scope["headers"]
        exchange = self._client.request(
            scope["method"],
            self._upstream,
            headers=end_to_end(headers),
            content=_pieces(receive) if _has_body(headers) else None,
            target=target,
        )
        async with exchange as answer:
            await send(
                {
                    "type": "http.response.start",
                    "status": answer.status,
                    "headers": end_to_end(answer.headers),
                }
            )
            while True:
                piece = await answer.read_piece()
                has_more = not answer.is_complete
                await send({"type": "http.response.body", "body": piece, "more_body": has_more})
                if not has_more:
                    return


def _has_body(headers: Iterable[Header]) -> bool:
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in headers)


async def _pieces(receive: Any) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


async def run() -> None:
    """Serve until told to stop."""
    limits = ClientLimits(connections=int(os.environ["UPSTREAM_CONNECTIONS"]))
    async with HTTPClient(limits) as client:
        await serve(Proxy(client, os.environ["UPSTREAM"]))


if __name__ == "__main__":
    trio.run(run)
