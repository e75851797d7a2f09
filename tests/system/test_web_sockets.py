"""WebSockets over real sockets, on every front: messages pass, and a closing front says goodbye."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, TextMessage

from bulkhead_trio.api.edge import unreadable_request
from bulkhead_trio.http.engine.server import HTTPServer
from bulkhead_trio.http.hypercorn.front import HypercornFront
from bulkhead_trio.http.hypercorn.handover import Handover
from bulkhead_trio.http.limits import ConnectionLimits

from ..http.hypercorn._wires import WSClient, echo_app

LIMITS = ConnectionLimits()


def make(name: str) -> list[Any]:
    if name == "hypercorn":
        return [HypercornFront(echo_app, limits=LIMITS, render_error=unreadable_request)]
    handover = Handover(echo_app, limits=LIMITS, render_error=unreadable_request)
    server = HTTPServer(echo_app, limits=LIMITS, render_error=unreadable_request, handover=handover)
    return [server, handover]


@asynccontextmanager
async def serving(name: str) -> AsyncIterator[tuple[list[Any], int]]:
    fronts = make(name)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(fronts[0].serve, listeners)
            yield fronts, listeners[0].socket.getsockname()[1]


async def connect(port: int) -> WSClient:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    client = WSClient(stream)
    await stream.send_all(client.hello("/chat?room=1"))
    await client.next(AcceptConnection)
    return client


@pytest.mark.parametrize("name", ["engine", "hypercorn"])
async def test_messages_pass_and_closing_says_goodbye(name: str) -> None:
    """Many clients at once get their own messages back; then each is told that we are going."""
    async with serving(name) as (fronts, port):
        clients = [await connect(port) for _ in range(20)]
        for n, client in enumerate(clients):
            await client.send(TextMessage(data=f"hello {n}"))
            await client.send(BytesMessage(data=bytes([n]) * 100_000))
        for n, client in enumerate(clients):
            assert (await client.next(TextMessage)).data == f"hello {n}"
            got = b""
            while len(got) < 100_000:
                got += (await client.next(BytesMessage)).data
            assert got == bytes([n]) * 100_000
        for front in fronts:
            await front.close()
        for client in clients:
            goodbye = await client.next(CloseConnection)
            assert goodbye.code == 1001
            await client.send(goodbye.response())
            await client.stream.aclose()


@pytest.mark.parametrize("name", ["engine", "hypercorn"])
async def test_requests_before_the_upgrade_are_answered(name: str) -> None:
    """A connection may have carried requests before it becomes a WebSocket."""
    async with serving(name) as (fronts, port):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"GET /one HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert bytes(await stream.receive_some()).endswith(b"http 1.1 GET /one")
            client = WSClient(stream)
            await stream.send_all(client.hello())
            await client.next(AcceptConnection)
            await client.send(TextMessage(data="now"))
            assert (await client.next(TextMessage)).data == "now"
        for front in fronts:
            await front.close()


@pytest.mark.parametrize("name", ["engine", "hypercorn"])
async def test_peers_that_vanish_leave_nothing(name: str) -> None:
    """Clients that go without a word are noticed, and their connections given back."""
    async with serving(name) as (fronts, port):
        for _ in range(20):
            await (await connect(port)).stream.aclose()
        with trio.fail_after(5):
            while any(front.connections for front in fronts):
                await trio.sleep(0.02)
        for front in fronts:
            await front.close()
