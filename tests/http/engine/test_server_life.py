"""The life of connections as a model: what clients do in any order, and what has to come of it.

hypothesis chooses what happens; a run on the mock clock does it, on real sockets.
"""

from __future__ import annotations

import socket
import struct

import attrs
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from ._serving import Served, serving

HOST = b" HTTP/1.1\r\nHost: x\r\n"
REQUESTS = {
    "plain": b"GET /body" + HOST + b"\r\n",
    "length": b"POST /body" + HOST + b"Content-Length: 5\r\n\r\nhello",
    "chunks": b"POST /body" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "unread": b"POST /early" + HOST + b"Content-Length: 5\r\n\r\nhello",
    "refused": b"GET /refuse" + HOST + b"\r\n",
    "large": b"GET /large" + HOST + b"\r\n",
    "last": b"GET /body" + HOST + b"Connection: close\r\n\r\n",
    "malformed": b"GET /body" + HOST + b"A : b\r\n\r\n",
    "malformed body": b"POST /body" + HOST + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
}
LAST = {"last", "malformed", "malformed body"}
"""Nothing is answered behind these."""

CLIENTS = 3
SETTLING_SECONDS = 0.02
"""Real time that the kernel may take to say what has happened."""


@attrs.define
class Client:
    """A client's connection, and what its server owes it."""

    sock: socket.socket
    sent: list[str] = attrs.field(factory=list)
    waiting: bytes = b""
    said: bytes = b""
    has_ended: bool = False
    is_orderly: bool = True

    def begin(self, request: str, share: float) -> None:
        """Send what is left of the request before, and the beginning of another."""
        self.finish()
        data = REQUESTS[request]
        place = max(1, int(len(data) * share))
        self.sent.append(request)
        self.waiting = data[place:]
        self._send(data[:place])

    def finish(self) -> None:
        """Send what is left."""
        data, self.waiting = self.waiting, b""
        if data:
            self._send(data)

    def _send(self, data: bytes) -> None:
        try:
            self.sock.send(data)
        except OSError:
            self.has_ended = True

    def read(self) -> None:
        """Take what is there."""
        while not self.has_ended:
            try:
                piece = self.sock.recv(65_536)
            except BlockingIOError:
                return
            except OSError:
                piece = b""
            self.said += piece
            self.has_ended = not piece

    def shut(self) -> None:
        """Finish sending."""
        self.is_orderly = False
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.has_ended = True

    def reset(self) -> None:
        """Go without a word."""
        self.is_orderly = False
        self.has_ended = True
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    @property
    def owed(self) -> int:
        """How many answers are due to it, where nothing has disturbed the connection."""
        whole = self.sent[:-1] if self.waiting else self.sent
        for number, request in enumerate(whole):
            if request in LAST:
                return number + 1
        return len(whole)

    def assert_answered(self, *, exactly: bool) -> None:
        """One answer a request, in order; fewer only where it was disturbed."""
        statuses = [
            line.split()[1] for line in self.said.split(b"HTTP/1.1 ")[1:] for line in [b". " + line]
        ]
        expected = [_status(request) for request in self.sent]
        assert len(statuses) <= len(expected), (self.sent, statuses)
        for status, wanted in zip(statuses, expected, strict=False):
            assert status == wanted or status in (b"400", b"408"), (self.sent, statuses)
        if exactly:
            assert len(statuses) == self.owed, (self.sent, statuses, self.waiting)


def _status(request: str) -> bytes:
    if request.startswith("malformed"):
        return b"400"
    return b"429" if request == "refused" else b"200"


CLIENT = st.integers(0, CLIENTS - 1)
SHARE = st.sampled_from([0.1, 0.5, 0.9, 1.0, 1.0, 1.0])
STEPS = st.one_of(
    st.tuples(st.just("request"), CLIENT, st.sampled_from(list(REQUESTS)), SHARE),
    st.tuples(st.just("request"), CLIENT, st.sampled_from(list(REQUESTS)), SHARE),
    st.tuples(st.just("finish"), CLIENT),
    st.tuples(st.just("read"), CLIENT),
    st.tuples(st.just("read"), CLIENT),
    st.tuples(st.just("shut"), CLIENT),
    st.tuples(st.just("reset"), CLIENT),
    st.tuples(st.just("pass"), st.sampled_from([0.03, 0.2, 1.5, 4.0])),
    st.tuples(st.just("settle")),
)


class Model:
    """Does what hypothesis chose, and knows what has to come of it."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._clients: dict[int, Client] = {}
        self.has_time_passed = False

    def _client(self, number: int) -> Client:
        if number not in self._clients:
            sock = self._served.connect()
            sock.setblocking(False)
            self._clients[number] = Client(sock)
        return self._clients[number]

    async def do(self, step: tuple[object, ...]) -> None:
        match step:
            case ("request", int(number), str(request), float(share)):
                client = self._client(number)
                if not client.has_ended:
                    client.begin(request, share)
            case ("pass", float(seconds)):
                self.has_time_passed = True
                await trio.sleep(seconds)
            case ("settle",):
                await wait_all_tasks_blocked(SETTLING_SECONDS)
            case (str(what), int(number)) if number in self._clients:
                client = self._clients[number]
                if what == "reset":
                    self._clients.pop(number).reset()
                elif not client.has_ended:
                    getattr(client, what)()
        self._check()

    def _check(self) -> None:
        assert self._served.application.running <= self._served.server.connections

    async def end(self) -> None:
        """Every client finishes, reads everything, and goes; then nothing is left."""
        for client in self._clients.values():
            client.finish()
        for _ in range(400):
            await trio.sleep(0.01)
            for client in self._clients.values():
                client.read()
        for client in self._clients.values():
            client.assert_answered(exactly=client.is_orderly and not self.has_time_passed)
            client.sock.close()
        await self._served.wait_at_rest()


async def live(steps: list[tuple[object, ...]]) -> None:
    async with serving() as served:
        model = Model(served)
        for step in steps:
            await model.do(step)
        await model.end()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(STEPS, max_size=12))
def test_connections_live_as_the_model_says(steps: list[tuple[object, ...]]) -> None:
    """Answers come in order and one a request; and at the end nothing is left of anybody."""
    trio.run(live, steps, clock=MockClock(autojump_threshold=0))
