"""The data plane: answers the hot routes itself, in front of the framework.

ASGI middleware round Quart's own application. A hot route is found by its method and path, and its
handler, the same that Quart would call, is called straight away: what it can decide without waiting
(a refusal above all) is answered in the same step of the same task. Everything else goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Protocol

import trio

from bulkhead_trio.api._asgi import (
    DECLARED_LENGTH,
    EXCHANGE,
    ASGIApp,
    Receive,
    Scope,
    Send,
    send_response,
)
from bulkhead_trio.api._problem import problem, problem_of_status
from bulkhead_trio.api.drain import DrainGate
from bulkhead_trio.api.messages import Request, Response
from bulkhead_trio.api.routes import OwnPaths, Resource, Route, begin, finish
from bulkhead_trio.http.engine.errors import ClientGone
from bulkhead_trio.http.extensions import CANCELS, extensions_of

PROBES = frozenset({"/health", "/ready", "/metrics", "/metrics/bulkheads", "/metrics/deliveries"})
"""Answered while draining too: they are how an operator sees that it drains."""


class DataPlane:
    """Wraps an ASGI application.

    Args:
        app: answers what is not hot.
        resources: whose hot routes are answered here.
        gate: counts requests under way.
        max_body_bytes: the largest body that a handler is given.
        gateway: answers what is no path of ours; ``None``: ``app`` does, which knows none of it.
    """

    def __init__(
        self,
        app: ASGIApp,
        resources: Iterable[Resource],
        *,
        gate: DrainGate,
        max_body_bytes: int,
        gateway: ASGIApp | None = None,
    ) -> None:
        resources = tuple(resources)
        self._app = app
        self._gate = gate
        self._gateway = gateway
        self._own = OwnPaths(route.path for resource in resources for route in resource.routes())
        self._max_body_bytes = max_body_bytes
        self._routes = {
            (route.method, route.path): route
            for resource in resources
            for route in resource.routes()
            if route.is_hot
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        route = self._routes.get((scope["method"], scope["path"]))
        if (
            route is None
            and self._gateway is not None
            and scope.get(LISTENER) != "admin"
            and scope["path"] not in self._own
        ):
            await self._gateway(scope, receive, send)
            return
        if scope.get(DECLARED_LENGTH, 0) > self._max_body_bytes:
            await self._refuse_body(scope)
            return
        if route is None or (not route.is_admin and scope.get(LISTENER) == "admin"):
            await self._pass_on(scope, receive, send)
            return
        if route.reads_body:
            response = await self._answer_body(route, scope, receive)
        else:
            request = Request.from_scope(scope, path_values={})
            begun = begin(route.handler, request)
            response = (
                begun
                if isinstance(begun, Response)
                else await self._wait(begun, request, scope, receive)
            )
        exchange: Exchange | None = scope.get(EXCHANGE)
        if exchange is None:
            await send_response(send, response)
        else:
            await exchange.respond(response)

    async def _refuse_body(self, scope: Scope) -> None:
        """Before a byte of it is read; the connection ends with that, for the rest still comes."""
        response = problem(
            "body_too_large",
            f"A body has at most {self._max_body_bytes} bytes.",
            instance=scope["raw_path"].decode("ascii", errors="replace"),
        )
        exchange: Exchange = scope[EXCHANGE]
        await exchange.respond(response, closes=True)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in PROBES:
            await self._app(scope, receive, send)
        else:
            with self._gate.passage():
                await self._app(scope, receive, send)

    async def _wait(
        self, begun: Awaitable[Response], request: Request, scope: Scope, receive: Receive
    ) -> Response:
        if scope["path"] in PROBES:
            return await finish(begun, request)
        if CANCELS in extensions_of(scope):
            with self._gate.counted():
                return await finish(begun, request)
        with self._gate.passage():
            return await _while_there(finish(begun, request), receive)

    async def _answer_body(self, route: Route, scope: Scope, receive: Receive) -> Response:
        with self._gate.passage():
            body = await _read_body(receive, self._max_body_bytes)
        request = Request.from_scope(scope, body=body or b"", path_values={})
        if body is None:
            request.notes["code"] = "body_too_large"
            return problem_of_status(413, instance=request.target)
        begun = begin(route.handler, request)
        if isinstance(begun, Response):
            return begun
        return await self._wait(begun, request, scope, receive)


class Exchange(Protocol):
    """What the layer before knows of a request and its answer."""

    async def respond(self, response: Response, *, closes: bool = False) -> None:
        """Answer, all at once."""


LISTENER = "bulkhead_trio.listener"


async def _read_body(receive: Receive, most: int) -> bytes | None:
    """All of a body; ``None`` where it is larger than ``most``.

    A client that goes before its body is there has its request cancelled.
    """
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece = message.get("body", b"")
        size += len(piece)
        if size > most:
            return None
        pieces.append(piece)
        if not message.get("more_body", False):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def _while_there(work: Awaitable[Response], receive: Receive) -> Response:
    """Do ``work`` for as long as the client is there; for servers that only tell of its going.

    Raises:
        ClientGone: it has gone, and the work was cancelled.
    """
    response: Response | None = None

    async def watch(scope: trio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch, nursery.cancel_scope)
        response = await work
        nursery.cancel_scope.cancel()
    if response is None:
        raise ClientGone
    return response
