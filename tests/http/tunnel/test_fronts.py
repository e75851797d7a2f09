"""Tunnels that fronts give their applications: the engine's, Hypercorn's, and those under TLS."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.http.engine.errors import LocalProtocolError
from bulkhead_trio.http.engine.server import HTTPServer
from bulkhead_trio.http.tunnel import TUNNEL, ByteStream

from ._ends import (
    FRONTS,
    LIMITS,
    PLAIN,
    PLAIN_FRONTS,
    UPGRADE,
    Application,
    answer,
    echo,
    read_all,
    read_exactly,
    read_until,
    read_what_comes,
    reset,
    serving,
    upgraded,
)

LONG = 200.0

every_front = pytest.mark.parametrize("kind", FRONTS)
plain_fronts = pytest.mark.parametrize("kind", PLAIN_FRONTS)


# --- 101 -----------------------------------------------------------------------------------------


@every_front
async def test_tunnel_carries_every_byte(kind: str, tmp_path: Path) -> None:
    """Both ways at once, whatever they are; beginning with what came together with the head. On
    the real clock: full sockets take the kernel some of its own time now and then."""
    application = Application(echo)
    data = random.Random(1).randbytes(400_000)
    async with serving(kind, application, tmp_path) as front, front.connect() as stream:
        head = await upgraded(stream, ahead=data[:5000])

        async def send() -> None:
            await stream.send_all(data[5000:])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            assert await read_exactly(stream, len(data)) == data
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        lines = head.lower().split(b"\r\n")
        for line in (b"connection: upgrade", b"upgrade: websocket", b"x-a: b"):
            assert lines.count(line) == 1
        assert not [line for line in lines if line.startswith((b"content-length", b"transfer-"))]
        assert sum(line.startswith(b"date: ") for line in lines) == 1
        await stream.aclose()
        await front.wait_at_rest()
    assert application.ended == ["done"]


@every_front
async def test_silence_is_no_matter(kind: str, tmp_path: Path, autojump_clock: MockClock) -> None:
    """The times that HTTP has for heads, bodies and idleness are over with it."""
    async with serving(kind, Application(echo), tmp_path) as front, front.connect() as stream:
        await upgraded(stream)
        for word in (b"one", b"two"):
            await trio.sleep(LONG)
            await stream.send_all(word)
            assert await read_until(stream, word) == word
        assert front.front.connections == 1


@every_front
async def test_application_ends_the_tunnel(
    kind: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """By closing it, or by returning: the client reads all, then a clean end."""

    async def closes(stream: ByteStream) -> None:
        await stream.write(b"bye")
        await stream.aclose()
        await stream.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await stream.read_piece()
        with pytest.raises(trio.ClosedResourceError):
            await stream.write(b"x")

    async def returns(stream: ByteStream) -> None:
        await stream.write(b"bye")

    async def fails(stream: ByteStream) -> None:
        await stream.write(b"bye")
        raise trio.ClosedResourceError  # as whatever it pumps into might

    for handle in (closes, returns, fails):
        application = Application(handle)
        is_mistake = handle is fails
        async with (
            serving(kind, application, tmp_path, logs_mistakes=is_mistake) as front,
            front.connect() as stream,
        ):
            await upgraded(stream, ahead=b"not read by anybody")
            assert await read_all(stream) == b"bye"
            await stream.aclose()
            await front.wait_at_rest()
        assert application.ended == ["ClosedResourceError" if is_mistake else "done"]


@plain_fronts
async def test_client_that_finishes_is_still_sent_to(
    kind: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """It is told by an empty piece, and the other half goes on for as long as it likes."""

    async def handle(stream: ByteStream) -> None:
        asked = b""
        while data := await stream.read_piece():
            asked += data
        assert await stream.read_piece() == b""
        for _ in range(3):
            await trio.sleep(LONG)
            await stream.write(asked)

    application = Application(handle)
    async with serving(kind, application, tmp_path) as front, front.connect() as stream:
        await upgraded(stream, ahead=b"qu")
        await stream.send_all(b"estion")
        assert isinstance(stream, trio.SocketStream)
        await stream.send_eof()
        assert await read_all(stream) == b"question" * 3
        await stream.aclose()
        await front.wait_at_rest()
    assert application.ended == ["done"]


@plain_fronts
async def test_application_that_finishes_is_still_sent_to(
    kind: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """And gets all of it, although both have finished then."""
    got = b""

    async def handle(stream: ByteStream) -> None:
        nonlocal got
        await stream.write(b"hello")
        await stream.send_eof()
        await stream.send_eof()
        with pytest.raises(trio.ClosedResourceError):
            await stream.write(b"x")
        await trio.sleep(1)  # so that the rest, and its end, are here already
        while data := await stream.read_piece():
            got += data

    application = Application(handle)
    async with serving(kind, application, tmp_path) as front, front.connect() as stream:
        await upgraded(stream)
        assert await read_all(stream) == b"hello"
        await stream.send_all(b"x" * 2000)
        await stream.aclose()
        await front.wait_at_rest()
    assert (application.ended, got) == (["done"], b"x" * 2000)


async def test_tls_ends_as_a_whole(tmp_path: Path, autojump_clock: MockClock) -> None:
    """It has no half: who finishes there reads no more."""

    async def handle(stream: ByteStream) -> None:
        await stream.send_eof()
        assert await stream.read_piece() == b""

    application = Application(handle)
    async with serving("tls", application, tmp_path) as front, front.connect() as stream:
        await upgraded(stream)
        assert await read_all(stream) == b""  # told by close_notify, otherwise it would raise
        await stream.aclose()
        await front.wait_at_rest()
    assert application.ended == ["done"]


@every_front
async def test_client_that_breaks_off_is_noticed(
    kind: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """By who reads as well as by who writes, and whatever it was doing is over at once."""

    async def writes(stream: ByteStream) -> None:
        while True:
            await stream.write(b"x")
            await trio.sleep(0.1)

    for handle in (echo, writes):
        application = Application(handle)
        async with serving(kind, application, tmp_path) as front:
            async with front.connect() as stream:
                await upgraded(stream)
                began = trio.current_time()
                reset(stream)
            await front.wait_at_rest()
            assert trio.current_time() - began <= LIMITS.linger + 0.5
        assert application.running == 0
        assert len(application.ended) == 1


@every_front
async def test_client_that_does_not_read_is_cut_off(
    kind: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The limit for writing holds in a tunnel too."""

    async def handle(stream: ByteStream) -> None:
        while True:
            await stream.write(b"x" * 60_000)

    application = Application(handle)
    async with serving(kind, application, tmp_path) as front, front.connect() as stream:
        await upgraded(stream)
        began = trio.current_time()
        while application.running:
            await trio.sleep(0.1)
        assert LIMITS.write - 0.2 <= trio.current_time() - began <= LIMITS.write + 2.0
    assert application.ended != ["done"]


@every_front
async def test_application_that_does_not_read_stops_the_client(
    kind: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Its memory is the sockets': a flood ends where they are full."""

    async def handle(stream: ByteStream) -> None:
        await trio.sleep(LONG)
        while await stream.read_piece():
            pass

    sent = 0
    async with serving(kind, Application(handle), tmp_path) as front, front.connect() as stream:
        await upgraded(stream)
        with trio.move_on_after(LONG / 2):
            while True:
                await stream.send_all(b"x" * 65_536)
                sent += 65_536
    assert sent < 8_000_000


# --- no 101 --------------------------------------------------------------------------------------


@every_front
@pytest.mark.parametrize("ahead", [b"", PLAIN], ids=["alone", "sent ahead"])
async def test_connection_goes_on_after_another_answer(
    kind: str, ahead: bytes, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """A refusal is an answer as any other: more requests may follow, or have been sent already."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if TUNNEL in scope["extensions"]:
            await answer(send, b"refused", status=404)
        else:
            await answer(send, b"plain")

    async with serving(kind, app, tmp_path) as front, front.connect() as stream:
        await stream.send_all(UPGRADE + ahead)
        assert (await read_until(stream, b"refused")).startswith(b"HTTP/1.1 404 ")
        if not ahead:
            await trio.sleep(1)
            await stream.send_all(PLAIN)
        assert (await read_until(stream, b"plain")).startswith(b"HTTP/1.1 200 ")
        await stream.send_all(UPGRADE)
        await read_until(stream, b"refused")
        await stream.send_all(PLAIN)
        await read_until(stream, b"plain")


@every_front
async def test_tunnel_after_other_requests(
    kind: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """A connection that has had answers may become a tunnel, also when all was sent ahead."""
    async with serving(kind, Application(echo), tmp_path) as front, front.connect() as stream:
        await stream.send_all(PLAIN + PLAIN + UPGRADE + b"raw bytes")
        await read_until(stream, b"plain")
        await read_until(stream, b"plain")
        assert (await read_until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert await read_until(stream, b"raw bytes") == b"raw bytes"


@every_front
@pytest.mark.parametrize(
    "request_bytes",
    [
        UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"),
        UPGRADE.replace(b"GET", b"POST"),
        UPGRADE.replace(b", Upgrade", b""),
        UPGRADE.replace(b": WebSocket", b": h2c"),
        UPGRADE.replace(b": WebSocket", b": websocket, h2c"),
        UPGRADE.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\nx"),
    ],
    ids=["1.0", "POST", "no token", "h2c", "two", "body"],
)
async def test_tunnel_is_not_offered(
    kind: str, request_bytes: bytes, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """What does not ask for a WebSocket, and for nothing else, is plain HTTP."""
    async with (
        serving(kind, Application(echo), tmp_path) as front,
        front.connect() as stream,
    ):
        await stream.send_all(request_bytes)
        assert (await read_until(stream, b"plain")).startswith(b"HTTP/1.1 200 ")


async def test_server_made_without_tunnels_offers_none(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The scope is as it always was."""
    async with (
        serving("engine", Application(echo), tmp_path, tunnels=False) as front,
        front.connect() as stream,
    ):
        await stream.send_all(UPGRADE)
        assert (await read_until(stream, b"plain")).startswith(b"HTTP/1.1 200 ")


@every_front
async def test_tunnel_is_opened_once_and_in_time(
    kind: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Not with another status, not with headers that cannot be sent, not after or before another
    answer."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        opening = scope["extensions"][TUNNEL]
        for status, headers in ((200, []), (101, [(b"X-A", b"b\r\nX-C: d")])):
            with pytest.raises(LocalProtocolError):
                await opening(status, headers)
        if b"early" in scope["query_string"]:
            await send({"type": "http.response.start", "status": 200, "headers": [
                (b"content-length", b"2")]})  # fmt: skip
            with pytest.raises(LocalProtocolError):
                await opening(101, [])
            await send({"type": "http.response.body", "body": b"ok"})
            return
        stream = await opening(101, [])
        with pytest.raises(LocalProtocolError):
            await opening(101, [])
        with pytest.raises(LocalProtocolError):
            await answer(send, b"too late")
        await stream.write(b"all is well")

    async with serving(kind, app, tmp_path) as front:
        async with front.connect() as stream:
            await stream.send_all(UPGRADE.replace(b"x=1", b"early"))
            assert (await read_until(stream, b"ok")).startswith(b"HTTP/1.1 200 ")
        async with front.connect() as stream:
            assert (await upgraded(stream)).count(b"\r\n") >= 3
            assert await read_all(stream) == b"all is well"


# --- the end of the server -----------------------------------------------------------------------


@every_front
async def test_closing_front_cuts_tunnels_off(
    kind: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """They have no end of their own in sight; the client is told, by a clean end."""
    application = Application(echo)
    async with serving(kind, application, tmp_path) as front, front.connect() as stream:
        await upgraded(stream)
        await stream.send_all(b"hello")
        await read_until(stream, b"hello")
        began = trio.current_time()
        await front.front.close()
        assert await read_all(stream) == b""
        await front.wait_at_rest()
        assert trio.current_time() - began <= 2 * LIMITS.linger + 0.5
    assert application.running == 0


async def test_cut_off_engine_says_nothing_into_a_tunnel(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """What is cut off is answered 503, but not where the answer was 101."""
    async with serving("engine", Application(echo), tmp_path) as front, front.connect() as stream:
        await upgraded(stream)
        await trio.sleep(1)
        assert isinstance(front.front, HTTPServer)
        assert front.front.statistics().connections == {"tunnel": 1}
        front.front.cut_off(lambda status, _: ([], b"cut off", status))
        assert await read_all(stream) == b""


class StepCounter(trio.abc.Instrument):
    """Cancels ``scope`` after so many steps of any task."""

    def __init__(self, number: int, scope: trio.CancelScope) -> None:
        self.left = number
        self._scope = scope

    def after_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002
        self.left -= 1
        if not self.left:
            self._scope.cancel()


@every_front
async def test_server_cancelled_at_any_step_leaves_nothing(
    kind: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """While a tunnel is opened, used and closed."""
    number, was_reached = 1, True
    while was_reached:
        async with serving(kind, Application(echo), tmp_path) as front, front.connect() as stream:
            counter = StepCounter(number, front.scope)
            trio.lowlevel.add_instrument(counter)
            try:
                with trio.move_on_after(60):
                    await stream.send_all(UPGRADE + b"a")
                    await trio.sleep(0.5)
                    await stream.send_all(b"b" * 70_000)
                    await trio.sleep(0.5)
                    await stream.aclose()
                    await front.wait_at_rest()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await read_what_comes(stream)
            finally:
                trio.lowlevel.remove_instrument(counter)
            was_reached = front.scope.cancel_called
        number += 1 if number < 40 else 7
    assert number > 20
