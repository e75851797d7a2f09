"""TLS: what is negotiated, handshakes that nobody can hold open, an end that the peer can read."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from bulkhead_trio.http.hypercorn.tls import HandshakeLimits, server_context
from bulkhead_trio.http.hypercorn.tls_front import TOLD, TLSFront
from bulkhead_trio.testing.cancellation import CancellationPoint, sweep_cancellations

from ._wires import (
    HOST,
    LIMITS,
    H2Client,
    answer,
    client_context,
    echo_app,
    pair_from,
    read_all,
    secured,
    socket_pair,
    tls_front,
    write_pair,
)

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(("h2", "http/1.1"), "h2"), (("http/1.1",), "http/1.1"), ((), None), (("spdy/3",), None)],
)
async def test_protocol_is_negotiated(
    tmp_path: Path, autojump_clock: Any, offered: tuple[str, ...], chosen: str | None
) -> None:
    """HTTP/2 where the client offers it, otherwise HTTP/1.1, also without any offer."""
    async with tls_front(echo_app, tmp_path) as front, secured(front, *offered) as stream:
        await stream.do_handshake()
        assert stream.selected_alpn_protocol() == chosen
        if chosen == "h2":
            client = H2Client(stream)
            await client.start()
            assert (await client.ask()).body == b"https 2 GET /"
        else:
            await stream.send_all(GET)
            assert bytes(await stream.receive_some()).endswith(b"\r\n\r\nhttps 1.1 GET /")


def test_old_versions_and_weak_ciphers_are_not_offered(tmp_path: Path) -> None:
    """TLS 1.2 with forward secrecy, or 1.3."""
    context = server_context(*write_pair(tmp_path))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION
    for cipher in context.get_ciphers():
        assert cipher["aead"]
        assert cipher["protocol"] == "TLSv1.3" or cipher["name"].startswith("ECDHE-")


def test_encrypted_key_does_not_ask_for_a_password(tmp_path: Path) -> None:
    """Nobody sits at a server's terminal."""
    certificate, key = write_pair(tmp_path)
    text = key.read_text().replace(
        "-----BEGIN EC PRIVATE KEY-----\n",
        "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
        "DEK-Info: AES-128-CBC,00000000000000000000000000000000\n\n",
    )
    key.write_text(text)
    with pytest.raises((ValueError, ssl.SSLError)):
        server_context(certificate, key)


async def test_answer_ends_with_close_notify(tmp_path: Path, autojump_clock: Any) -> None:
    """An answer that ends with the connection cannot be cut short unnoticed."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"all of it"})

    async with tls_front(app, tmp_path) as front, secured(front, "http/1.1") as stream:
        await stream.send_all(b"GET / HTTP/1.0\r\n\r\n")
        got = b""
        while piece := await stream.receive_some():  # raises where there is no close_notify
            got += piece
        assert got.endswith(b"\r\n\r\nall of it")


async def test_answer_is_read_though_the_request_was_not(
    tmp_path: Path, autojump_clock: Any
) -> None:
    """What the peer still sends is read and forgotten, so that its connection is not reset."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"too much", status=413)

    async with tls_front(app, tmp_path) as front, secured(front, "http/1.1") as stream:
        await stream.send_all(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n" + bytes(50_000)
        )
        with trio.move_on_after(0.5):
            for _ in range(50):
                await stream.send_all(bytes(10_000))
        assert (await read_all(stream)).endswith(b"\r\n\r\ntoo much")


async def test_slow_handshake_is_cut_off(tmp_path: Path, autojump_clock: Any) -> None:
    """A client that connects and says nothing, or half of it, is gone after the limit."""
    async with tls_front(echo_app, tmp_path) as front:
        for said in (b"", b"\x16\x03\x01\x02\x00\x01"):
            ours, theirs = socket_pair()
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(front.handle, theirs)
                if said:
                    await ours.send_all(said)
                assert await read_all(ours) == b""
            assert trio.current_time() - began == pytest.approx(HandshakeLimits().seconds)
            await ours.aclose()
        assert front.connections == 0


async def test_too_many_handshakes_cut_off_the_oldest(tmp_path: Path, autojump_clock: Any) -> None:
    """Clients that hold handshakes open cannot keep out one that means it."""
    limits = HandshakeLimits(at_once=5)
    async with tls_front(echo_app, tmp_path, handshakes=limits) as front:
        silent = []
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                ours, theirs = socket_pair()
                silent.append(ours)
                nursery.start_soon(front.handle, theirs)
                await trio.testing.wait_all_tasks_blocked()
                assert front.connections <= limits.at_once
            began = trio.current_time()
            async with secured(front, "http/1.1") as stream:
                await stream.send_all(GET)
                assert bytes(await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
            assert trio.current_time() - began < 0.1
            for each in silent:
                await each.aclose()


GARBAGE = [
    b"GET / HTTP/1.1\r\n\r\n",
    bytes(1000),
    b"\x16\x03\x01\xff\xff" + bytes(70_000),
    b"\x80\x2e\x01",
]


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage_instead_of_a_handshake(
    tmp_path: Path, autojump_clock: Any, garbage: bytes
) -> None:
    """What is no handshake costs its connection only."""
    async with tls_front(echo_app, tmp_path) as front:
        ours, theirs = socket_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(front.handle, theirs)
            try:
                await ours.send_all(garbage)
            except trio.BrokenResourceError:
                pass
            await read_all(ours)
        await ours.aclose()
        async with secured(front, "http/1.1") as stream:
            await stream.send_all(GET)
            assert bytes(await stream.receive_some()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage_after_the_handshake(
    tmp_path: Path, autojump_clock: Any, garbage: bytes
) -> None:
    """What is no TLS record in the middle of a connection ends it, and no other."""
    async with tls_front(echo_app, tmp_path) as front:
        async with secured(front, "http/1.1") as stream:
            await stream.send_all(GET)
            await stream.receive_some()
            try:
                await stream.transport_stream.send_all(garbage)
            except trio.BrokenResourceError:
                pass
            await read_all(stream)
        async with secured(front, "http/1.1") as stream:
            await stream.send_all(GET)
            assert bytes(await stream.receive_some()).startswith(b"HTTP/1.1 200 ")


async def test_crowd_is_told_so(tmp_path: Path, autojump_clock: Any) -> None:
    """A connection beyond the limit is answered 503; one address cannot take all there are."""
    limits = attrs.evolve(LIMITS, connections=1)
    async with tls_front(echo_app, tmp_path, limits=limits) as front:
        async with secured(front, "http/1.1") as first:
            await first.send_all(GET)
            assert bytes(await first.receive_some()).startswith(b"HTTP/1.1 200 ")
            async with secured(front, "http/1.1") as second:
                await second.send_all(GET)
                assert (await read_all(second)).startswith(b"HTTP/1.1 503 ")
        async with secured(front, "http/1.1") as third:
            await third.send_all(GET)
            assert bytes(await third.receive_some()).startswith(b"HTTP/1.1 200 ")


@asynccontextmanager
async def crowd_from(host: str, front: TLSFront, many: int) -> AsyncIterator[None]:
    """So many connections from one address, which shake hands and stay if they can."""
    streams = []
    async with trio.open_nursery() as nursery:
        for _ in range(many):
            ours, theirs = await pair_from(host)
            nursery.start_soon(front.handle, theirs)
            streams.append(trio.SSLStream(ours, client_context("http/1.1"), server_hostname=HOST))
            try:
                await streams[-1].do_handshake()
            except trio.BrokenResourceError:
                pass  # closed unheard
        await trio.testing.wait_all_tasks_blocked()
        try:
            yield
        finally:
            for stream in streams:
                await trio.aclose_forcefully(stream)


async def test_crowd_of_one_address_keeps_nobody_out(tmp_path: Path, autojump_clock: Any) -> None:
    """However many connections beyond its limit an address makes, another one's are served."""
    limits = attrs.evolve(LIMITS, connections=1000, connections_per_address=10)
    async with tls_front(echo_app, tmp_path, limits=limits) as front:
        async with crowd_from("127.0.0.1", front, 50):
            assert front.connections == 10 + TOLD.connections_per_address
            async with secured(front, "http/1.1", host="127.0.0.2") as other:
                await other.send_all(GET)
                assert bytes(await other.receive_some()).startswith(b"HTTP/1.1 200 ")


async def test_full_crowd_keeps_nobody_out(tmp_path: Path, autojump_clock: Any) -> None:
    """Nor do many addresses that are all beyond their limits, and as many as can be told."""
    limits = attrs.evolve(LIMITS, connections=1000, connections_per_address=1)
    async with tls_front(echo_app, tmp_path, limits=limits) as front, AsyncExitStack() as stack:
        for number in range(1, 6):
            await stack.enter_async_context(crowd_from(f"127.0.0.{number}", front, 10))
        assert front.connections == 5 + TOLD.connections
        async with secured(front, "http/1.1", host="127.0.0.9") as other:
            await other.send_all(GET)
            assert bytes(await other.receive_some()).startswith(b"HTTP/1.1 200 ")


async def test_crowd_of_one_address_is_told_beside_another(
    tmp_path: Path, autojump_clock: Any
) -> None:
    """An address that cannot stay is told so, though another one's crowd is there already."""
    limits = attrs.evolve(LIMITS, connections=1000, connections_per_address=1)
    async with (
        tls_front(echo_app, tmp_path, limits=limits) as front,
        crowd_from("127.0.0.1", front, 40),
        secured(front, "http/1.1", host="127.0.0.2") as first,
    ):
        await first.do_handshake()
        async with secured(front, "http/1.1", host="127.0.0.2") as second:
            assert (await read_all(second)).startswith(b"HTTP/1.1 503 ")


async def test_closing_ends_what_is_idle(tmp_path: Path, autojump_clock: Any) -> None:
    """An idle connection is closed at once, one that waits for its answer gets it first."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep(5)
        await answer(send, b"done")

    async with (
        tls_front(app, tmp_path) as front,
        secured(front, "http/1.1") as idle,
        secured(front, "http/1.1") as busy,
    ):
        await idle.do_handshake()
        await busy.send_all(GET)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await front.close()
        assert await read_all(idle) == b""
        assert trio.current_time() - began < 0.1
        assert (await read_all(busy)).endswith(b"done")


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
async def test_cancelling_leaves_nothing(
    tmp_path: Path, autojump_clock: Any, protocol: str
) -> None:
    """Cancelled at any checkpoint, the socket is closed, and no application runs on."""
    running = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal running
        running += 1
        try:
            await echo_app(scope, receive, send)
        finally:
            running -= 1

    async def talk(ours: trio.SocketStream) -> None:
        stream = trio.SSLStream(ours, client_context(protocol), server_hostname=HOST)
        try:
            await stream.do_handshake()
            if protocol == "h2":
                client = H2Client(stream)
                await client.start()
                await client.ask()
            else:
                await stream.send_all(GET)
                await stream.receive_some()
        except trio.BrokenResourceError:
            pass  # cut off in the middle
        finally:
            await trio.aclose_forcefully(stream)

    async def scenario(point: CancellationPoint) -> None:
        async with tls_front(app, tmp_path) as front:
            ours, theirs = socket_pair()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(talk, ours)
                with point:
                    await front.handle(theirs)
                assert theirs.socket.fileno() == -1
                assert front.connections == 0
                assert running == 0

    assert await sweep_cancellations(scenario) > 5
