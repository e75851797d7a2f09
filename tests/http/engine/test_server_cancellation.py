"""Something happens at each step that a server takes: nothing is left, and nobody is forgotten."""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Callable

import attrs
import pytest
import trio
from trio.testing import MockClock

from ._serving import IN_SERVER, LARGE, PIECE, Served, serving

MOST_STEPS = 2000
HOST = b" HTTP/1.1\r\nHost: x\r\n"

Conversation = Callable[["Client"], Awaitable[bytes]]


@attrs.define
class Client:
    """A client's side of one connection; whatever the server does, it goes on as far as it can."""

    sock: trio.socket.SocketType

    async def send(self, data: bytes) -> None:
        while data:
            data = data[await self.sock.send(data) :]
        await trio.lowlevel.checkpoint()

    async def read_until(self, end: bytes) -> bytes:
        said = b""
        while not said.endswith(end) and (piece := await self.sock.recv(4096)):
            said += piece
        return said

    async def read_all(self) -> bytes:
        said = b""
        while piece := await self.sock.recv(4096):
            said += piece
        return said


async def body_in_pieces(client: Client) -> bytes:
    """Head and body, each in two pieces with a pause between; then another request."""
    await client.send(b"POST /body" + HOST)
    await trio.sleep(0.3)
    await client.send(b"Content-Length: 6\r\n\r\nabc")
    await trio.sleep(0.3)
    await client.send(b"def")
    said = await client.read_until(b"\r\n\r\n6")
    await client.send(b"GET /body" + HOST + b"Connection: close\r\n\r\n")
    return said + await client.read_all()


async def told_to_go_on(client: Client) -> bytes:
    """Waits for 100 before it sends its chunks."""
    await client.send(b"POST /body" + HOST + b"Expect: 100-continue\r\n")
    await client.send(b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
    said = await client.read_until(b"100 Continue\r\n\r\n")
    await client.send(b"3\r\nabc\r\n")
    await trio.sleep(0.3)
    await client.send(b"0\r\n\r\n")
    return said + await client.read_all()


async def slow_reader(client: Client) -> bytes:
    """Takes an answer that no socket holds, with pauses."""
    await client.send(b"GET /large" + HOST + b"Connection: close\r\n\r\n")
    said = b""
    while piece := await client.sock.recv(65_536):
        said += piece
        await trio.sleep(0.01)
    return said


async def refused(client: Client) -> bytes:
    """Is refused three times, the second and third time in its turn."""
    await client.send((b"GET /refuse" + HOST + b"\r\n") * 3)
    said = b""
    while said.count(b"429 ") < 3 and (piece := await client.sock.recv(4096)):
        said += piece
    return said


async def malformed(client: Client) -> bytes:
    """Sends what is no request, and does not stop."""
    await client.send(b"nonsense\r\n\r\n")
    await trio.sleep(0.2)
    await client.send(b"more of it")
    return await client.read_all()


async def malformed_body(client: Client) -> bytes:
    """Sends chunks that are none while the application answers without reading them."""
    await client.send(b"POST /early" + HOST + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n")
    return await client.read_all()


async def malformed_body_heard(client: Client) -> bytes:
    """The same while it answers and listens at once: whatever is first, it is one answer."""
    await client.send(b"POST /framework" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
    said = await client.read_until(b"early")
    await client.send(b"ZZ\r\n")
    return said + await client.read_all()


async def unread_body(client: Client) -> bytes:
    """Sends a body that the application does not want."""
    await client.send(b"POST /early" + HOST + b"Content-Length: 50000\r\n\r\n")
    await client.send(b"x" * 20_000)
    return await client.read_all()


async def silent(client: Client) -> bytes:
    """Says nothing more after half a head."""
    await client.send(b"GET /body HTTP/1.1\r\nHo")
    return await client.read_all()


async def gone(client: Client) -> bytes:
    """Goes while the application is waiting for it to."""
    await client.send(b"GET /wait" + HOST + b"\r\n")
    await trio.sleep(1)
    return b""


CONVERSATIONS: dict[Conversation, Callable[[bytes], bool]] = {
    body_in_pieces: lambda said: said.count(b"200 OK") == 2,
    told_to_go_on: lambda said: said.endswith(b"\r\n\r\n3"),
    slow_reader: lambda said: said.count(b"x" * 1024) == LARGE * len(PIECE) // 1024,
    refused: lambda said: said.count(b"429 ") == 3,
    malformed: lambda said: said.count(b"HTTP/1.1 400 ") == said.count(b"HTTP/1.1") == 1,
    malformed_body: lambda said: said.count(b"HTTP/1.1 400 ") == said.count(b"HTTP/1.1") == 1,
    malformed_body_heard: lambda said: said.count(b"HTTP/1.1") == 1,
    unread_body: lambda said: said.endswith(b"\r\n\r\nearly"),
    silent: lambda said: said.startswith(b"HTTP/1.1 408 "),
    gone: lambda said: said == b"",
}


class AtStep(trio.abc.Instrument):
    """Does something when the server's tasks have taken so many steps together."""

    def __init__(self, number: int, act: Callable[[], None]) -> None:
        self._number = number
        self._act = act
        self.steps = 0

    @property
    def was_reached(self) -> bool:
        return self.steps >= self._number

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.context.get(IN_SERVER, False):
            self.steps += 1
            if self.steps == self._number:
                self._act()


def cancel(served: Served, sock: socket.socket) -> None:
    """The program is interrupted."""
    served.scope.cancel()


def drain(served: Served, sock: socket.socket) -> None:
    """The server is asked to end well."""
    served.nursery.start_soon(served.server.close)


def reset(served: Served, sock: socket.socket) -> None:
    """The client goes without a word."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    trio.lowlevel.notify_closing(sock)
    sock.close()


def finish(served: Served, sock: socket.socket) -> None:
    """The client finishes sending."""
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the server has closed already


EVENTS = [cancel, drain, reset, finish]


async def converse(
    conversation: Conversation, event: Callable[[Served, socket.socket], None], number: int
) -> tuple[bytes, AtStep]:
    """One conversation during which something happens at the server's so many-th step."""
    async with serving() as served:
        raw = served.connect()
        raw.setblocking(False)
        instrument = AtStep(number, lambda: event(served, raw))
        said = b""
        trio.lowlevel.add_instrument(instrument)
        try:
            with trio.fail_after(60):
                said = await conversation(Client(trio.socket.from_stdlib_socket(raw)))
        except (OSError, trio.ClosedResourceError):
            assert instrument.was_reached
        finally:
            trio.lowlevel.remove_instrument(instrument)
            raw.close()
        await served.wait_at_rest()
    return said, instrument


def run(conversation: Conversation, event: Callable[..., None], number: int) -> tuple[bytes, bool]:
    """In a run of its own, with a clock that jumps."""
    said, instrument = trio.run(
        converse, conversation, event, number, clock=MockClock(autojump_threshold=0)
    )
    return said, instrument.was_reached


@pytest.mark.parametrize("conversation", CONVERSATIONS, ids=lambda function: function.__name__)
def test_conversation_comes_to_its_end_undisturbed(conversation: Conversation) -> None:
    """Each of them says what it should when nothing happens; else the sweeps would prove little."""
    said, _ = run(conversation, cancel, MOST_STEPS)
    assert CONVERSATIONS[conversation](said), said[-500:]


@pytest.mark.parametrize("conversation", CONVERSATIONS, ids=lambda function: function.__name__)
@pytest.mark.parametrize("event", EVENTS, ids=lambda function: function.__name__)
def test_server_leaves_nothing_whatever_happens_at_any_step(
    event: Callable[..., None], conversation: Conversation
) -> None:
    """No connection, task, descriptor or registration, and no call of the application goes on."""
    for number in range(1, MOST_STEPS):
        _, was_reached = run(conversation, event, number)
        if not was_reached:
            break
    assert 5 < number < MOST_STEPS
