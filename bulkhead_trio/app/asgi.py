"""The whole API as an ASGI application, for a server that is not ours.

``hypercorn -k trio 'bulkhead_trio.app:create_app()'``
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack
from typing import Any, TypeAlias
from urllib.parse import quote

import structlog
import trio

from bulkhead_trio.api._asgi import send_response
from bulkhead_trio.api._problem import problem
from bulkhead_trio.api.messages import Response
from bulkhead_trio.app.composition import Application, open_application
from bulkhead_trio.app.ground import open_ground
from bulkhead_trio.config import Settings, load_settings
from bulkhead_trio.http.extensions import extensions_of
from bulkhead_trio.http.hypercorn import worker as hypercorn_worker
from bulkhead_trio.observe.logs import configure_logging

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_log = structlog.get_logger("bulkhead_trio.app")

REFUSAL_EXTENSION = "websocket.http.response"


def create_app(settings: Settings | None = None) -> ASGIApplication:
    """The application for any ASGI server that runs on Trio and speaks lifespan.

    If that is Hypercorn, a client could end it with two lines: it is mended
    (`bulkhead_trio.http.hypercorn.worker`).

    Args:
        settings: by default those of the environment, and of the file that ``BULKHEAD_CONFIG``
            names, as ``bulkhead-trio serve`` reads them. What they say of listeners, processes and
            connections is the server's business then, and has no effect.

    Raises:
        ConfigurationError: with every mistake there is.
    """
    if settings is None:
        settings = load_settings(environ=os.environ, overrides={})
    hypercorn_worker.mend()
    return ASGIApplication(settings)


class ASGIApplication:
    """Opens everything when the server says that it starts, and gives it back when it stops.

    All of it belongs to the task in which the server runs the lifespan. Before that has begun and
    after it has ended, requests are answered 503.

    Args:
        settings: all of them.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._application: Application | None = None
        self._is_over = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._application is None:
            await _refuse(self._refusal(), scope, send)
        else:
            if scope.get("raw_path") is None:  # which a server may leave out
                scope["raw_path"] = quote(scope["path"]).encode("ascii")
            await self._application.sides["public"](scope, receive, send)

    def _refusal(self) -> Response:
        if self._is_over:
            return problem("draining", "The server is shutting down.", retry_after=1.0)
        return problem("shed", "The server has not started yet.", retry_after=1.0)

    async def _live(self, receive: Receive, send: Send) -> None:
        settings = self._settings
        await receive()
        configure_logging(level=settings.log_level, format=settings.log_format)
        failure: Exception | None = None
        has_started = False
        try:
            async with AsyncExitStack() as stack:
                ground = await stack.enter_async_context(open_ground(settings, announce=_announce))
                opened = open_application(settings, ground)
                self._application = await stack.enter_async_context(opened)
                has_started = True
                await send({"type": "lifespan.startup.complete"})
                await receive()
                await self._drain(self._application)
                self._end()
        except Exception as error:  # noqa: BLE001  told to the server below, whatever it is
            failure = error
        finally:
            self._end()
        if failure is not None:
            _log.error("lifespan_failed", exc_info=failure)
        stage = "shutdown" if has_started else "startup"
        outcome = "complete" if failure is None else "failed"
        message = {"type": f"lifespan.{stage}.{outcome}"}
        await send(message if failure is None else {**message, "message": _reason(failure)})

    async def _drain(self, application: Application) -> None:
        """Refuse new work, and wait for what runs as long as the settings allow."""
        gate = application.gate
        gate.close()
        with trio.move_on_after(self._settings.shutdown_grace_seconds) as grace:
            await gate.wait_idle()
        if grace.cancelled_caught:
            _log.warning("grace_passed", in_flight=gate.in_flight)
            gate.cut_off()

    def _end(self) -> None:
        self._application = None
        self._is_over = True


async def _refuse(response: Response, scope: Scope, send: Send) -> None:
    if scope["type"] == "http":
        await send_response(send, response, closes=True)
    elif REFUSAL_EXTENSION not in extensions_of(scope):
        await send({"type": "websocket.close"})
    else:

        async def send_refusal(message: Message) -> None:
            await send({**message, "type": f"websocket.{message['type']}"})

        await send_response(send_refusal, response, closes=True)


def _reason(error: BaseException) -> str:
    """The first error in a group, in a line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def _announce(sentence: str) -> None:
    _log.info("starting", what=sentence)
