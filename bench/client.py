"""A cheap HTTP/1.1 client for making load: a raw Trio socket and llhttp's parser.

It costs a few tens of microseconds a request, so that what is measured is the server. It knows
exactly as much HTTP as the server's answers need: status, body, keep-alive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import attrs
import httptools
import msgspec
import trio

RECEIVE_BYTES = 65_536


class ConnectionLost(Exception):
    """The connection ended before a whole answer had arrived.

    Attributes:
        is_stale: the connection had been used before and not a byte of an answer came, so the
            server closed it while it was idle: an idempotent request may be sent again.
    """

    def __init__(self, message: str, *, is_stale: bool) -> None:
        super().__init__(message)
        self.is_stale = is_stale


class _Problem(msgspec.Struct):
    code: str = ""


_problem_decoder = msgspec.json.Decoder(_Problem)


@attrs.frozen
class Answer:
    """What the server said."""

    status: int
    body: bytes

    @property
    def code(self) -> str:
        """The contract's code of a problem answer; ``""`` for a good one."""
        if self.status < 400:
            return ""
        try:
            return _problem_decoder.decode(self.body).code
        except msgspec.DecodeError:
            return "no_problem_document"

    def json(self) -> Any:
        """The decoded body.

        Raises:
            msgspec.DecodeError: the body is not JSON.
        """
        return msgspec.json.decode(self.body)


@attrs.frozen
class Address:
    """Where the server listens."""

    host: str
    port: int


def build_request(address: Address, path: str, headers: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a GET on a connection that stays open."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {address.host}:{address.port}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


class Connection:
    """One keep-alive connection, for one request at a time."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._socket = sock
        self._parser = httptools.HttpResponseParser(self)
        self._answered = 0
        self._body: list[bytes] = []
        self._has_begun = False
        self._is_complete = False
        self.is_reusable = True

    @classmethod
    async def open(cls, address: Address) -> Connection:
        """Connect.

        Raises:
            OSError: nobody listens there, or the system is out of sockets.
        """
        sock = trio.socket.socket()
        try:
            sock.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
            await sock.connect((address.host, address.port))
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    async def request(self, request: bytes) -> Answer:
        """Send ``request`` and read the whole answer.

        Raises:
            ConnectionLost: the connection ended first; it is of no more use.
        """
        self._body.clear()
        self._has_begun = self._is_complete = False
        self.is_reusable = False
        try:
            await self.send(request)
            while not self._is_complete:
                self._feed(await self._socket.recv(RECEIVE_BYTES))
        except (OSError, httptools.HttpParserError) as error:
            raise self._lost(str(error)) from error
        self._answered += 1
        return Answer(self._parser.get_status_code(), b"".join(self._body))

    async def send(self, data: bytes) -> None:
        """Send all of ``data``, be it a whole request or a part of one.

        Raises:
            OSError: the connection is gone.
        """
        sent = await self._socket.send(data)
        while sent < len(data):
            sent += await self._socket.send(data[sent:])

    async def receive(self, max_bytes: int) -> bytes:
        """Receive up to ``max_bytes`` of an answer, raw; for those who mean to go away amid it.

        Raises:
            OSError: the connection is gone.
        """
        return await self._socket.recv(max_bytes)

    def close(self) -> None:
        """Close at once."""
        self._socket.close()

    def _feed(self, data: bytes) -> None:
        if not data:
            raise self._lost("closed by the server")
        self._parser.feed_data(data)

    def _lost(self, message: str) -> ConnectionLost:
        return ConnectionLost(message, is_stale=self._answered > 0 and not self._has_begun)

    # What httptools calls back.

    def on_message_begin(self) -> None:
        """The first byte of an answer has arrived."""
        self._has_begun = True

    def on_body(self, body: bytes) -> None:
        """A piece of the body has arrived."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        self._is_complete = True
        self.is_reusable = self._parser.should_keep_alive()


class ConnectionPool:
    """Keep-alive connections that take turns, so that none of them idles long enough to be closed.

    Never refuses and never waits: when every connection is busy, another is opened.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._idle: deque[Connection] = deque()

    async def fill(self, size: int) -> None:
        """Open connections until ``size`` are idle.

        Raises:
            OSError: nobody listens there, or the system is out of sockets.
        """
        while len(self._idle) < size:
            self._idle.append(await Connection.open(self._address))

    async def request(self, request: bytes) -> Answer:
        """Send an idempotent request on the connection that has rested longest.

        A connection that the server closed while it rested is replaced, once.

        Raises:
            ConnectionLost: no whole answer came.
            OSError: no connection could be opened.
        """
        if not self._idle:
            return await self._use(await Connection.open(self._address), request)
        try:
            return await self._use(self._idle.popleft(), request)
        except ConnectionLost as lost:
            if not lost.is_stale:
                raise
            return await self._use(await Connection.open(self._address), request)

    async def _use(self, connection: Connection, request: bytes) -> Answer:
        try:
            return await connection.request(request)
        finally:
            if connection.is_reusable:
                self._idle.append(connection)
            else:
                connection.close()

    def close(self) -> None:
        """Close every idle connection."""
        while self._idle:
            self._idle.popleft().close()


async def fetch(address: Address, path: str, *, timeout: float) -> Answer:
    """One GET on a connection of its own, within ``timeout`` seconds.

    Raises:
        ConnectionLost: no whole answer came.
        OSError: nobody listens there.
        trio.TooSlowError: the time is over.
    """
    with trio.fail_after(timeout):
        connection = await Connection.open(address)
        try:
            return await connection.request(build_request(address, path))
        finally:
            connection.close()
