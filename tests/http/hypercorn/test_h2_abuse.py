"""What a peer could make of HTTP/2 beside requests ends its connection, and hurts no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from bulkhead_trio.http.hypercorn._h2_rules import H2Limits

from ._wires import H2Client, answer, echo_app, h2_client, secured, tls_front

SMALL = H2Limits(resets_at_once=20, frames_at_once=1000)


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags])
    return head + stream.to_bytes(4, "big") + payload


async def send_quietly(client: H2Client, data: bytes) -> None:
    try:
        await client.stream.send_all(data)
    except trio.BrokenResourceError:
        client.has_ended = True


async def test_rapid_reset_is_stopped(tmp_path: Path, autojump_clock: Any) -> None:
    """Requests that are reset at once are counted, and never more run than streams may."""
    running = most = began = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal running, most, began
        running, began = running + 1, began + 1
        most = max(most, running)
        try:
            await trio.sleep_forever()
        finally:
            running -= 1

    async with tls_front(app, tmp_path, http2=SMALL) as front, h2_client(front) as client:
        for _ in range(500):
            number = client.send_request()
            client.connection.reset_stream(number, ErrorCodes.CANCEL)
        await send_quietly(client, client.connection.data_to_send())
        await client.read_until_end()
        assert client.goaway is not None
        assert client.goaway[0] == ErrorCodes.ENHANCE_YOUR_CALM
        assert began <= SMALL.resets_at_once + SMALL.streams
        assert most <= SMALL.streams
    assert running == 0


async def test_resets_at_a_human_pace_are_fine(tmp_path: Path, autojump_clock: Any) -> None:
    """A client that changes its mind now and then is served for as long as it likes."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/":
            await trio.sleep_forever()
        await answer(send, b"here")

    async with tls_front(app, tmp_path, http2=SMALL) as front, h2_client(front) as client:
        for _ in range(100):
            number = client.send_request()
            await client.flush()
            await trio.sleep(0.2)
            client.connection.reset_stream(number, ErrorCodes.CANCEL)
        assert (await client.ask("/last")).body == b"here"


async def test_made_you_reset_is_stopped(tmp_path: Path, autojump_clock: Any) -> None:
    """Streams that the peer makes us reset count as resets too (CVE-2025-8671)."""
    began = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal began
        began += 1
        await trio.sleep_forever()

    overflow = (2**31 - 1).to_bytes(4, "big")
    async with tls_front(app, tmp_path, http2=SMALL) as front, h2_client(front) as client:
        for _ in range(500):
            number = client.send_request()
            await send_quietly(client, client.connection.data_to_send())
            await send_quietly(client, frame(0x8, overflow, stream=number))
            if client.has_ended:
                break
        await client.read_until_end()
        assert began <= SMALL.resets_at_once + 2


FLOODS: dict[str, Callable[[int], bytes]] = {
    "ping": lambda _: frame(0x6, bytes(8)),
    "settings": lambda _: frame(0x4),
    "priority": lambda n: frame(0x2, (0).to_bytes(4, "big") + b"\x10", stream=2 * n + 1001),
    "window update": lambda _: frame(0x8, (1).to_bytes(4, "big")),
    "unknown": lambda _: frame(0xBE),
    "reset of nothing": lambda _: frame(0x3, bytes(4), stream=1),
    "empty data": lambda _: frame(0x0, b"", stream=1),
    "tiny data": lambda _: frame(0x0, b"x", stream=1),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_flood_is_stopped(tmp_path: Path, autojump_clock: Any, name: str) -> None:
    """Frames that mean nothing, without end, end the connection; others are served meanwhile."""
    async with tls_front(echo_app, tmp_path, http2=SMALL) as front, h2_client(front) as client:
        client.send_request("/body", method="POST", ends=False)
        await client.flush()
        sent = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.read_until_end)
            while client.goaway is None and not client.has_ended and sent < 20_000:
                await send_quietly(client, b"".join(FLOODS[name](sent + n) for n in range(100)))
                sent += 100
                await trio.testing.wait_all_tasks_blocked()
        assert sent < 20_000
        async with h2_client(front) as other:
            assert (await other.ask()).status == 200
    assert front.connections == 0


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00" * 1000,
        b"\xff" * 100_000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 50,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + frame(0x4)
        + frame(0x1, b"\xff" * 20, stream=1, flags=5),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(0x4) + frame(0x0, b"x", stream=1),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(0x4) + frame(0x9, b"x", stream=1),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(0x4) + frame(0x5, bytes(4), stream=1),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(0x4) + frame(0x7, bytes(8)),
    ],
)
async def test_garbage_costs_one_connection(
    tmp_path: Path, autojump_clock: Any, garbage: bytes
) -> None:
    """What is no HTTP/2 ends its connection; the front goes on."""
    async with tls_front(echo_app, tmp_path) as front:
        async with h2_client(front) as bystander:
            assert (await bystander.ask()).status == 200
            async with secured(front, "h2") as stream:
                await stream.do_handshake()
                client = H2Client(stream)
                await send_quietly(client, garbage)
                await client.stream.transport_stream.send_eof()
                while await stream.transport_stream.receive_some(65536):
                    pass
            assert (await bystander.ask()).status == 200
    assert front.connections == 0


@pytest.mark.parametrize(
    ("path", "method", "headers"),
    [
        ("relative", "GET", []),
        ("http://other/", "GET", []),
        ("/a#b", "GET", []),
        ("/a b", "GET", []),
        ("/caf\u00e9", "GET", []),
        ("*", "OPTIONS", []),
        ("/", "G T", []),
        ("/", "GET", [("x_y", "underscore")]),
        ("/", "GET", [("x-y", "nul\x00")]),
        ("/", "GET", [("x-y", "line\nend")]),
        ("/", "GET", [("host", "another")]),
        ("/", "GET", [("host", "localhost"), ("host", "localhost")]),
        ("/", "CONNECT", []),
    ],
)
async def test_doubtful_request_never_reaches_the_application(
    tmp_path: Path,
    autojump_clock: Any,
    path: str,
    method: str,
    headers: list[tuple[str, str]],
) -> None:
    """What HTTP/1.1 would refuse is refused over HTTP/2 too: 400, or the connection's end."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        await answer(send, b"")

    async with tls_front(app, tmp_path) as front, h2_client(front) as client:
        client.connection.config.validate_outbound_headers = False
        client.connection.config.normalize_outbound_headers = False
        answered = await client.ask(path, method=method, headers=headers)
        assert answered.status == 400 or client.has_ended
        assert seen == []


async def test_header_bomb_ends_the_connection(tmp_path: Path, autojump_clock: Any) -> None:
    """Fields that are far longer than they look compressed are not unpacked."""
    bomb = [("x-bomb", "a" * 4000)] * 500
    async with tls_front(echo_app, tmp_path) as front, h2_client(front) as client:
        await client.ask(headers=bomb)
        await client.read_until_end()
        assert client.goaway is not None
        assert client.goaway[0] == ErrorCodes.ENHANCE_YOUR_CALM


async def test_peer_with_a_huge_table_gets_a_small_one(tmp_path: Path, autojump_clock: Any) -> None:
    """What is remembered of answers' fields stays small whatever the peer would allow."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"", headers={b"x-id": scope["path"].encode() * 20})

    async with tls_front(app, tmp_path) as front, h2_client(front) as client:
        client.connection.update_settings({SettingCodes.HEADER_TABLE_SIZE: 1 << 20})
        await client.flush()
        for n in range(200):
            assert (await client.ask(f"/{n}")).status == 200
        assert client.connection.decoder.header_table.maxsize <= 4096


async def test_too_many_streams_are_refused(tmp_path: Path, autojump_clock: Any) -> None:
    """More requests at once than were allowed end the connection before they run."""
    limits = attrs.evolve(SMALL, streams=5)
    began = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal began
        began += 1
        await trio.sleep_forever()

    async with tls_front(app, tmp_path, http2=limits) as front, h2_client(front) as client:
        for _ in range(20):
            client.send_request()
        await send_quietly(client, client.connection.data_to_send())
        await client.read_until_end()
        assert began <= 5


async def test_data_for_an_answered_request_is_passed_over(
    tmp_path: Path, autojump_clock: Any
) -> None:
    """What crosses with an answer is nobody's, and the connection goes on (KeyError upstream)."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"early")

    async with tls_front(app, tmp_path) as front, h2_client(front) as client:
        number = client.send_request(method="POST", ends=False)
        await client.flush()
        while not client.answers[number].has_ended:
            await client.read()
        await send_quietly(client, frame(0x0, b"x" * 1000, stream=number))
        assert (await client.ask("/next")).body == b"early"


async def test_many_priorities_are_nothing(tmp_path: Path, autojump_clock: Any) -> None:
    """Priorities of streams that never come take no memory, and end nothing at a modest pace."""
    async with tls_front(echo_app, tmp_path) as front, h2_client(front) as client:
        await client.ask()
        for n in range(1100):
            payload = (0).to_bytes(4, "big") + b"\x10"
            await send_quietly(client, frame(0x2, payload, stream=2 * n + 1001))
            await trio.sleep(0.02)
        assert (await client.ask()).status == 200
