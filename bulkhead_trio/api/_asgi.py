"""ASGI's shapes, and an answer as its messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from bulkhead_trio.api.messages import Response

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


DECLARED_LENGTH = "bulkhead_trio.declared_length"
"""In a scope: what the request says of its body's length, in bytes; 0 where it says nothing."""

EXCHANGE = "bulkhead_trio.exchange"
"""In a scope: what the outermost layer knows of the request and its answer."""


def headers_of(response: Response) -> list[tuple[bytes, bytes]]:
    """An answer's own headers, as ASGI wants them."""
    headers = [
        (b"content-type", response.content_type.encode("ascii")),
        (b"content-length", b"%d" % len(response.body)),
    ]
    headers += response.headers
    return headers


async def send_response(send: Send, response: Response, *, closes: bool = False) -> None:
    """Send a whole answer by the two messages that every server takes.

    Args:
        send: ASGI's.
        response: the answer.
        closes: whether the connection is to end with it.
    """
    headers = headers_of(response)
    if closes:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})
