"""A sender of requests in as few lines as it takes."""

from __future__ import annotations

from collections.abc import Mapping

import trio

from bulkhead_trio.testing.receiver import Receiver


def request_bytes(
    target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> bytes:
    """A POST."""
    fields = {"Host": "test", "Content-Length": str(len(body)), **(headers or {})}
    lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def post(
    receiver: Receiver, endpoint: int, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> str:
    """What one request on a connection of its own gets: the answer as text, empty without one."""
    target = f"/e/{endpoint}"
    data = request_bytes(target, body, {**(headers or {}), "Connection": "close"})
    return await exchange(receiver, data)


async def exchange(receiver: Receiver, data: bytes) -> str:
    """Send these bytes and read until the end."""
    answer = b""
    async with await trio.open_tcp_stream("127.0.0.1", receiver.port) as stream:
        await stream.send_all(data)
        try:
            while piece := await stream.receive_some(65_536):
                answer += bytes(piece)
        except trio.BrokenResourceError:
            return ""
    return answer.decode()
