"""Both ends of a connection in one process: a front at one, a client of another library's at the
other."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import h2.config
import h2.connection
import h2.events
import trio
import trustme
from wsproto import ConnectionType, WSConnection
from wsproto.events import Event as WSEvent
from wsproto.events import Request as WSRequest

from bulkhead_trio.http.hypercorn.handover import Handover
from bulkhead_trio.http.hypercorn.tls import server_context
from bulkhead_trio.http.hypercorn.tls_front import TLSFront
from bulkhead_trio.http.limits import ConnectionLimits

HOST = "localhost"
LIMITS = ConnectionLimits()

App = Callable[[Any, Any, Any], Any]


def render_error(
    status: int, headers: Sequence[tuple[bytes, bytes]]
) -> tuple[list[tuple[bytes, bytes]], bytes, int]:
    return [(b"content-type", b"application/problem+json")], b'{"status":%d}' % status, status


@cache
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


def write_pair(directory: Path) -> tuple[Path, Path]:
    """A certificate for `HOST` and its key, as files."""
    issued = authority().issue_cert(HOST, key_type=trustme.KeyType.ECDSA)
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key))
    key.chmod(0o600)
    return certificate, key


def client_context(*protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority().configure_trust(context)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def socket_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    ours, theirs = trio.socket.socketpair()
    return trio.SocketStream(ours), trio.SocketStream(theirs)


async def pair_from(host: str) -> tuple[trio.SocketStream, trio.SocketStream]:
    """As `socket_pair`, over TCP: the client comes from ``host``, one of 127.0.0.0/8."""
    with trio.socket.socket() as listener:
        await listener.bind(("127.0.0.1", 0))
        listener.listen()
        ours = trio.socket.socket()
        await ours.bind((host, 0))
        await ours.connect(listener.getsockname())
        theirs, _ = await listener.accept()
    return trio.SocketStream(ours), trio.SocketStream(theirs)


@asynccontextmanager
async def tls_front(app: App, directory: Path, **options: Any) -> AsyncIterator[TLSFront]:
    context = server_context(*write_pair(directory))
    options = {"limits": LIMITS, "render_error": render_error, **options}
    yield TLSFront(app, context, **options)


@asynccontextmanager
async def secured(
    front: TLSFront, *protocols: str, host: str | None = None
) -> AsyncIterator[trio.SSLStream[trio.SocketStream]]:
    """A client's TLS connection to ``front``; the front is done with it on the way out.

    Args:
        host: where the client comes from; by default it has no address.
    """
    ours, theirs = socket_pair() if host is None else await pair_from(host)
    stream = trio.SSLStream(ours, client_context(*protocols), server_hostname=HOST)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(front.handle, theirs)
        try:
            yield stream
        finally:
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def handed_over(handover: Handover, ahead: bytes) -> AsyncIterator[trio.SocketStream]:
    """A client's connection whose first bytes somebody else has read."""
    ours, theirs = socket_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(handover, theirs, ahead, ("192.0.2.1", 5000))
        try:
            yield ours
        finally:
            await trio.aclose_forcefully(ours)


async def read_all(stream: Any) -> bytes:
    """What comes until the end."""
    data = b""
    try:
        while piece := await stream.receive_some(65536):
            data += piece
    except trio.BrokenResourceError:
        pass
    return data


@attrs.define
class Answer:
    """What came on one stream."""

    headers: dict[str, str] = attrs.field(factory=dict)
    body: bytes = b""
    has_ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        return int(self.headers.get(":status", 0))


class H2Client:
    """An HTTP/2 client on the ``h2`` package."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.connection = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        )
        self.answers: dict[int, Answer] = {}
        self.goaway: tuple[int, int] | None = None
        self.has_ended = False
        self.reads_bodies = True
        self.after_goaway = b""
        self._sending = trio.Lock()

    async def flush(self) -> None:
        async with self._sending:
            if data := self.connection.data_to_send():
                await self.stream.send_all(data)

    async def start(self) -> None:
        self.connection.initiate_connection()
        await self.flush()

    def send_request(
        self,
        path: str = "/",
        *,
        method: str = "GET",
        ends: bool = True,
        headers: Sequence[tuple[str, str]] = (),
    ) -> int:
        """Queue a request's fields."""
        number = self.connection.get_next_available_stream_id()
        fields = [
            (":method", method),
            (":scheme", "https"),
            (":authority", HOST),
            (":path", path),
            *headers,
        ]
        self.connection.send_headers(number, fields, end_stream=ends)
        self.answers[number] = Answer()
        return number

    async def ask(self, path: str = "/", **options: Any) -> Answer:
        number = self.send_request(path, **options)
        await self.flush()
        return await self.answer(number)

    async def answer(self, number: int) -> Answer:
        """Read until this stream is over."""
        answer = self.answers[number]
        while not (answer.has_ended or answer.reset is not None or self.has_ended):
            await self.read()
        return answer

    async def read_until_end(self) -> None:
        while not self.has_ended:
            await self.read()

    async def read(self) -> None:
        try:
            data = await self.stream.receive_some(65536)
        except trio.BrokenResourceError:
            data = b""
        if not data:
            self.has_ended = True
            return
        if self.goaway is not None:
            self.after_goaway += data  # the h2 package takes nothing more then
            return
        for event in self.connection.receive_data(bytes(data)):
            self._note(event)
        with contextlib.suppress(trio.BrokenResourceError):
            await self.flush()

    def _note(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived(stream_id=int(number)):
                self.answers[number].headers.update(dict(event.headers or ()))  # type: ignore[arg-type]
            case h2.events.DataReceived(stream_id=int(number)):
                self.answers[number].body += event.data or b""
                if self.reads_bodies:
                    self.connection.acknowledge_received_data(
                        event.flow_controlled_length or 0, number
                    )
            case h2.events.StreamEnded(stream_id=int(number)):
                self.answers[number].has_ended = True
            case h2.events.StreamReset(stream_id=int(number)):
                self.answers[number].reset = int(event.error_code or 0)
            case h2.events.ConnectionTerminated():
                self.goaway = (int(event.error_code or 0), event.last_stream_id or 0)


@asynccontextmanager
async def h2_client(front: TLSFront) -> AsyncIterator[H2Client]:
    async with secured(front, "h2", "http/1.1") as stream:
        await stream.do_handshake()
        assert stream.selected_alpn_protocol() == "h2"
        client = H2Client(stream)
        await client.start()
        yield client


class WSClient:
    """A WebSocket client on the ``wsproto`` package."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.connection = WSConnection(ConnectionType.CLIENT)
        self.events: list[WSEvent] = []
        self.has_ended = False

    def hello(self, path: str = "/", **headers: str) -> bytes:
        """The handshake's bytes."""
        extra = [
            (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
        ]
        return self.connection.send(WSRequest(host=HOST, target=path, extra_headers=extra))

    async def send(self, event: WSEvent) -> None:
        await self.stream.send_all(self.connection.send(event))

    async def next(self, kind: type[WSEvent]) -> Any:
        """Read until an event of this kind; what came before is gone."""
        while True:
            while self.events:
                event = self.events.pop(0)
                if isinstance(event, kind):
                    return event
            assert not self.has_ended, f"ended before {kind.__name__}"
            await self.read()

    async def read(self) -> None:
        try:
            data = await self.stream.receive_some(65536)
        except trio.BrokenResourceError:
            data = b""
        if not data:
            self.has_ended = True
            return
        self.connection.receive_data(bytes(data))
        self.events += self.connection.events()

    async def read_until_end(self) -> None:
        while not self.has_ended:
            await self.read()


async def echo_app(scope: Any, receive: Any, send: Any) -> None:
    """Answers a request with its body, and a WebSocket with what it says."""
    if scope["type"] == "websocket":
        await _echo_messages(receive, send)
        return
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        if not message["more_body"]:
            break
    await answer(send, body or describe(scope))


async def _echo_messages(receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": message["bytes"], "text": message["text"]})


async def answer(
    send: Any, body: bytes, *, status: int = 200, headers: Mapping[bytes, bytes] | None = None
) -> None:
    fields = [(b"content-length", b"%d" % len(body)), *(headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


def describe(scope: Any) -> bytes:
    return f"{scope['scheme']} {scope['http_version']} {scope['method']} {scope['path']}".encode()
