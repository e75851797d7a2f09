"""The outermost layer of the application: what holds for every request, whoever answers it.

Pure ASGI, so that it stands in front of Quart and of whatever else answers: the request's id, the
limits on what a request may be, draining, the log line, and a last net for mistakes of ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote

import attrs
import structlog

from bulkhead_trio.api._asgi import (
    DECLARED_LENGTH,
    EXCHANGE,
    ASGIApp,
    Receive,
    Scope,
    Send,
    headers_of,
)
from bulkhead_trio.api._problem import problem, problem_of, problem_of_status
from bulkhead_trio.api._request_facts import RequestFacts, facts_of, new_request_id, request_id_of
from bulkhead_trio.api.data_plane import LISTENER, PROBES
from bulkhead_trio.api.drain import DrainGate
from bulkhead_trio.api.edge_exchange import COMMON_HEADERS, EdgeExchange
from bulkhead_trio.api.messages import Listener, Response
from bulkhead_trio.errors import Draining
from bulkhead_trio.http.engine.errors import AnswerCutOff, ClientGone
from bulkhead_trio.http.extensions import extensions_of
from bulkhead_trio.observe.access_log import AccessLog, StructuredAccessLog
from bulkhead_trio.policies.context import CURRENT_REQUEST, RequestContext

_log = structlog.get_logger("bulkhead_trio.access")

_AMBIGUOUS_ESCAPE = re.compile(rb"%(2f|5c|00)", re.IGNORECASE)

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
        facts = facts_of(scope["headers"])
        request_id = facts.request_id or new_request_id()
        context = RequestContext(request_id=request_id, trace_id=facts.trace_id)
        exchange = EdgeExchange(scope, send, self._gate, request_id=request_id, context=context)
        token = CURRENT_REQUEST.set(context)
        try:
            await self._dispatch(exchange, scope, receive, facts)
        finally:
            exchange.tell_the_front()
            exchange.log(self._access_log)
            CURRENT_REQUEST.reset(token)

    async def _dispatch(
        self, exchange: EdgeExchange, scope: Scope, receive: Receive, facts: RequestFacts
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

    def _refusal(self, raw_path: bytes, query: bytes, facts: RequestFacts) -> Response | None:
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
