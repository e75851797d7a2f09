"""The Quart-Trio application: a blueprint a resource; the one place where handlers meet Quart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import quart
import structlog
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from bulkhead_trio.api._asgi import ASGIApp
from bulkhead_trio.api._problem import problem, problem_of_status
from bulkhead_trio.api.data_plane import LISTENER, DataPlane
from bulkhead_trio.api.drain import DrainGate
from bulkhead_trio.api.messages import Request, Response
from bulkhead_trio.api.routes import Resource, Route, answer

_BRACES = str.maketrans("{}", "<>")
"""Our routes' names in Quart's writing."""

_log = structlog.get_logger("bulkhead_trio.api")


def create_quart_app(
    resources: Sequence[Resource],
    *,
    gate: DrainGate,
    max_body_bytes: int,
    gateway: ASGIApp | None = None,
) -> QuartTrio:
    """Bind every resource's handlers to a new application, the hot ones in front of it.

    Args:
        resources: what it answers.
        gate: counts requests under way.
        max_body_bytes: the largest body that a handler is given.
        gateway: answers what is no path of ours.
    """
    app = QuartTrio(__name__, static_folder=None, template_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = max_body_bytes
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False
    for resource in resources:
        blueprint = quart.Blueprint(resource.name, __name__)
        for route in resource.routes():
            blueprint.add_url_rule(
                route.path.translate(_BRACES),
                endpoint=f"{route.method}_{route.path}".replace(".", "_"),
                view_func=_view(route),
                methods=[route.method],
            )
        app.register_blueprint(blueprint)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _mistake)
    # Quart's own place for middleware.
    plane: Any = DataPlane(
        cast("Any", app.asgi_app),
        resources,
        gate=gate,
        max_body_bytes=max_body_bytes,
        gateway=gateway,
    )
    app.asgi_app = plane  # type: ignore[method-assign]
    return app


def _view(route: Route) -> Callable[..., Awaitable[quart.Response]]:
    async def view(**_: str) -> quart.Response:
        if quart.request.scope.get(LISTENER) == "admin" and not route.is_admin:
            return _quart_response(problem_of_status(404, instance=_target()))
        try:
            path_values = route.path_values(_target())
        except UnicodeDecodeError:  # nothing has a name that is not UTF-8
            return _quart_response(problem_of_status(404, instance=_target()))
        body = b""
        if route.reads_body:
            body = cast("bytes", await quart.request.get_data())
        request = Request.from_scope(quart.request.scope, body=body, path_values=path_values)
        return _quart_response(await answer(route.handler, request))

    return view


def _quart_response(response: Response) -> quart.Response:
    made = quart.Response(response.body, status=response.status, content_type=response.content_type)
    for name, value in response.headers:
        made.headers.add(name.decode("ascii"), value.decode("ascii"))
    if response.status == 204:  # has no length, not even 0 (RFC 9110, 8.6)
        made.headers.remove("content-type")
        made.headers.remove("content-length")
    return made


async def _http_error(error: HTTPException) -> quart.Response:
    """Quart's own answers, such as 404 and 405, in the contract's form."""
    allow = [
        (b"allow", value.encode("ascii"))
        for name, value in error.get_headers()
        if name.lower() == "allow"
    ]
    status = error.code if error.code is not None and error.code >= 400 else 400
    return _quart_response(problem_of_status(status, instance=_target(), headers=allow))


async def _mistake(error: Exception) -> quart.Response:
    _log.error("request_failed", exc_info=error)
    return _quart_response(problem("internal", "The server made a mistake.", instance=_target()))


def _target() -> str:
    """The path that was asked for, as it was sent."""
    raw_path: bytes = quart.request.scope["raw_path"]
    return raw_path.decode("ascii", errors="replace")
