"""The outermost layer of the application: what holds for every request, whoever answers it.

Pure ASGI, so that it stands in front of Quart and of whatever else answers: the request's id, the
limits on what a request may be, draining, the log line, and a last net for mistakes of ours.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import unquote

import attrs
import structlog
import trio

from bulkhead_trio.api._problem import problem, problem_of, problem_of_status
from bulkhead_trio.api.drain import DrainGate
from bulkhead_trio.api.messages import Listener, Response
from bulkhead_trio.errors import Draining

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = structlog.get_logger("bulkhead_trio.access")

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_AMBIGUOUS_ESCAPE = re.compile(rb"%(2f|5c|00)", re.IGNORECASE)

PROBES = frozenset({"/health", "/ready", "/metrics", "/metrics/bulkheads"})
"""Answered while draining too: they are how an operator sees that it drains."""


REFUSALS = frozenset([429, 503])
"""Statuses of answers that took no work."""

COMMON_HEADERS = (("x-content-type-options", "nosniff"),)
"""On every answer: what is said to be JSON is never to be taken for anything else."""

INSTANCE_BYTES = 256
"""Of a target that is too long, what an answer repeats."""


@attrs.frozen
class RequestLimits:
    """What a request may be.

    Attributes:
        max_target_bytes: of path and query together.
        max_header_bytes: of all names and values together.
        max_header_count: fields.
        max_body_bytes: as declared by ``Content-Length``.
    """

    max_target_bytes: int = 8 * 1024
    max_header_bytes: int = 16 * 1024
    max_header_count: int = 100
    max_body_bytes: int = 1024 * 1024


class Edge:
    """Wraps an ASGI application.

    Args:
        app: answers what gets through.
        gate: counts requests, and refuses them while draining.
        limits: on what a request may be.
        listener: which listener this is for.
    """

    def __init__(
        self, app: ASGIApp, *, gate: DrainGate, limits: RequestLimits, listener: Listener
    ) -> None:
        self._app = app
        self._gate = gate
        self._limits = limits
        self._listener = listener

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        exchange = _Exchange(scope, send, self._gate, request_id_of(headers))
        bound: dict[str, str] = {"request_id": exchange.request_id}
        if (trace_id := _trace_id(headers)) is not None:
            bound["trace_id"] = trace_id
        with structlog.contextvars.bound_contextvars(**bound):
            try:
                await self._dispatch(exchange, scope, receive)
            finally:
                exchange.log()
                exchange.tell_of_refusal()

    async def _dispatch(self, exchange: _Exchange, scope: Scope, receive: Receive) -> None:
        if (refusal := self._refusal(scope)) is not None:
            await exchange.respond(refusal, closes=True)
            return
        scope["path"] = _decoded_path(scope["raw_path"])
        scope["bulkhead_trio.listener"] = self._listener
        scope["bulkhead_trio.notes"] = exchange.notes
        instance = scope["raw_path"].decode("ascii", errors="replace")
        try:
            if scope["path"] in PROBES:
                await self._app(scope, receive, exchange.send)
            else:
                with self._gate.passage():
                    await self._app(scope, receive, exchange.send)
        except Draining as error:
            if exchange.has_started:
                return  # cut off in the middle: the front closes the connection
            await exchange.respond(problem_of(error, instance=instance), closes=True)
        except Exception:
            _log.exception("request_failed")
            if exchange.has_started:
                raise
            await exchange.respond(
                problem("internal", "The server made a mistake.", instance=instance),
                closes=True,
            )

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that is refused for what it is, before anything is decided."""
        limits = self._limits
        raw_path: bytes = scope["raw_path"]
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if len(raw_path) + len(scope["query_string"]) > limits.max_target_bytes:
            return problem(
                "uri_too_long",
                f"A target has at most {limits.max_target_bytes} bytes.",
                # Repeating all of it would make the answer as long as what it complains of.
                instance=raw_path[:INSTANCE_BYTES].decode("ascii", errors="replace"),
            )
        instance = raw_path.decode("ascii", errors="replace")
        size = sum(len(name) + len(value) for name, value in headers)
        if len(headers) > limits.max_header_count or size > limits.max_header_bytes:
            return problem(
                "headers_too_large",
                f"At most {limits.max_header_count} header fields "
                f"and {limits.max_header_bytes} bytes of them.",
                instance=instance,
            )
        if not raw_path.startswith(b"/"):
            return problem("bad_request", "The request's target must be a path.", instance=instance)
        if raw_path.startswith(b"//"):
            # A router that squeezes slashes would take it for a path that a proxy in front of us,
            # which does not, was told to keep away from us.
            return problem("not_found", "There is nothing here.", instance=instance)
        if _declared_length(headers) > limits.max_body_bytes:
            return problem(
                "body_too_large",
                f"A body has at most {limits.max_body_bytes} bytes.",
                instance=instance,
            )
        return None


class _Exchange:
    """One request and its answer: adds what every answer has, and remembers what to log."""

    def __init__(self, scope: Scope, send: Send, gate: DrainGate, request_id: str) -> None:
        self.request_id = request_id
        self.has_started = False
        self.notes: dict[str, str] = {}
        self._scope = scope
        self._send = send
        self._gate = gate
        self._status: int | None = None
        self._began = trio.current_time()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_started = True
            self._status = message["status"]
            message["headers"] = [*message["headers"], *self._common_headers(message["headers"])]
        await self._send(message)

    def _common_headers(self, present: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        names = {name.lower() for name, _ in present}
        common = [
            (b"x-request-id", self.request_id.encode("ascii")),
            *((name.encode("ascii"), value.encode("ascii")) for name, value in COMMON_HEADERS),
        ]
        if b"cache-control" not in names:
            # An answer belongs to one tenant; no cache on the way may give it to another.
            common.append((b"cache-control", b"no-store"))
        if self._gate.is_draining and b"connection" not in names:
            common.append((b"connection", b"close"))
        return common

    async def respond(self, response: Response, *, closes: bool) -> None:
        headers = [
            (b"content-type", response.content_type.encode("ascii")),
            (b"content-length", str(len(response.body)).encode("ascii")),
            *((name.encode("ascii"), value.encode("ascii")) for name, value in response.headers),
        ]
        if closes:
            headers.append((b"connection", b"close"))
        await self.send(
            {"type": "http.response.start", "status": response.status, "headers": headers}
        )
        await self._send({"type": "http.response.body", "body": response.body, "more_body": False})

    def tell_of_refusal(self) -> None:
        """Say in the scope by whom it was refused: a front may let such a connection wait."""
        if self._status in REFUSALS:
            self._scope["bulkhead_trio.refused_by"] = self.notes.get("tier", "")

    def log(self) -> None:
        milliseconds = round((trio.current_time() - self._began) * 1000, 3)
        write = _log.debug if self._scope["path"] in PROBES else _log.info
        write(
            "request",
            method=self._scope["method"],
            path=self._scope["path"],
            status=self._status,
            duration_ms=milliseconds,
            **self.notes,
        )


def request_id_of(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """The caller's id where it is one that can be repeated, otherwise a new one."""
    given = [value for name, value in headers if name == b"x-request-id"]
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0].decode("ascii")
    return secrets.token_hex(16)


def _trace_id(headers: list[tuple[bytes, bytes]]) -> str | None:
    given = [value for name, value in headers if name == b"traceparent"]
    match = _TRACEPARENT.fullmatch(given[0]) if len(given) == 1 else None
    return None if match is None else match[1].decode("ascii")


def _declared_length(headers: list[tuple[bytes, bytes]]) -> int:
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def _decoded_path(raw: bytes) -> str:
    """The path that routes are matched against.

    A path that hides a slash, a backslash or a NUL in an escape stays as it was sent, and so
    matches nothing: it must never mean something else than what it looks like.
    """
    text = raw.decode("ascii", errors="replace")
    return text if _AMBIGUOUS_ESCAPE.search(raw) else unquote(text)


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
    fields = [("Content-Type", response.content_type), *response.headers]
    fields += [("X-Request-Id", request_id), *COMMON_HEADERS]
    encoded = [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in fields]
    return encoded, response.body, response.status
