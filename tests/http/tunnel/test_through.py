"""A tunnel all the way: client, front, pump, `HTTPClient`, upstream, each on a real socket."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Message,
    Ping,
    Pong,
    Request,
    TextMessage,
)

from bulkhead_trio.http.client import ClientLimits, HTTPClient
from bulkhead_trio.http.hypercorn.tls import server_context
from bulkhead_trio.http.tunnel import HALF_CLOSED_SECONDS, TUNNEL, Pumped, pump

from ..client._upstream import Talk, assert_at_rest, to_loopback, upstream
from ..hypercorn._wires import WSClient, client_context, write_pair
from ._ends import (
    FRONTS,
    PLAIN_FRONTS,
    answer,
    read_all,
    read_exactly,
    read_until,
    read_what_comes,
    reset,
    serving,
    upgraded,
)

ANSWER_101 = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
)


@attrs.define
class Gateway:
    """An application that passes upgrades on to one upstream, as short as can be."""

    client: HTTPClient
    url: str
    results: list[Pumped] = attrs.field(factory=list)

    async def __call__(self, scope: Any, _: Any, send: Any) -> None:
        hop_by_hop = (b"host", b"connection", b"upgrade")
        headers = [(n, v) for n, v in scope["headers"] if n not in hop_by_hop]
        headers += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
        url = self.url + scope["raw_path"].decode()
        async with self.client.request("GET", url, headers=headers) as response:
            if response.status != 101:
                await answer(send, await response.aread(), status=response.status)
                return
            back = [(name, value) for name, value in response.headers if name != b"connection"]
            ours = await scope["extensions"][TUNNEL](101, back)
            self.results.append(await pump(ours, response.tunnel))


Behaviour = Callable[[Talk], Awaitable[None]]


class World:
    """What one test needs, opened in the right order."""

    def __init__(self, kind: str, behaviour: Behaviour, directory: Path, *, tls: bool) -> None:
        self.kind = kind
        self.behaviour = behaviour
        self.directory = directory
        self.tls = tls

    async def run(self, talk: Callable[[Any, trio.abc.Stream], Awaitable[None]]) -> list[Pumped]:
        """Have ``talk`` with a client's connection; gives what was pumped."""
        tls = None
        if self.tls:
            tls = server_context(*write_pair(self.directory))
            tls.set_alpn_protocols(["http/1.1"])
        limits = ClientLimits(write=3.0)
        async with upstream(self.behaviour, tls=tls) as there:
            context = client_context("http/1.1")
            async with HTTPClient(limits, resolve=to_loopback, tls_context=context) as client:
                gateway = Gateway(client, there.url)
                async with (
                    serving(self.kind, gateway, self.directory) as front,
                    front.connect() as stream,
                ):
                    await talk(front, stream)
                    await trio.aclose_forcefully(stream)
                    await front.wait_at_rest()
                assert_at_rest(client)
                assert client.statistics().idle <= 1
        return gateway.results


async def echoes(talk: Talk) -> None:
    """An upstream that upgrades, and sends back what comes."""
    assert await talk.request() is not None
    await talk.send(ANSWER_101)
    while data := await talk.stream.receive_some(65_536):
        await talk.send(bytes(data))


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS upstream"])
@pytest.mark.parametrize("kind", FRONTS)
async def test_every_byte_goes_through(kind: str, tls: bool, tmp_path: Path) -> None:
    """Megabytes, there and back. On the real clock: full sockets take the kernel some of its own
    time now and then, which a mock clock would skip, past all limits."""
    data = random.Random(2).randbytes(2_000_000)

    async def talk(front: Any, stream: trio.abc.Stream) -> None:
        await upgraded(stream, ahead=data[:100])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, data[100:])
            assert await read_exactly(stream, len(data)) == data

    results = await World(kind, echoes, tmp_path, tls=tls).run(talk)
    assert [(each.forth, each.back) for each in results] == [(len(data), len(data))]


@pytest.mark.parametrize("kind", FRONTS)
async def test_web_socket_talks_through(
    kind: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Handshake, messages, pings and the goodbye: as without anything between."""

    async def speaks(talk: Talk) -> None:
        connection = WSConnection(ConnectionType.SERVER)
        while data := await talk.stream.receive_some(65_536):
            connection.receive_data(bytes(data))
            for event in connection.events():
                match event:
                    case Request():
                        await talk.send(bytes(connection.send(AcceptConnection())))
                    case Message():
                        await talk.send(bytes(connection.send(event)))
                    case Ping():
                        await talk.send(bytes(connection.send(event.response())))
                    case CloseConnection():
                        await talk.send(bytes(connection.send(event.response())))
                        return  # the server ends it (RFC 6455, 7.1.1)

    async def talk(front: Any, stream: trio.abc.Stream) -> None:
        client = WSClient(stream)
        await stream.send_all(client.hello("/chat"))
        await client.next(AcceptConnection)
        await client.send(TextMessage("häh?"))
        assert (await client.next(TextMessage)).data == "häh?"
        await client.send(BytesMessage(b"x" * 5000))
        got = b""
        while len(got) < 5000:
            got += (await client.next(BytesMessage)).data
        assert got == b"x" * 5000
        await client.send(Ping(b"p"))
        assert (await client.next(Pong)).payload == b"p"
        began = trio.current_time()
        await client.send(CloseConnection(code=1000, reason="done"))
        assert (await client.next(CloseConnection)).code == 1000
        await client.read_until_end()
        assert trio.current_time() - began < 0.5

    (result,) = await World(kind, speaks, tmp_path, tls=False).run(talk)
    assert not result.was_idle


@pytest.mark.parametrize("kind", FRONTS)
async def test_refusal_of_the_upstream_is_passed_on(
    kind: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """With its status and its body; and both connections go on."""

    async def refuses(talk: Talk) -> None:
        while await talk.request() is not None:
            await talk.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")

    async def talk(front: Any, stream: trio.abc.Stream) -> None:
        for _ in range(3):
            await stream.send_all(
                b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
            )
            assert (await read_until(stream, b"\r\n\r\nno")).startswith(b"HTTP/1.1 403 ")

    assert await World(kind, refuses, tmp_path, tls=False).run(talk) == []


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS upstream"])
@pytest.mark.parametrize("kind", FRONTS)
async def test_upstream_that_ends_ends_the_client(
    kind: str, tls: bool, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """At once, and after all that it had said."""

    async def ends(talk: Talk) -> None:
        await talk.request()
        await talk.send(ANSWER_101 + b"x" * 5000)

    async def talk(front: Any, stream: trio.abc.Stream) -> None:
        await upgraded(stream)
        began = trio.current_time()
        assert await read_all(stream) == b"x" * 5000
        assert trio.current_time() - began < 0.5

    await World(kind, ends, tmp_path, tls=tls).run(talk)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS upstream"])
@pytest.mark.parametrize("kind", FRONTS)
async def test_client_that_breaks_off_ends_the_upstream(
    kind: str, tls: bool, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Which is told at once, one way or the other."""
    told = trio.Event()

    async def listens(talk: Talk) -> None:
        await talk.request()
        await talk.send(ANSWER_101)
        await read_what_comes(talk.stream)
        told.set()

    async def talk(front: Any, stream: trio.abc.Stream) -> None:
        await upgraded(stream)
        await trio.sleep(1)
        reset(stream)
        with trio.fail_after(0.5):
            await told.wait()

    await World(kind, listens, tmp_path, tls=tls).run(talk)


@pytest.mark.parametrize("kind", FRONTS)
async def test_upstream_that_breaks_off_ends_the_client(
    kind: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """As soon as it is known."""

    async def breaks(talk: Talk) -> None:
        await talk.request()
        await talk.send(ANSWER_101)
        await trio.sleep(1)
        talk.reset()

    async def talk(front: Any, stream: trio.abc.Stream) -> None:
        await upgraded(stream)
        with trio.fail_after(1.5):
            assert await read_what_comes(stream) == b""

    await World(kind, breaks, tmp_path, tls=False).run(talk)


@pytest.mark.parametrize("kind", FRONTS)
async def test_upstream_that_does_not_read_ends_it(
    kind: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """When the limit for writing to it has passed, and a moment for what it may still say."""

    over = trio.Event()

    async def ignores(talk: Talk) -> None:
        await talk.request()
        await talk.send(ANSWER_101)
        await over.wait()

    async def talk(front: Any, stream: trio.abc.Stream) -> None:
        await upgraded(stream)
        began, sent = trio.current_time(), 0
        with trio.fail_after(60.0):
            with pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)):
                while True:
                    await stream.send_all(b"x" * 65_536)
                    sent += 65_536
                    await trio.sleep(0.01)  # else the mock clock would stand still
        over.set()
        took = trio.current_time() - began - 0.01 * sent / 65_536  # less what filled the sockets
        assert 2.5 <= took <= 3.0 + HALF_CLOSED_SECONDS + 1.5

    await World(kind, ignores, tmp_path, tls=False).run(talk)


@pytest.mark.parametrize("kind", PLAIN_FRONTS)
async def test_half_closed_client_is_answered_through(
    kind: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Half of a connection is enough for what is no WebSocket."""

    async def counts(talk: Talk) -> None:
        await talk.request()
        await talk.send(ANSWER_101)
        size = len(await read_all(talk.stream))
        await trio.sleep(HALF_CLOSED_SECONDS - 1)
        await talk.send(b"%d bytes" % size)

    async def talk(front: Any, stream: trio.abc.Stream) -> None:
        await upgraded(stream)
        await stream.send_all(b"x" * 1234)
        assert isinstance(stream, trio.SocketStream)
        await stream.send_eof()
        assert await read_all(stream) == b"1234 bytes"

    results = await World(kind, counts, tmp_path, tls=False).run(talk)
    assert results == [Pumped(1234, 10, was_idle=False)]
