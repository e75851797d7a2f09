"""An HTTP client for tests: one socket, any bytes out, h11 for what comes back.

It is not a good client on purpose: it sends exactly what it is given, so that malformed requests
reach the server as they are.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

import attrs
import h11
import trio

Address = tuple[str, int]
Headers = Mapping[str, str] | Iterable[tuple[str, str]]

ANSWER_SECONDS = 10.0
"""How long a test waits for an answer before it calls that a hang."""


class NoAnswerError(AssertionError):
    """The server closed the connection without answering."""


@attrs.frozen
class Answer:
    """What the server answered."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Every value of a header, in order."""
        return [value for key, value in self.headers if key == name.lower()]

    def header(self, name: str) -> str | None:
        """The one value of a header, ``None`` without it. Twice is an error of the server."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} is there {len(values)} times: {values}"
        return values[0] if values else None

    def json(self) -> Any:
        """The body as JSON; NaN and Infinity are none."""

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is not JSON")

        return json.loads(self.body.decode("utf-8"), parse_constant=refuse)

    def __str__(self) -> str:
        lines = [f"{key}: {value}" for key, value in self.headers]
        return "\n".join(
            [str(self.status), *lines, "", self.body[:2000].decode("utf-8", "replace")]
        )


class Wire:
    """One connection to the server. Answers are read in the order in which they come."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._unread = b""

    async def send(self, data: bytes) -> None:
        """Send these bytes. That the server has closed already is no error: its answer counts."""
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError:
            return

    async def ask(
        self,
        target: str,
        *,
        method: str = "GET",
        headers: Headers = (),
        body: bytes | None = None,
        timeout: float = ANSWER_SECONDS,
    ) -> Answer:
        """Send one request and read its answer."""
        await self.send(request_bytes(target, method=method, headers=headers, body=body))
        return await self.answer(method=method, timeout=timeout)

    async def finish_sending(self) -> None:
        """Close our direction only."""
        await self._stream.send_eof()

    async def answer(self, *, method: str = "GET", timeout: float = ANSWER_SECONDS) -> Answer:
        """Read one answer to a request with ``method``.

        Raises:
            NoAnswerError: the connection ended before a complete answer.
            trio.TooSlowError: no complete answer within ``timeout`` seconds.
        """
        parser = h11.Connection(h11.CLIENT)
        # h11 parses an answer only after it has made a request; what it made is not what was sent.
        method_word = method if method in {"HEAD", "CONNECT"} else "GET"
        parser.send(h11.Request(method=method_word, target="/", headers=[("Host", "test")]))
        parser.send(h11.EndOfMessage())
        if self._unread:
            parser.receive_data(self._unread)
        head: h11.Response | None = None
        body = b""
        with trio.fail_after(timeout):
            while True:
                try:
                    event = parser.next_event()
                except h11.RemoteProtocolError as error:
                    raise NoAnswerError(f"{error}; the head so far: {head}") from error
                if event is h11.NEED_DATA:
                    parser.receive_data(await self._receive(parser))
                elif isinstance(event, h11.Response):
                    head = event
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage) and head is not None:
                    break
                elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                    raise NoAnswerError(f"closed before an answer; body so far: {body[:200]!r}")
        self._unread = parser.trailing_data[0]
        pairs = tuple((k.decode("ascii"), v.decode("latin-1")) for k, v in head.headers)
        return Answer(head.status_code, pairs, body)

    async def _receive(self, parser: h11.Connection) -> bytes:
        try:
            data = await self._stream.receive_some(65536)
        except trio.BrokenResourceError as error:
            raise NoAnswerError("the server reset the connection before an answer") from error
        if not data and parser.their_state is h11.SEND_RESPONSE:
            raise NoAnswerError("the server closed the connection before an answer")
        return bytes(data)

    async def is_closed_within(self, seconds: float) -> bool:
        """Whether the server closes the connection in that time, with no further bytes."""
        with trio.move_on_after(seconds):
            try:
                data = await self._stream.receive_some(65536)
            except trio.BrokenResourceError:
                return True
            assert not data, f"more bytes than expected: {bytes(data[:200])!r}"
            return not self._unread
        return False

    async def drain_until_closed(self, seconds: float) -> bytes:
        """Everything the server still sends until it closes.

        Raises:
            trio.TooSlowError: it keeps the connection open for longer.
        """
        received = self._unread
        self._unread = b""
        with trio.fail_after(seconds):
            while True:
                try:
                    data = await self._stream.receive_some(65536)
                except trio.BrokenResourceError:
                    return received
                if not data:
                    return received
                received += bytes(data)

    async def reset(self) -> None:
        """Go away at once: the server sees a reset, not an orderly end."""
        self._stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._stream.socket.close()

    async def aclose(self) -> None:
        """Go away in an orderly manner."""
        await self._stream.aclose()


def request_bytes(
    target: str,
    *,
    method: str = "GET",
    headers: Headers = (),
    body: bytes | None = None,
) -> bytes:
    """A request as bytes: Host, the given headers as they are (latin-1), and a counted body."""
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    if body is not None:
        pairs.append(("Content-Length", str(len(body))))
    lines = [f"{method} {target} HTTP/1.1", "Host: test"]
    lines.extend(f"{name}: {value}" for name, value in pairs)
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


@asynccontextmanager
async def open_wire(address: Address) -> AsyncIterator[Wire]:
    """A connection to the server, closed on the way out."""
    with trio.fail_after(ANSWER_SECONDS):
        stream = await trio.open_tcp_stream(*address)
    async with aclosing(Wire(stream)) as wire:
        yield wire


async def ask(
    address: Address,
    target: str,
    *,
    method: str = "GET",
    headers: Headers = (),
    body: bytes | None = None,
    timeout: float = ANSWER_SECONDS,
) -> Answer:
    """One request on a connection of its own."""
    async with open_wire(address) as wire:
        return await wire.ask(target, method=method, headers=headers, body=body, timeout=timeout)


async def ask_data(
    address: Address,
    tier: str = "free",
    query: str = "",
    *,
    headers: Headers = (),
    timeout: float = ANSWER_SECONDS,
) -> Answer:
    """``GET /api/data`` for a tier."""
    extra = list(headers.items() if isinstance(headers, Mapping) else headers)
    pairs = [("X-Tenant-Tier", tier), *extra]
    return await ask(address, f"/api/data{query}", headers=pairs, timeout=timeout)
