"""WebSockets and raw tunnels."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)

from bulkhead_trio.testing.upstream import Raw, ScriptedUpstream, WebSocket, always


class Client:
    """wsproto over a connection in memory."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._events: list[Any] = []

    async def send(self, event: Any) -> None:
        await self.stream.send_all(self._protocol.send(event))

    async def next(self) -> Any:
        """The next event; ``None`` at the end of the connection."""
        while not self._events:
            data = await self.stream.receive_some()
            if not data:
                return None
            self._protocol.receive_data(data)
            self._events.extend(self._protocol.events())
        return self._events.pop(0)


async def shaken(upstream: ScriptedUpstream, *subprotocols: str) -> tuple[Client, Any]:
    client = Client(await upstream.connect())
    await client.send(Request(host="u", target="/chat", subprotocols=list(subprotocols)))
    return client, await client.next()


async def test_messages_come_back(autojump_clock: MockClock) -> None:
    """Text and bytes, in fragments and whole; pings are answered, and closing is agreed on."""
    async with ScriptedUpstream(always(WebSocket(subprotocol="b"))) as upstream:
        client, accepted = await shaken(upstream, "a", "b")
        assert isinstance(accepted, AcceptConnection)
        assert accepted.subprotocol == "b"
        await client.send(TextMessage(data="hé"))
        assert await client.next() == TextMessage(data="hé")
        await client.send(BytesMessage(data=b"ab", message_finished=False))
        await client.send(BytesMessage(data=b"c"))
        first, second = await client.next(), await client.next()
        assert (bytes(first.data), first.message_finished) == (b"ab", False)
        assert (bytes(second.data), second.message_finished) == (b"c", True)
        await client.send(Ping(payload=b"p"))
        assert isinstance(await client.next(), Pong)
        await client.send(CloseConnection(code=1000))
        assert isinstance(await client.next(), CloseConnection)
        assert await client.next() is None
        assert upstream.seen().requests[0].outcome == "answered"


async def test_greeting_and_goodbye(autojump_clock: MockClock) -> None:
    """It speaks first, and ends after as many messages as the script says."""
    step = WebSocket(greeting=("hi",), close_after=1, code=1013)
    async with ScriptedUpstream(always(step)) as upstream:
        client, _ = await shaken(upstream)
        assert await client.next() == TextMessage(data="hi")
        await client.send(TextMessage(data="a"))
        assert await client.next() == TextMessage(data="a")
        goodbye = await client.next()
        assert goodbye.code == 1013
        await client.send(goodbye.response())
        assert await client.next() is None


async def test_end_without_goodbye(autojump_clock: MockClock) -> None:
    """The connection is gone after the last message."""
    async with ScriptedUpstream(always(WebSocket(close_after=1, how="close"))) as upstream:
        client, _ = await shaken(upstream)
        await client.send(TextMessage(data="a"))
        assert await client.next() == TextMessage(data="a")
        assert await client.next() is None


async def test_refused_upgrade(autojump_clock: MockClock) -> None:
    """An answer is an answer to an upgrade too."""
    async with ScriptedUpstream(always(Raw(data="HTTP/1.1 403 No\r\n\r\n"))) as upstream:
        _, refused = await shaken(upstream)
        assert isinstance(refused, RejectConnection)
        assert refused.status_code == 403


@pytest.mark.parametrize("request_", [b"GET / HTTP/1.1\r\nHost: u\r\n\r\n"])
async def test_request_that_is_no_handshake(request_: bytes, autojump_clock: MockClock) -> None:
    """What forgot to pass the upgrade on is told so."""
    async with ScriptedUpstream(always(WebSocket())) as upstream:
        stream = await upstream.connect()
        await stream.send_all(request_)
        assert bytes(await stream.receive_some()).startswith(b"HTTP/1.1 400 ")
        assert upstream.seen().requests[0].outcome == "malformed"


async def test_raw_tunnel_sends_bytes_back(autojump_clock: MockClock) -> None:
    """Any protocol after any head."""
    switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    async with ScriptedUpstream(always(Raw(data=switch, then="echo"))) as upstream:
        stream = await upstream.connect()
        await stream.send_all(
            b"GET / HTTP/1.1\r\nHost: u\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n\0first"
        )
        got = b""
        while len(got) < len(switch) + 6:
            got += await stream.receive_some()
        assert got == switch.encode() + b"\0first"
        await stream.send_all(b"\xff\n")
        assert await stream.receive_some() == b"\xff\n"
