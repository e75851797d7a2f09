"""One request and its answer, as the edge sees them to their end."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import trio

from bulkhead_trio.api._asgi import Message, Scope, Send
from bulkhead_trio.api.data_plane import PROBES
from bulkhead_trio.api.drain import DrainGate
from bulkhead_trio.api.messages import Response
from bulkhead_trio.http.engine.errors import LocalProtocolError
from bulkhead_trio.http.extensions import ACCOUNT, PARTY, REFUSED, RESPOND, extensions_of
from bulkhead_trio.http.tunnel import TUNNEL, ByteStream, OpenTunnel
from bulkhead_trio.observe.access_log import AccessLog
from bulkhead_trio.policies.context import RequestContext

REFUSALS = frozenset([429, 503])
"""Statuses of answers that took no work."""

COMMON_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
"""On every answer, unless it says otherwise: what is said to be JSON is never to be taken for
anything else, and an answer belongs to one tenant; no cache on the way may give it to another."""


class EdgeExchange:
    """One request and its answer: adds what every answer has, and remembers what to log.

    Args:
        scope: the request's.
        send: ASGI's.
        gate: says whether the server is draining.
        request_id: its id.
        context: what is known of it by all that is done for it.

    Attributes:
        has_started: whether the answer has.
        notes: for the log line.
        began: when it arrived, on Trio's clock.
    """

    __slots__ = (
        "_context", "_gate", "_is_ours", "_request_id", "_scope", "_send", "_status", "began",
        "has_started", "notes",
    )  # fmt: skip

    def __init__(
        self,
        scope: Scope,
        send: Send,
        gate: DrainGate,
        *,
        request_id: str,
        context: RequestContext,
    ) -> None:
        self.has_started = False
        self.notes: dict[str, str | float] = {}
        self._is_ours = True
        self._context = context
        self._request_id = request_id.encode("ascii")
        self._scope = scope
        self._send = send
        self._gate = gate
        self._status: int | None = None
        self.began = trio.current_time()

    async def send(self, message: Message) -> None:
        """ASGI's ``send``, with what every answer has."""
        if message["type"] == "http.response.start":
            self.has_started = True
            self._status = message["status"]
            message["headers"] = self._completed(message["headers"])
        await self._send(message)

    async def respond(self, response: Response, *, closes: bool = False) -> None:
        """Answer, all at once.

        Args:
            response: the answer.
            closes: whether the connection is to end with it.
        """
        body = response.body
        headers = _common_headers(response.content_type, len(body), response.headers)
        if closes or self._gate.is_draining:
            headers = (*headers, (b"connection", b"close"))
        own = ((b"x-request-id", self._request_id),)
        self.has_started = True
        self._status = response.status
        at_once = extensions_of(self._scope).get(RESPOND)
        if at_once is not None:
            await at_once(response.status, headers, body, own)
            return
        send = self._send
        start = {"status": response.status, "headers": [*headers, *own]}
        await send({"type": "http.response.start", **start})
        await send({"type": "http.response.body", "body": body})

    @property
    def request_id(self) -> str:
        """The request's."""
        return self._context.request_id or ""

    async def pass_on(
        self, status: int, headers: list[tuple[bytes, bytes]], body: bytes | None
    ) -> None:
        """Answer with what somebody else has said: nothing of ours is added but the request id.

        Args:
            status: of the answer.
            headers: its header, in lower case.
            body: all of it; ``None`` where it follows in pieces, by `send`.
        """
        self._is_ours = False
        at_once = extensions_of(self._scope).get(RESPOND)
        if at_once is None or body is None:
            start = {"type": "http.response.start", "status": status, "headers": headers}
            await self.send(start)
            if body is not None:
                await self._send({"type": "http.response.body", "body": body})
            return
        self.has_started = True
        self._status = status
        await at_once(status, self._completed(headers), body)

    async def open_tunnel(self, headers: Iterable[tuple[bytes, bytes]]) -> ByteStream:
        """Answer 101 with these headers, and have the connection for what follows.

        Raises:
            LocalProtocolError: the answer has begun, or a header cannot be sent.
            KeyError: the front has no tunnel for this request (`TUNNEL`).
        """
        opening: OpenTunnel = extensions_of(self._scope)[TUNNEL]
        self.tell_the_front()
        had_started, self.has_started = self.has_started, True
        try:
            stream = await opening(101, [*headers, (b"x-request-id", self._request_id)])
        except LocalProtocolError:
            self.has_started = had_started
            raise
        self._status = 101
        return stream

    def _completed(self, present: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        if not self._is_ours:
            headers = [field for field in present if field[0] != b"x-request-id"]
            headers.append((b"x-request-id", self._request_id))
            if self._gate.is_draining:
                headers.append((b"connection", b"close"))
            return headers
        headers = [*present, (b"x-request-id", self._request_id)]
        named = [name for name, _ in headers]
        headers += [(name, value) for name, value in COMMON_HEADERS if name not in named]
        if self._gate.is_draining and b"connection" not in named:
            headers.append((b"connection", b"close"))
        return headers

    def tell_the_front(self) -> None:
        """Say in the scope whose it was, and whether it took no work: a front shares by that."""
        if (tier := self.notes.get("tier")) is not None:
            self._scope[ACCOUNT] = tier
            if (tenant := self.notes.get("tenant")) is not None:
                self._scope[PARTY] = tenant
        if self._status in REFUSALS:
            self._scope[REFUSED] = True

    def log(self, access_log: AccessLog) -> None:
        """Tell the log of it, now that it has ended."""
        scope = self._scope
        path: str = scope["path"]
        if access_log.is_wanted(is_quiet=path in PROBES):
            seconds = trio.current_time() - self.began
            access_log.request(
                self._context, scope["method"], path, self._status, seconds, self.notes
            )


@functools.lru_cache(maxsize=512)
def _common_headers(
    content_type: str, length: int, headers: tuple[tuple[bytes, bytes], ...]
) -> tuple[tuple[bytes, bytes], ...]:
    """An answer's headers, but for the request's id.

    Remembered: most answers say the same as others before them, and a flood's all do.
    """
    first = (b"content-type", content_type.encode("ascii")), (b"content-length", b"%d" % length)
    return (*first, *headers, *COMMON_HEADERS)
