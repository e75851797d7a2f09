"""WebSockets through the gateway: the upgrade, every message, and both ways of ending."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    RejectConnection,
    TextMessage,
)

from bulkhead_trio.testing.upstream import Answer, ScriptedUpstreamProcess, WebSocket, always

from ...http.hypercorn._wires import WSClient
from .._server import wait_until_answered
from ._gateway import Gateway, Tenant


@pytest.fixture
async def tenant(gateway: Gateway, upstream: ScriptedUpstreamProcess) -> Tenant:
    """With one route for everything, to an upstream that echoes messages."""
    tenant = await gateway.tenant()
    await gateway.route(tenant, upstream.url)
    upstream.play(always(WebSocket()))
    return tenant


@asynccontextmanager
async def connected(gateway: Gateway, tenant: Tenant) -> AsyncIterator[WSClient]:
    with trio.fail_after(10):
        async with await trio.open_tcp_stream(*gateway.addresses[0]) as stream:
            client = WSClient(stream)
            await stream.send_all(client.hello("/chat?room=1", x_api_key=tenant.key))
            yield client


async def test_messages_pass(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant
) -> None:
    """Text and bytes, small and large, and pings; then a goodbye."""
    async with connected(gateway, tenant) as client:
        await client.next(AcceptConnection)
        for number in range(20):
            await client.send(TextMessage(data=f"hello {number}"))
            assert (await client.next(TextMessage)).data == f"hello {number}"
        big = bytes(range(256)) * 4000
        got = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, BytesMessage(data=big))
            while len(got) < len(big):
                got += (await client.next(BytesMessage)).data
        assert got == big
        await client.send(Ping(payload=b"p"))
        assert bytes((await client.next(Pong)).payload) == b"p"
        await client.send(CloseConnection(code=1000))
        assert (await client.next(CloseConnection)).code == 1000
    (seen,) = upstream.seen().requests
    assert seen.target == "/chat?room=1"
    assert (seen.header("upgrade") or "").lower() == "websocket"


async def test_upstream_says_goodbye(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant
) -> None:
    """Its code reaches the caller."""
    upstream.play(always(WebSocket(greeting=("hi",), close_after=1, code=4001)))
    async with connected(gateway, tenant) as client:
        assert (await client.next(TextMessage)).data == "hi"
        await client.send(TextMessage(data="a"))
        assert (await client.next(CloseConnection)).code == 4001


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_upstream_goes_without_a_word(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant, how: str
) -> None:
    """The caller's connection ends too."""
    upstream.play(always(WebSocket(close_after=1, how=how)))
    async with connected(gateway, tenant) as client:
        await client.next(AcceptConnection)
        await client.send(TextMessage(data="a"))
        await client.read_until_end()


async def test_caller_goes_without_a_word(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant
) -> None:
    """So does the connection to the upstream."""
    async with connected(gateway, tenant) as client:
        await client.next(AcceptConnection)

    async def is_gone() -> bool:
        return upstream.seen().requests[0].outcome == "gone"

    await wait_until_answered(is_gone, "upstream's connection closed")


async def test_upstream_refuses(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant
) -> None:
    """Its answer is passed on as any other."""
    upstream.play(always(Answer(status=403, body="no")))
    async with connected(gateway, tenant) as client:
        assert (await client.next(RejectConnection)).status_code == 403


async def test_upgrade_needs_a_key(gateway: Gateway, upstream: ScriptedUpstreamProcess) -> None:
    """As every request does."""
    async with connected(gateway, Tenant("", "bh_a_b")) as client:
        assert (await client.next(RejectConnection)).status_code == 403
    assert upstream.seen().count == 0


async def test_quiet_connection_stays(gateway: Gateway, upstream: ScriptedUpstreamProcess) -> None:
    """The route's time was for the handshake; a chat may be silent for longer."""
    tenant = await gateway.tenant()
    await gateway.route(tenant, upstream.url, resilience={"timeout": {"default": 300}})
    upstream.play(always(WebSocket()))
    async with connected(gateway, tenant) as client:
        await client.next(AcceptConnection)
        await trio.sleep(1)
        await client.send(TextMessage(data="still there"))
        assert (await client.next(TextMessage)).data == "still there"
