"""Each front in this process, with limits short enough to watch: connections end, and end well."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from bulkhead_trio.api.drain import DrainGate
from bulkhead_trio.api.edge import Edge, RequestLimits, unreadable_request
from bulkhead_trio.http.engine.server import HTTPServer
from bulkhead_trio.http.hypercorn.front import HypercornFront
from bulkhead_trio.http.limits import ConnectionLimits

SHORT = ConnectionLimits(
    connections=4,
    head=0.3,
    body_gap=0.2,
    body=0.6,
    idle=0.4,
    write=0.5,
    linger=0.3,
    half_closed=0.2,
)
HEAD = b"GET / HTTP/1.1\r\nHost: test\r\n"
SMALL = {"type": "http.response.body", "body": b"answer"}


async def answering(scope: Any, receive: Any, send: Any) -> None:
    """Answers at once, without reading."""
    headers = [(b"content-length", b"6")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send(SMALL)


async def flooding(scope: Any, receive: Any, send: Any) -> None:
    """Answers with more than any socket holds."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(1000):
        await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def brooding(scope: Any, receive: Any, send: Any) -> None:
    """Answers 0.1 s later."""
    await trio.sleep(0.1)
    await answering(scope, receive, send)


@attrs.frozen
class Served:
    """A front and where it listens."""

    front: HypercornFront | HTTPServer
    port: int

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def wait_empty(self, seconds: float = 3.0) -> None:
        with trio.fail_after(seconds):
            while self.front.connections:
                await trio.sleep(0.01)


FRONTS = {"engine": HTTPServer, "hypercorn": HypercornFront}
chosen: ContextVar[str] = ContextVar("chosen")


@pytest.fixture(params=FRONTS, autouse=True)
def front(request: pytest.FixtureRequest) -> None:
    """Every test runs once a front."""
    chosen.set(request.param)


@asynccontextmanager
async def serving(app: Any, **limits: Any) -> AsyncIterator[Served]:
    edge: Any = Edge(app, gate=DrainGate(), limits=RequestLimits(), listener="public")
    front = FRONTS[chosen.get()](
        edge, limits=attrs.evolve(SHORT, **limits), render_error=unreadable_request
    )
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(front.serve, listeners)
            yield Served(front, listeners[0].socket.getsockname()[1])
            nursery.cancel_scope.cancel()


async def everything(stream: trio.SocketStream) -> bytes:
    said = b""
    with trio.fail_after(5):
        try:
            while piece := await stream.receive_some():
                said += piece
        except trio.BrokenResourceError:
            pass
    return said


async def test_connection_that_says_nothing_ends() -> None:
    """Without a byte, in the middle of a head, after an answer: each within its limit."""
    async with serving(answering) as served:
        for beginning, status in ((b"", None), (HEAD, 408), (HEAD + b"\r\n", 200)):
            stream = await served.connect()
            if beginning:
                await stream.send_all(beginning)
            began = trio.current_time()
            said = await everything(stream)
            assert trio.current_time() - began < 1.5
            assert (int(said.split()[1]) if said else None) == status
            await stream.aclose()
        await served.wait_empty()


async def test_connection_that_drips_its_body_ends() -> None:
    """A byte at a time keeps within the gap, not within the whole."""

    async def reading(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] == "http.request":
            pass

    async with serving(reading) as served, await served.connect() as stream:
        await stream.send_all(HEAD + b"Content-Length: 1000\r\n\r\n")
        began = trio.current_time()

        async def drip() -> None:
            try:
                while True:
                    await stream.send_all(b"x")
                    await trio.sleep(0.1)
            except trio.BrokenResourceError:
                pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            assert (await everything(stream)).split()[1] == b"408"
            nursery.cancel_scope.cancel()
        assert 0.4 < trio.current_time() - began < 2.0


async def test_connection_that_reads_nothing_ends() -> None:
    """A peer that takes nothing of its answer is given up after the write limit."""
    async with serving(flooding) as served:
        stream = await served.connect()
        await stream.send_all(HEAD + b"\r\n")
        await trio.sleep(0.1)
        assert served.front.connections == 1
        await served.wait_empty()
        await stream.aclose()


async def test_connection_lingers_once() -> None:
    """A refused peer that goes on sending does not renew the moment it is given."""
    async with serving(answering) as served, await served.connect() as stream:
        await stream.send_all(b"nonsense\r\n\r\n")
        began = trio.current_time()
        try:
            while served.front.connections:
                await stream.send_all(b"more")
                await trio.sleep(0.05)
        except trio.BrokenResourceError:
            pass
        await served.wait_empty()
        assert trio.current_time() - began < 1.5


async def test_connection_that_wants_another_protocol_gets_this_one() -> None:
    """An upgrade to anything but WebSocket is not taken: the request is answered as what it is."""
    upgrades = (
        b"Upgrade: websocket\r\nConnection: close\r\n",
        b"Upgrade: TLS/1.3\r\nConnection: Upgrade\r\n",
        b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n",
    )
    async with serving(answering) as served:
        for upgrade in upgrades:
            async with await served.connect() as stream:
                await stream.send_all(HEAD + upgrade + b"\r\n")
                assert (await everything(stream)).split()[1] == b"200"
        await served.wait_empty()


async def test_connection_of_a_blocked_answer_and_a_full_body_ends() -> None:
    """Refused, not reading, still sending small pieces: no two tasks wait for each other."""
    chunks = b"".join(b"1\r\nx\r\n" for _ in range(60))
    async with serving(flooding) as served:
        streams = [await served.connect() for _ in range(4)]
        for stream in streams:
            await stream.send_all(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
        await served.wait_empty()
        for stream in streams:
            await stream.aclose()


async def test_connection_that_has_finished_sending_is_answered() -> None:
    """What is under way when the peer shuts its side, and what it sent ahead, is still answered."""
    kept, closing = HEAD + b"\r\n", HEAD + b"Connection: close\r\n\r\n"
    old = b"GET / HTTP/1.0\r\n\r\n"
    for sent, answers in ((kept, 1), (closing, 1), (old, 1), (2 * kept, 2)):
        async with serving(brooding, half_closed=0.5) as served, await served.connect() as stream:
            await stream.send_all(sent)
            await stream.send_eof()
            assert (await everything(stream)).count(b"HTTP/1.1 200 OK") == answers
            await served.wait_empty()


async def test_connection_ignores_empty_lines_round_a_request() -> None:
    """Line ends before a request, and after the last one, are not requests."""
    async with serving(brooding) as served, await served.connect() as stream:
        await stream.send_all(b"\r\n\r\n" + HEAD + b"Connection: close\r\n\r\n")
        await trio.sleep(0.02)
        await stream.send_all(b"\r\n")
        said = await everything(stream)
        assert said.count(b"HTTP/1.1") == said.count(b"200 OK") == 1


async def test_connection_answered_before_its_body_says_that_it_closes() -> None:
    """An answer that comes before the request's end is the connection's last, and says so."""
    async with serving(answering) as served, await served.connect() as stream:
        await stream.send_all(HEAD + b"Content-Length: 10\r\n\r\n")
        assert b"connection: close" in (await everything(stream)).lower()


async def test_connection_beyond_the_limit_is_turned_away() -> None:
    """One too many is told so; when there is room again, it is served."""
    async with serving(answering, head=5.0) as served:
        streams = [await served.connect() for _ in range(4)]
        await trio.sleep(0.05)
        async with await served.connect() as crowded:
            said = await everything(crowded)
        assert said.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b'"code":"shed"' in said
        for stream in streams:
            await stream.aclose()
        await served.wait_empty()
        async with await served.connect() as stream:
            await stream.send_all(HEAD + b"Connection: close\r\n\r\n")
            assert b"200 OK" in await everything(stream)


@pytest.mark.parametrize("reads", [0, 1])
async def test_client_that_goes_while_its_body_is_left_unread_is_noticed(reads: int) -> None:
    """Its application is cancelled, though nobody has read to the end of what it sent."""
    ended: list[float] = []
    began = trio.Event()

    async def ignoring(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(reads):
            await receive()
        began.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time())

    async with serving(ignoring, body=20.0, body_gap=20.0) as served:
        stream = await served.connect()
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 9000000\r\n\r\n")
        with trio.move_on_after(0.3):  # as much as is taken
            await stream.send_all(bytes(9_000_000))
        await began.wait()
        gone = trio.current_time()
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.aclose_forcefully(stream)
        await served.wait_empty()
    assert ended[0] - gone < 1.5


async def test_client_that_goes_after_sending_far_ahead_is_noticed() -> None:
    """Though what it sent ahead is not read until its turn comes."""
    ended: list[float] = []
    began = trio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        began.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time())

    async with serving(slow) as served:
        stream = await served.connect()
        with trio.move_on_after(0.3):
            await stream.send_all((HEAD + b"\r\n") * 300_000)
        await began.wait()
        gone = trio.current_time()
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.aclose_forcefully(stream)
        await served.wait_empty()
    assert ended[0] - gone < 1.5
