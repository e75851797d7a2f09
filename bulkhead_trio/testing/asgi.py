"""An ASGI client in memory: a request goes in, an answer comes out, no socket and no thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

import attrs
import msgspec
import trio

Application = Callable[[Any, Any, Any], Awaitable[None]]


@attrs.frozen
class Answer:
    """What the application said."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The decoded body."""
        return msgspec.json.decode(self.body)


class ASGIClient:
    """Sends requests straight into an ASGI application.

    Args:
        app: an ASGI 3 application.
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    async def get(self, target: str, headers: Mapping[str, str] | None = None) -> Answer:
        """``GET`` a path, query included."""
        return await self.request("GET", target, headers)

    async def request(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """Any request. Being cancelled is what a client that goes away is: ``http.disconnect``."""
        exchange = _Exchange(_scope(method, target, headers or {}), body)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._app, exchange.scope, exchange.receive, exchange.send)
            try:
                await exchange.done.wait()
            except trio.Cancelled:
                exchange.gone.set()
                raise
        return exchange.answer()


class _Exchange:
    def __init__(self, scope: dict[str, Any], body: bytes) -> None:
        self.scope = scope
        self.done = trio.Event()
        self.gone = trio.Event()
        self._body: bytes | None = body
        self._start: dict[str, Any] = {}
        self._chunks: list[bytes] = []

    async def receive(self) -> dict[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            self.done.set()

    def answer(self) -> Answer:
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in self._start["headers"]
        }
        return Answer(self._start["status"], headers, b"".join(self._chunks))


def _scope(method: str, target: str, headers: Mapping[str, str]) -> dict[str, Any]:
    path, _, query = target.partition("?")
    fields = {"host": "test", **headers}
    return {
        "type": "http",
        "asgi": {"spec_version": "2.3", "version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode("ascii"),
        "query_string": query.encode("ascii"),
        "root_path": "",
        "headers": [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in fields.items()
        ],
        "client": ("127.0.0.1", 40000),
        "server": ("127.0.0.1", 8080),
        "extensions": {},
    }
