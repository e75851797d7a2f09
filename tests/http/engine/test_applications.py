"""What applications may do in an order of their own, and clients that make it hard for them."""

from __future__ import annotations

import contextlib
import itertools
import socket
from typing import Any

import attrs
import pytest
import trio

from bulkhead_trio.http.engine._turn_rules import MOST_ACCOUNTS, OTHERS, Turns
from bulkhead_trio.http.engine.server import HTTPServer

from ._serving import LIMITS, Application, Served, answer, render_error, serving

HEAD = b" HTTP/1.1\r\nHost: x\r\n"
END = b"Connection: close\r\n\r\n"


@attrs.define
class Unusual(Application):
    """Does things late, early or twice."""

    seen: list[str] = attrs.field(factory=list)
    shared: Any = None

    async def echo(self, _: Any, receive: Any, send: Any) -> None:
        """Begins its answer, and reads afterwards."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            message = await receive()
            more = message.get("more_body", False)
            await send({"type": "http.response.body", "body": message["body"], "more_body": more})

    async def head_first(self, _: Any, receive: Any, send: Any) -> None:
        """Has sent half of its answer when it asks for the body."""
        headers = [(b"content-length", b"10")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"AAAAA", "more_body": True})
        message = await receive()
        await send({"type": "http.response.body", "body": message["body"]})

    async def empty(self, _: Any, __: Any, send: Any) -> None:
        """Says how long an answer is that has no body."""
        headers = [(b"content-length", b"5")]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def shielded(self, _: Any, receive: Any, send: Any) -> None:
        """Sends on when it has been cancelled."""
        await receive()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                try:
                    for _number in range(100):
                        await send_piece(send, b"x" * 65_536)
                except OSError as error:
                    self.seen.append(type(error).__name__)
                self.seen.append((await receive())["type"])

    async def waits_twice(self, _: Any, receive: Any, __: Any) -> None:
        """Listens in two tasks."""

        async def listen() -> None:
            self.seen.append((await receive())["type"])

        await receive()
        with contextlib.suppress(OSError):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen)
                nursery.start_soon(listen)

    async def framework(self, _: Any, receive: Any, send: Any) -> None:
        """Gives up when it hears that the client has gone, as Quart does."""
        await receive()
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                await receive()
                nursery.cancel_scope.cancel()

            nursery.start_soon(listen)
            await trio.sleep(self.shared)
            await answer(send, b"ready")
            nursery.cancel_scope.cancel()


async def send_piece(send: Any, piece: bytes) -> None:
    if send.__self__._answer is None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": piece, "more_body": True})


async def exchange(served: Served, *pieces: bytes, gap: float = 0.01) -> bytes:
    """Send the pieces one after the other; all that comes back until the server closes."""
    client = trio.SocketStream(trio.socket.from_stdlib_socket(served.connect()))
    async with client:
        for piece in pieces:
            await client.send_all(piece)
            await trio.sleep(gap)
        return b"".join([piece async for piece in client])


@pytest.mark.parametrize(
    ("framing", "body", "cuts"),
    [
        (b"Content-Length: 10\r\n", b"helloworld", [5]),
        (b"Content-Length: 10\r\n", b"helloworld", []),
        (b"Content-Length: 10\r\n", b"helloworld", [0]),
        (b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n", [10]),
        (b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n", []),
        (b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n", [3, 10, 12]),
    ],
)
async def test_body_read_behind_the_head_of_the_answer_is_whole(
    autojump_clock: Any, framing: bytes, body: bytes, cuts: list[int]
) -> None:
    """An application that answers while it reads gets every byte, however they come."""
    places = [0, *cuts, len(body)]
    pieces = [body[a:b] for a, b in itertools.pairwise(places)]
    head = b"POST /echo" + HEAD + framing + END
    async with serving(application=Unusual()) as served:
        said = await exchange(served, head + pieces[0], *pieces[1:])
    assert said.startswith(b"HTTP/1.1 200")
    assert (
        said.replace(b"\r\n", b"")
        .replace(b"5hello5world0", b"helloworld0")
        .endswith((b"helloworld0", b"ahelloworld0"))
    )


async def test_nobody_is_told_to_go_on_in_the_middle_of_an_answer(autojump_clock: Any) -> None:
    """100 Continue comes before an answer or not at all."""
    head = b"POST /head_first" + HEAD + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    async with serving(application=Unusual()) as served:
        said = await exchange(served, head, b"hello")
    assert b"100 Continue" not in said
    assert said.endswith(b"\r\n\r\nAAAAAhello")


async def test_answer_without_content_has_no_length(autojump_clock: Any) -> None:
    """204 says nothing of a length, whatever the application says."""
    async with serving(application=Unusual()) as served:
        said = await exchange(served, b"GET /empty" + HEAD + END)
    assert said.startswith(b"HTTP/1.1 204")
    assert b"content-length" not in said.lower()


async def test_field_that_is_not_ours_leaves_the_next_request_alone(autojump_clock: Any) -> None:
    """What a parser makes of Proxy-Connection is nothing to the request after it."""
    request = b"GET /small" + HEAD + b"Proxy-Connection: close\r\n\r\n"
    async with serving() as served:
        said = await exchange(served, request, request, b"GET /small" + HEAD + END)
    assert said.count(b"HTTP/1.1 200") == 3


async def test_request_that_names_an_upgrade_but_does_not_ask_for_one_stays(
    autojump_clock: Any,
) -> None:
    """Without Connection: upgrade it is a request like any other, with its turns and limits."""

    async def handover(*_: Any) -> None:
        raise AssertionError("it was handed over")

    async with trio.open_nursery() as nursery:
        application = Application()
        server = HTTPServer(
            application, limits=LIMITS, render_error=render_error, handover=handover
        )
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        address = listeners[0].socket.getsockname()[:2]
        await nursery.start(server.serve, listeners)
        client = await trio.open_tcp_stream(*address)
        async with client:
            await client.send_all(b"GET /small" + HEAD + b"Upgrade: websocket\r\n" + END)
            said = b"".join([piece async for piece in client])
        assert said.startswith(b"HTTP/1.1 200")
        nursery.cancel_scope.cancel()


async def test_empty_lines_are_no_request_and_do_not_stop_the_loop(autojump_clock: Any) -> None:
    """A few are passed over; a flood of them is refused at once."""
    async with serving() as served:
        said = await exchange(served, b"\r\n\r\n", b"\r\nGET /small" + HEAD + END)
        assert said.startswith(b"HTTP/1.1 200")
        said = await exchange(served, *[b"\r\n"] * 40, gap=0.0001)
        assert said.startswith(b"HTTP/1.1 400")


async def test_what_an_application_shields_ends_when_the_client_has_gone(
    autojump_clock: Any,
) -> None:
    """It is told, as ASGI wants it; it never waits for a client that is not there."""
    application = Unusual()
    async with serving(application=application) as served:
        with served.connect() as client:
            client.send(b"GET /shielded" + HEAD + b"\r\n")
            await trio.sleep(0.05)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await served.wait_at_rest()
    assert application.seen == ["ClientGone", "http.disconnect"]


async def test_two_tasks_that_listen_both_hear(autojump_clock: Any) -> None:
    """No wake-up is lost where an application asks twice at once."""
    application = Unusual()
    async with serving(application=application) as served:
        with served.connect() as client:
            client.send(b"GET /waits_twice" + HEAD + b"\r\n")
            await trio.sleep(0.05)
            client.shutdown(socket.SHUT_WR)
            await trio.sleep(LIMITS.half_closed * 10)
        await served.wait_at_rest()
    assert application.seen in ([], ["http.disconnect"] * 2)


@pytest.mark.parametrize(
    ("seconds", "status"), [(LIMITS.half_closed / 2, b"HTTP/1.1 200"), (60.0, b"")]
)
async def test_client_that_has_finished_sending_gets_an_answer_that_is_nearly_ready(
    autojump_clock: Any, seconds: float, status: bytes
) -> None:
    """Frameworks that give up when told so have that time, and leave no accident behind."""
    async with serving(application=Unusual(shared=seconds)) as served:
        client = trio.SocketStream(trio.socket.from_stdlib_socket(served.connect()))
        async with client:
            await client.send_all(b"GET /framework" + HEAD + b"\r\n")
            await client.send_eof()
            said = b"".join([piece async for piece in client])
        assert said[: len(b"HTTP/1.1 200")] == status
        await served.wait_at_rest()


async def test_connection_that_has_said_nothing_is_closed_at_once_by_a_server_that_closes(
    autojump_clock: Any,
) -> None:
    """Spare connections do not make a shutdown wait."""
    async with serving() as served:
        with served.connect() as client:
            await trio.sleep(0.05)
            assert served.server.connections == 1
            await served.server.close()
            began = trio.current_time()
            client.setblocking(False)
            while True:
                with contextlib.suppress(BlockingIOError):
                    assert client.recv(1) == b""
                    break
                await trio.sleep(0.01)
            assert trio.current_time() - began < 0.5


def test_accounts_are_not_without_end() -> None:
    """Names are an application's to give; beyond so many they share one."""
    turns: Turns[object] = Turns()
    for number in range(3 * MOST_ACCOUNTS):
        turns.account(str(number))
    assert len(turns.spent()) == MOST_ACCOUNTS + 1
    assert turns.account("new").name == OTHERS
    assert turns.account("5").name == "5"
