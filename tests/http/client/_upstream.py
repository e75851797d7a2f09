"""An upstream that does as it is told: one function a connection, on a real socket."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import attrs
import h11
import trio
import trio.testing

from bulkhead_trio.http.client import HTTPClient


@attrs.frozen
class Request:
    """What the upstream was asked, as h11 reads it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Talk:
    """One connection, from the upstream's side."""

    def __init__(self, stream: trio.abc.Stream, number: int) -> None:
        self.stream = stream
        self.number = number
        self._h11 = h11.Connection(h11.SERVER)

    async def request(self) -> Request | None:
        """The next request with all of its body; ``None`` where there is none."""
        head = await self.head()
        return None if head is None else attrs.evolve(head, body=await self.body())

    async def head(self) -> Request | None:
        """The next request's head."""
        if self._h11.their_state is h11.DONE:
            # What was answered in raw bytes h11 has not seen.
            rest = self._h11.trailing_data[0]
            self._h11 = h11.Connection(h11.SERVER)
            if rest:
                self._h11.receive_data(rest)
        event = await self._event()
        if not isinstance(event, h11.Request):
            return None
        headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
        return Request(event.method.decode(), event.target.decode(), headers, b"")

    async def body(self) -> bytes:
        """The rest of that request."""
        body = b""
        while isinstance(event := await self._event(), h11.Data):
            body += bytes(event.data)
        assert isinstance(event, h11.EndOfMessage), event
        return body

    async def _event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            try:
                data = await self.stream.receive_some()
            except trio.BrokenResourceError:
                data = b""
            if not data and self._h11.their_state is not h11.IDLE:
                raise EOFError
            self._h11.receive_data(data)
        return event

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    def reset(self) -> None:
        """End the connection with RST rather than FIN."""
        assert isinstance(self.stream, trio.SocketStream)
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.stream.socket.close()


Behaviour = Callable[[Talk], Awaitable[None]]


@attrs.define
class Upstream:
    """Where it listens, and how many connections it has had."""

    url: str
    port: int
    connections: int = 0


@asynccontextmanager
async def upstream(
    behaviour: Behaviour, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Upstream]:
    """Serve ``behaviour`` for as long as the block lasts; each connection ends when it returns."""
    (listener,) = await trio.open_tcp_listeners(0, host=host)
    port = listener.socket.getsockname()[1]
    scheme = "http" if tls is None else "https"
    there = Upstream(f"{scheme}://localhost:{port}", port)

    async def serve(stream: trio.SocketStream) -> None:
        there.connections += 1
        encrypted = stream if tls is None else trio.SSLStream(stream, tls, server_side=True)
        try:
            await behaviour(Talk(encrypted, there.connections))
        except (trio.BrokenResourceError, trio.ClosedResourceError, EOFError):
            pass  # the client has gone
        finally:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(encrypted)

    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, serve, [listener])
        try:
            yield there
        finally:
            nursery.cancel_scope.cancel()


def answering(*answers: bytes) -> Behaviour:
    """Answers one request after the other with these bytes, and each that follows with the last."""

    async def behave(talk: Talk) -> None:
        number = 0
        while await talk.request() is not None:
            await talk.send(answers[min(number, len(answers) - 1)])
            number += 1

    return behave


def ok(body: bytes = b"hello", *lines: bytes) -> bytes:
    """A whole answer."""
    head = [b"HTTP/1.1 200 OK", b"content-length: %d" % len(body), *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


async def to_loopback(host: str, port: int) -> list[str]:
    """Everything is here; no thread asks the system, so that a mock clock may jump."""
    return ["127.0.0.1"]


def assert_at_rest(client: HTTPClient) -> None:
    """Nobody has or wants a connection of the client; whatever is open is kept for the next."""
    statistics = client.statistics()
    assert statistics.connections == statistics.idle
    for origin in statistics.origins.values():
        assert (origin.active, origin.waiting) == (0, 0)
    assert sum(origin.idle for origin in statistics.origins.values()) == statistics.idle


async def settled() -> None:
    """Wait until everything that is under way between sockets has come through."""
    await trio.testing.wait_all_tasks_blocked(0.02)


async def pieces_of_bytes(body: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    """A body in pieces."""
    for at in range(0, len(body), size):
        yield body[at : at + size]
