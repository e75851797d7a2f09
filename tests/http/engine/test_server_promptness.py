"""Nobody waits for longer than there is a reason to: for a peer's end, or for others' answers."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from ._serving import LIMITS, PIECES, THINKING_SECONDS, Served, serving

HOST = b" HTTP/1.1\r\nHost: x\r\n"
AT_ONCE = THINKING_SECONDS + 0.02
LOOKED_AT = LIMITS.half_closed + 0.2
"""Limits are looked at every 0.1 s."""

ENDINGS = {
    "nothing": (b"", b"", AT_ONCE),
    "half a head": (b"GET /bo", b"400 ", AT_ONCE),
    "a request": (b"GET /body" + HOST + b"\r\n", b"200 ", AT_ONCE),
    "two requests": ((b"GET /body" + HOST + b"\r\n") * 2, b"200 ", 2 * AT_ONCE),
    "a body": (b"POST /body" + HOST + b"Content-Length: 2\r\n\r\nhi", b"200 ", AT_ONCE),
    "half a body": (b"POST /body" + HOST + b"Content-Length: 9\r\n\r\nhi", b"400 ", AT_ONCE),
    "a body that is not read": (
        b"POST /early" + HOST + b"Content-Length: 200000\r\n\r\n" + b"x" * 200_000,
        b"200 ",
        AT_ONCE,
    ),
    "what is no request": (b"nonsense\r\n\r\n" + b"x" * 200_000, b"400 ", AT_ONCE),
    "a request to one who is busy": (b"GET /sleep" + HOST + b"\r\n", b"", LOOKED_AT),
    "a request to one who waits": (b"GET /wait" + HOST + b"\r\n", b"", LOOKED_AT),
    "refused requests": ((b"GET /refuse" + HOST + b"\r\n") * 9, b"429 ", LOOKED_AT),
}


def finish(sock: socket.socket) -> None:
    sock.shutdown(socket.SHUT_WR)


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def seconds_until_over(
    served: Served, data: bytes, end: Callable[[socket.socket], None]
) -> tuple[float, bytes]:
    """How long the server keeps a connection whose client ends so, and what it has said."""
    sock = served.connect()
    sock.setblocking(False)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
    with sock, trio.fail_after(30):
        await stream.send_all(data)
        if end is reset:
            await trio.sleep(0.01)
        began = trio.current_time()
        end(sock)
        said = b""
        if end is finish:
            while not said.endswith(b"\r\n\r\n") and (piece := await receive(stream)):
                said += piece
        while served.server.connections:
            await trio.sleep(0.001)
    return trio.current_time() - began, said


async def receive(stream: trio.SocketStream) -> bytes:
    try:
        return bytes(await stream.receive_some(65_536))
    except trio.BrokenResourceError:
        return b""


@pytest.mark.parametrize("name", ENDINGS)
def test_connection_whose_client_has_finished_sending_ends_soon(name: str) -> None:
    """It is answered where it can be, and then it is over."""

    async def main() -> None:
        data, expected, at_most = ENDINGS[name]
        async with serving() as served:
            seconds, said = await seconds_until_over(served, data, finish)
            assert expected in said
            assert seconds <= at_most, said
            served.assert_at_rest()

    trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("target", [b"sleep", b"wait", b"large", b"body"])
def test_application_whose_client_has_gone_is_cancelled_at_once(target: bytes) -> None:
    """Whatever it is doing: nobody is there to do it for."""

    async def main() -> None:
        async with serving() as served:
            data = b"POST /" + target + HOST + b"Content-Length: 9\r\n\r\nhi"
            seconds, _ = await seconds_until_over(served, data, reset)
            assert seconds <= 0.01
            assert served.application.ended == {"cancelled": 1}
            served.assert_at_rest()

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_answer_in_many_pieces_lets_others_have_the_loop() -> None:
    """However fast its client reads: a few writes, and then it is the others' turn."""

    async def main() -> None:
        async with serving() as served, trio.open_nursery() as nursery:
            turns = 0

            async def others() -> None:
                nonlocal turns
                while not served.application.running:
                    await trio.lowlevel.checkpoint()
                while served.application.running:
                    turns += 1
                    await trio.lowlevel.checkpoint()

            nursery.start_soon(others)
            data = b"GET /pieces" + HOST + b"\r\n"
            _, said = await seconds_until_over(served, data, finish)
            assert said.count(b"1\r\nx\r\n") == PIECES
            assert turns > PIECES // 20

    trio.run(main, clock=MockClock(autojump_threshold=0))
