"""A client that sees bytes: what exactly comes, and when."""

from __future__ import annotations

import attrs
import trio

from bulkhead_trio.testing.upstream import ScriptedUpstream

GET = b"GET /a?b=%20c HTTP/1.1\r\nHost: u\r\n\r\n"


@attrs.frozen
class Raw:
    """A connection in memory to an upstream."""

    stream: trio.abc.Stream

    async def ask(self, request: bytes = GET) -> bytes:
        """Send a request and say it is all; everything that comes until the end, or 10 s."""
        await self.stream.send_all(request)
        return await self.rest()

    async def rest(self, seconds: float = 10.0) -> bytes:
        """What comes until the connection ends, or so many seconds."""
        got = b""
        with trio.move_on_after(seconds):
            while data := await self.stream.receive_some():
                got += data
        return got

    async def exactly(self, size: int) -> bytes:
        """So many bytes, or what came before the end."""
        got = b""
        with trio.fail_after(10):
            while len(got) < size and (data := await self.stream.receive_some(size - len(got))):
                got += data
        return got

    async def is_ended(self) -> bool:
        """Whether the other side has closed."""
        with trio.move_on_after(1):
            return not await self.stream.receive_some()
        return False


async def raw(upstream: ScriptedUpstream) -> Raw:
    return Raw(await upstream.connect())
