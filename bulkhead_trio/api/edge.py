"""The outermost layer of the application: what holds for every request, whoever answers it.

Pure ASGI, so that it stands in front of Quart and of whatever else answers: the request's id, the
limits on what a request may be, draining, the log line, and a last net for mistakes of ours.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from urllib.parse import unquote

import attrs
import structlog
import trio

from bulkhead_trio.api._asgi import (
    DECLARED_LENGTH,
    EXCHANGE,
    ASGIApp,
    Message,
    Receive,
    Scope,
    Send,
    headers_of,
)
from bulkhead_trio.api._problem import problem, problem_of, problem_of_status
from bulkhead_trio.api.data_plane import LISTENER, PROBES
from bulkhead_trio.api.drain import DrainGate
from bulkhead_trio.api.messages import Listener, Response
from bulkhead_trio.errors import Draining
from bulkhead_trio.http.engine.errors import AnswerCutOff, ClientGone, LocalProtocolError
from bulkhead_trio.http.extensions import ACCOUNT, REFUSED, RESPOND, extensions_of
from bulkhead_trio.http.tunnel import TUNNEL, ByteStream, OpenTunnel
from bulkhead_trio.observe.access_log import AccessLog, StructuredAccessLog
from bulkhead_trio.policies.context import CURRENT_REQUEST, RequestContext

_log = structlog.get_logger("bulkhead_trio.access")

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_AMBIGUOUS_ESCAPE = re.compile(rb"%(2f|5c|00)", re.IGNORECASE)

REFUSALS = frozenset([429, 503])
"""Statuses of answers that took no work."""

COMMON_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
"""On every answer, unless it says otherwise: what is said to be JSON is never to be taken for
anything else, and an answer belongs to one tenant; no cache on the way may give it to another."""

INSTANCE_BYTES = 256
"""Of a target that is too long, what an answer repeats."""


@attrs.frozen
class RequestLimits:
    """What a request may be.

    Attributes:
        max_target_bytes: of path and query together.
        max_header_bytes: of all names and values together.
        max_header_count: fields.
    """

    max_target_bytes: int = 8 * 1024
    max_header_bytes: int = 16 * 1024
    max_header_count: int = 100


class Edge:
    """Wraps an ASGI application.

    Args:
        app: answers what gets through.
        gate: says whether the server is draining.
        limits: on what a request may be.
        listener: which listener this is for.
        access_log: told of every request that has ended.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        gate: DrainGate,
        limits: RequestLimits,
        listener: Listener,
        access_log: AccessLog | None = None,
    ) -> None:
        self._app = app
        self._gate = gate
        self._limits = limits
        self._listener = listener
        self._access_log = StructuredAccessLog() if access_log is None else access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await _refuse_web_socket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        facts = _facts_of(scope["headers"])
        request_id = facts.request_id or new_request_id()
        context = RequestContext(request_id=request_id, trace_id=facts.trace_id)
        exchange = _Exchange(scope, send, self._gate, request_id=request_id, context=context)
        token = CURRENT_REQUEST.set(context)
        try:
            await self._dispatch(exchange, scope, receive, facts)
        finally:
            exchange.tell_the_front()
            exchange.log(self._access_log)
            CURRENT_REQUEST.reset(token)

    async def _dispatch(
        self, exchange: _Exchange, scope: Scope, receive: Receive, facts: _Facts
    ) -> None:
        raw_path: bytes = scope["raw_path"]
        if (refusal := self._refusal(raw_path, scope["query_string"], facts)) is not None:
            await exchange.respond(refusal, closes=True)
            return
        if b"%" in raw_path:
            scope["path"] = _decoded_path(raw_path)
        scope[LISTENER] = self._listener
        scope["bulkhead_trio.notes"] = exchange.notes
        scope[EXCHANGE] = exchange
        scope[DECLARED_LENGTH] = facts.declared_length
        try:
            if self._gate.is_draining and scope["path"] not in PROBES:
                raise Draining("The server is shutting down.", retry_after=1.0)
            await self._app(scope, receive, exchange.send)
        except ClientGone:
            return
        except AnswerCutOff:
            raise  # which the front takes as what it is
        except Draining as error:
            if exchange.has_started:
                return  # cut off in the middle: the front closes the connection
            answer = problem_of(error, instance=_text(raw_path))
            await exchange.respond(answer, closes=True)
        except Exception:
            _log.exception("request_failed")
            if exchange.has_started:
                raise
            answer = problem("internal", "The server made a mistake.", instance=_text(raw_path))
            await exchange.respond(answer, closes=True)

    def _refusal(self, raw_path: bytes, query: bytes, facts: _Facts) -> Response | None:
        """The answer to a request that is refused for what it is, before anything is decided."""
        limits = self._limits
        if len(raw_path) + len(query) > limits.max_target_bytes:
            return problem(
                "uri_too_long",
                f"A target has at most {limits.max_target_bytes} bytes.",
                # Repeating all of it would make the answer as long as what it complains of.
                instance=_text(raw_path[:INSTANCE_BYTES]),
            )
        if facts.header_count > limits.max_header_count or facts.size > limits.max_header_bytes:
            return problem(
                "headers_too_large",
                f"At most {limits.max_header_count} header fields "
                f"and {limits.max_header_bytes} bytes of them.",
                instance=_text(raw_path),
            )
        if raw_path[:1] != b"/":
            return problem(
                "bad_request", "The request's target must be a path.", instance=_text(raw_path)
            )
        if raw_path[:2] == b"//":
            # A router that squeezes slashes would take it for a path that a proxy in front of us,
            # which does not, was told to keep away from us.
            return problem("not_found", "There is nothing here.", instance=_text(raw_path))
        return None


async def _refuse_web_socket(scope: Scope, receive: Receive, send: Send) -> None:
    """Nothing here speaks WebSocket: the handshake is answered as a path that is not there."""
    if (await receive())["type"] != "websocket.connect":
        return
    if "websocket.http.response" not in extensions_of(scope):
        await send({"type": "websocket.close", "code": 1008})
        return
    instance = _text(scope["raw_path"])
    response = problem("not_found", "There is no WebSocket here.", instance=instance)
    headers = headers_of(response)
    headers.append((b"x-request-id", request_id_of(scope["headers"]).encode("ascii")))
    headers += COMMON_HEADERS
    await send(
        {
            "type": "websocket.http.response.start",
            "status": response.status,
            "headers": headers,
        }
    )
    await send({"type": "websocket.http.response.body", "body": response.body})


class _Facts:
    """What the edge wants of a request's headers, read in one pass."""

    __slots__ = ("declared_length", "header_count", "request_id", "size", "trace_id")

    def __init__(self, header_count: int) -> None:
        self.header_count = header_count
        self.size = 0
        self.declared_length = 0
        self.request_id: str | None = None
        self.trace_id: str | None = None


def _facts_of(headers: Sequence[tuple[bytes, bytes]]) -> _Facts:
    facts = _Facts(len(headers))
    size = 0
    for name, value in headers:
        size += len(name) + len(value)
        if name in _WANTED:
            if name == b"content-length":
                if value.isdigit():
                    facts.declared_length = int(value)
            elif name == b"x-request-id":
                facts.request_id = _given_request_id(headers)
            else:
                facts.trace_id = _trace_id(headers)
    facts.size = size
    return facts


_WANTED = frozenset([b"content-length", b"x-request-id", b"traceparent"])


class _Exchange:
    """One request and its answer: adds what every answer has, and remembers what to log."""

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
        headers = headers_of(response)
        if closes or self._gate.is_draining:
            headers.append((b"connection", b"close"))
        headers.append((b"x-request-id", self._request_id))
        headers += COMMON_HEADERS
        self.has_started = True
        self._status = response.status
        at_once = extensions_of(self._scope).get(RESPOND)
        if at_once is not None:
            await at_once(response.status, headers, response.body)
            return
        send = self._send
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})

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
        if self._status in REFUSALS:
            self._scope[REFUSED] = True

    def log(self, access_log: AccessLog) -> None:
        scope = self._scope
        path: str = scope["path"]
        if access_log.is_wanted(is_quiet=path in PROBES):
            seconds = trio.current_time() - self.began
            access_log.request(
                self._context, scope["method"], path, self._status, seconds, self.notes
            )


def _given_request_id(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    given = [value for name, value in headers if name == b"x-request-id"]
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0].decode("ascii")
    return None


def new_request_id() -> str:
    """A number that no other request has; nothing is kept secret by it."""
    return f"{random.getrandbits(128):032x}"


def request_id_of(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """The caller's id where it is one that can be repeated, otherwise a new one."""
    return _given_request_id(headers) or new_request_id()


def _trace_id(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    given = [value for name, value in headers if name == b"traceparent"]
    match = _TRACEPARENT.fullmatch(given[0]) if len(given) == 1 else None
    return None if match is None else match[1].decode("ascii")


def _text(raw_path: bytes) -> str:
    return raw_path.decode("ascii", errors="replace")


def _decoded_path(raw: bytes) -> str:
    """The path that routes are matched against.

    A path that hides a slash, a backslash or a NUL in an escape stays as it was sent, and so
    matches nothing: it must never mean something else than what it looks like.
    """
    text = raw.decode("ascii", errors="replace")
    return text if _AMBIGUOUS_ESCAPE.search(raw) else unquote(text)


def cut_off_request(
    status: int,  # noqa: ARG001  there is but one
    headers: Sequence[tuple[bytes, bytes]],
) -> tuple[list[tuple[bytes, bytes]], bytes, int]:
    """What a front says to a request that it has cut off because the server stops.

    Returns:
        headers, body and status of the answer.
    """
    request_id = request_id_of(headers)
    instance = f"urn:bulkhead-trio:request:{request_id}"
    error = Draining("The server shut down before this was done.", retry_after=1.0)
    return _encoded(problem_of(error, instance=instance), request_id)


def unreadable_request(
    status: int, headers: Sequence[tuple[bytes, bytes]]
) -> tuple[list[tuple[bytes, bytes]], bytes, int]:
    """What a front says, and logs, when no request comes of what it was sent.

    Args:
        status: what the front makes of it.
        headers: those of the request, as far as they could be read.

    Returns:
        headers, body and status of the answer.
    """
    request_id = request_id_of(headers)
    instance = f"urn:bulkhead-trio:request:{request_id}"
    if status == 503:
        detail = "Too many connections are open."
        response = problem("shed", detail, instance=instance, retry_after=1.0)
    else:
        response = problem_of_status(status, instance=instance)
    _log.info("unreadable_request", status=response.status, request_id=request_id)
    return _encoded(response, request_id)


def _encoded(response: Response, request_id: str) -> tuple[list[tuple[bytes, bytes]], bytes, int]:
    fields = [(b"content-type", response.content_type.encode("ascii")), *response.headers]
    fields += [(b"x-request-id", request_id.encode("ascii")), COMMON_HEADERS[0]]
    return fields, response.body, response.status
