"""WebSockets, handed over by somebody else or under TLS: messages pass, and limits hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    TextMessage,
)

from bulkhead_trio.http.hypercorn._websocket import WebSocketLimits
from bulkhead_trio.http.hypercorn.handover import Handover
from bulkhead_trio.testing.cancellation import CancellationPoint, sweep_cancellations

from ._wires import (
    HOST,
    LIMITS,
    WSClient,
    echo_app,
    handed_over,
    read_all,
    render_error,
    secured,
    socket_pair,
    tls_front,
)

WEB_SOCKETS = WebSocketLimits(message_bytes=1000)


def handover(app: Any = echo_app) -> Handover:
    return Handover(app, limits=LIMITS, render_error=render_error, web_sockets=WEB_SOCKETS)


async def connected(stream: trio.abc.Stream, client: WSClient) -> WSClient:
    client.stream = stream
    await client.next(AcceptConnection)
    return client


async def test_messages_are_echoed(autojump_clock: Any) -> None:
    """Text and bytes go both ways, and the close handshake is answered."""
    client = WSClient(None)
    async with handed_over(handover(), client.hello("/echo")) as stream:
        await connected(stream, client)
        await client.send(TextMessage(data="gr\u00fc\u00df"))
        assert (await client.next(TextMessage)).data == "gr\u00fc\u00df"
        await client.send(BytesMessage(data=b"\0\1", message_finished=False))
        await client.send(BytesMessage(data=b"\2"))
        assert (await client.next(BytesMessage)).data == b"\0\1\2"
        await client.send(Ping(payload=b"there?"))
        assert bytes((await client.next(Pong)).payload) == b"there?"
        await client.send(CloseConnection(code=1000))
        assert (await client.next(CloseConnection)).code == 1000
        await client.read_until_end()


async def test_web_socket_under_tls(tmp_path: Path, autojump_clock: Any) -> None:
    """The same over TLS, where HTTP/1.1 was negotiated; the scheme says so."""
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await echo_app(scope, receive, send)

    async with tls_front(app, tmp_path) as front, secured(front, "http/1.1") as stream:
        client = WSClient(stream)
        await stream.send_all(client.hello("/echo", x_a="b"))
        await client.next(AcceptConnection)
        await client.send(TextMessage(data="hello"))
        assert (await client.next(TextMessage)).data == "hello"
        await client.send(CloseConnection(code=1000))
        await client.next(CloseConnection)
        assert scopes[0]["scheme"] == "wss"
        assert (b"x-a", b"b") in scopes[0]["headers"]


async def test_client_address_is_the_one_given(autojump_clock: Any) -> None:
    """Who hands over knows who the peer is."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["client"])
        await echo_app(scope, receive, send)

    client = WSClient(None)
    async with handed_over(handover(app), client.hello()) as stream:
        await connected(stream, client)
    assert seen == [("192.0.2.1", 5000)]


async def closes_at_once(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.close"})


async def answers_404(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-length", b"4"), (b"x-a", b"b")]
    await send({"type": "websocket.http.response.start", "status": 404, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b"none"})


async def fails(scope: Any, receive: Any, send: Any) -> None:
    raise ZeroDivisionError


async def returns(scope: Any, receive: Any, send: Any) -> None:
    return


async def hangs(scope: Any, receive: Any, send: Any) -> None:
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("app", "status", "body"),
    [
        (closes_at_once, 403, b'{"status":403}'),
        (answers_404, 404, b"none"),
        (fails, 500, b'{"status":500}'),
        (returns, 500, b'{"status":500}'),
        (hangs, 500, b'{"status":500}'),
    ],
)
async def test_handshake_is_refused(
    autojump_clock: Any, app: Any, status: int, body: bytes
) -> None:
    """An application that does not accept is answered for, with a body, in bounded time."""
    client = WSClient(None)
    async with handed_over(handover(app), client.hello()) as stream:
        client.stream = stream
        assert (await client.next(RejectConnection)).status_code == status
        assert bytes((await client.next(RejectData)).data) == body
        await client.read_until_end()


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        (
            (b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 12"),
            400,
            b"sec-websocket-version",
        ),
        ((b"Sec-WebSocket-Key", b"Sec-WebSocket-Quay"), 400, b"content-length"),
    ],
)
async def test_wrong_handshake_is_refused(
    autojump_clock: Any, change: tuple[bytes, bytes], status: int, field: bytes
) -> None:
    """A handshake that is none never reaches the application, and says what was expected."""
    hello = WSClient(None).hello().replace(*change)
    async with handed_over(handover(fails), hello) as stream:
        got = await read_all(stream)
    assert got.startswith(b"HTTP/1.1 %d " % status)
    assert field in got.lower()
    assert got.endswith(b'{"status":%d}' % status)


async def test_frames_before_the_answer_are_refused(autojump_clock: Any) -> None:
    """A client has to wait for the answer to its handshake."""
    async with handed_over(handover(hangs), WSClient(None).hello() + b"\x81\x80\0\0\0\0") as stream:
        assert (await read_all(stream)).startswith(b"HTTP/1.1 400 ")


async def test_upgrade_with_a_body_is_plain_http(autojump_clock: Any) -> None:
    """A request that has a body cannot become a WebSocket in the middle of it."""
    hello = WSClient(None).hello().replace(b"Upgrade:", b"Content-Length: 2\r\nUpgrade:", 1)
    async with handed_over(handover(), hello + b"hi") as stream:
        got = bytes(await stream.receive_some(65536))
    assert got.startswith(b"HTTP/1.1 200 ")
    assert got.endswith(b"\r\n\r\nhi")


async def test_compression_is_not_offered(autojump_clock: Any) -> None:
    """A client that would compress is told nothing of it."""
    hello = WSClient(None).hello(sec_websocket_extensions="permessage-deflate")
    async with handed_over(handover(), hello) as stream:
        got = bytes(await stream.receive_some(65536))
    assert got.startswith(b"HTTP/1.1 101 ")
    assert b"deflate" not in got


@pytest.mark.parametrize("sizes", [[1001], [500, 500, 1], [0, 1001]])
async def test_long_message_ends_it(autojump_clock: Any, sizes: list[int]) -> None:
    """A message beyond the limit is not kept: 1009, however it is cut."""
    client = WSClient(None)
    async with handed_over(handover(), client.hello()) as stream:
        await connected(stream, client)
        for n, size in enumerate(sizes):
            is_last = n == len(sizes) - 1
            await client.send(BytesMessage(data=bytes(size), message_finished=is_last))
        assert (await client.next(CloseConnection)).code == 1009
        await client.read_until_end()


async def test_message_of_the_limit_passes(autojump_clock: Any) -> None:
    """Exactly the limit is within it, counted in bytes."""
    client = WSClient(None)
    async with handed_over(handover(), client.hello()) as stream:
        await connected(stream, client)
        await client.send(TextMessage(data="\u00e9" * 500))
        assert (await client.next(TextMessage)).data == "\u00e9" * 500
        await client.send(TextMessage(data="\u00e9" * 501))
        assert (await client.next(CloseConnection)).code == 1009


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x83\x80\0\0\0\0", 1002),  # a reserved opcode
        (b"\xc1\x80\0\0\0\0", 1002),  # a reserved bit
        (b"\x81\x01x", 1002),  # not masked
        (b"\x81\x82\0\0\0\0\xff\xff", 1007),  # not UTF-8
        (b"\x80\x80\0\0\0\0", 1002),  # a continuation of nothing
    ],
)
async def test_broken_frame_ends_it_with_a_reason(
    autojump_clock: Any, frame: bytes, code: int
) -> None:
    """What is no WebSocket is told so, and costs that connection."""
    client = WSClient(None)
    async with handed_over(handover(), client.hello()) as stream:
        await connected(stream, client)
        await stream.send_all(frame)
        assert (await client.next(CloseConnection)).code == code
        await client.read_until_end()


async def test_flood_of_messages_waits(autojump_clock: Any) -> None:
    """Messages beyond the rate are taken at the rate; none is lost."""
    count = WEB_SOCKETS.burst + 300
    client = WSClient(None)
    async with handed_over(handover(), client.hello()) as stream:
        await connected(stream, client)
        began = trio.current_time()
        await stream.send_all(
            b"".join(client.connection.send(Ping(payload=b"%d" % n)) for n in range(count))
        )
        for n in range(count):
            assert bytes((await client.next(Pong)).payload) == b"%d" % n
        took = trio.current_time() - began
        assert took == pytest.approx(300 / WEB_SOCKETS.messages_per_second, rel=0.1)


async def test_silent_peer_is_pinged_and_then_left(autojump_clock: Any) -> None:
    """A peer that shows no sign of life is pinged, and after the idle time the connection ends."""
    client = WSClient(None)
    async with handed_over(handover(), client.hello()) as stream:
        await connected(stream, client)
        began = trio.current_time()
        await client.next(Ping)
        assert trio.current_time() - began == pytest.approx(WEB_SOCKETS.ping, abs=0.1)
        assert (await client.next(CloseConnection)).code == 1001
        assert trio.current_time() - began == pytest.approx(WEB_SOCKETS.idle, abs=0.1)


async def test_peer_that_answers_pings_stays(autojump_clock: Any) -> None:
    """A quiet peer that answers pings is not idle."""
    client = WSClient(None)
    async with handed_over(handover(), client.hello()) as stream:
        await connected(stream, client)
        for _ in range(10):
            await client.send((await client.next(Ping)).response())
        await client.send(TextMessage(data="still here"))
        assert (await client.next(TextMessage)).data == "still here"


async def test_closing_says_goodbye(autojump_clock: Any) -> None:
    """On closing, 1001 goes to each WebSocket; the application hears of it, and all ends soon."""
    codes: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            pass
        codes.append(message["code"])

    front = handover(app)
    polite, silent = WSClient(None), WSClient(None)
    async with handed_over(front, polite.hello()) as one, handed_over(front, silent.hello()) as two:
        await connected(one, polite)
        await connected(two, silent)
        began = trio.current_time()
        await front.close()
        goodbye = await polite.next(CloseConnection)
        assert goodbye.code == 1001
        await polite.send(goodbye.response())
        await polite.read_until_end()
        assert trio.current_time() - began < 0.1
        await silent.read_until_end()
        assert trio.current_time() - began <= WEB_SOCKETS.closing + LIMITS.linger + 0.1
    assert len(codes) == 2
    assert front.connections == 0


@pytest.mark.parametrize("is_polite", [True, False])
async def test_application_that_never_stops_is_ended(autojump_clock: Any, is_polite: bool) -> None:
    """An application that goes on sending to nobody is cancelled, and never holds up the loop."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        while True:
            await send({"type": "websocket.send", "text": "more"})

    client = WSClient(None)
    async with handed_over(handover(app), client.hello()) as stream:
        await connected(stream, client)
        await client.next(TextMessage)
        if is_polite:
            await client.send(CloseConnection(code=1000))


async def test_application_that_does_not_listen_is_waited_for(autojump_clock: Any) -> None:
    """Messages that nobody takes fill a bounded queue, and then the peer's socket."""
    taken = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await trio.sleep_forever()

    client = WSClient(None)
    async with handed_over(handover(app), client.hello()) as stream:
        await connected(stream, client)
        message = client.connection.send(BytesMessage(data=bytes(900)))
        with trio.move_on_after(5):
            while True:
                await stream.send_all(message)
                taken += 1
        assert 0 < taken < 5000
        assert (await client.next(CloseConnection)).code == 1011


async def test_cancelling_leaves_nothing(autojump_clock: Any) -> None:
    """Cancelled at any checkpoint, the socket is closed and nothing is counted as open."""

    async def scenario(point: CancellationPoint) -> None:
        client = WSClient(None)
        front = handover()
        ours, theirs = socket_pair()
        client.stream = ours

        async def talk() -> None:
            await client.next(AcceptConnection)
            await client.send(TextMessage(data=HOST))
            await client.next(TextMessage)
            await client.send(CloseConnection(code=1000))
            await client.read_until_end()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(quietly, talk)
            with point:
                await front(theirs, client.hello(), None)
            assert theirs.socket.fileno() == -1
            assert front.connections == 0
        await ours.aclose()

    async def quietly(talk: Any) -> None:
        try:
            await talk()
        except (AssertionError, trio.BrokenResourceError):
            pass  # cut off in the middle

    assert await sweep_cancellations(scenario) > 5


async def test_closing_at_any_moment_is_safe(autojump_clock: Any) -> None:
    """A front may be closed while one of its connections is in the middle of ending."""
    for steps in range(40):
        front = handover()
        client = WSClient(None)
        ours, theirs = socket_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(front, theirs, client.hello(), None)
            await connected(ours, client)
            await ours.aclose()
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            await front.close()
        assert front.connections == 0
