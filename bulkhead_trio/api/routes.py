"""The table of routes: what a front binds, and what the API's description is checked against."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias
from urllib.parse import unquote

import attrs
import structlog

from bulkhead_trio.api._problem import problem, problem_of
from bulkhead_trio.api.messages import Request, Response
from bulkhead_trio.errors import BulkheadTrioError

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]

_log = structlog.get_logger("bulkhead_trio.api")


@attrs.frozen
class Route:
    """One method of one path.

    Attributes:
        path: a segment in braces, ``{orderId}``, stands for any one.
        reads_body: whether the handler wants the request's body.
        is_admin: whether the admin listener serves it, where there is one.
    """

    method: str
    path: str
    handler: Handler
    reads_body: bool = False
    is_admin: bool = False

    def path_values(self, target: str) -> dict[str, str]:
        """What stands in ``target``, a path as it was sent, for the names in braces.

        Each is unescaped by itself, so that an escaped slash stays within its segment.
        """
        pairs = zip(self.path.split("/"), target.split("/"), strict=False)
        return {
            name[1:-1]: unquote(value, errors="strict")
            for name, value in pairs
            if name.startswith("{")
        }


class Resource(Protocol):
    """A group of routes; the Quart app makes a blueprint of each."""

    name: str

    def routes(self) -> tuple[Route, ...]:
        """What it answers."""


async def answer(handler: Handler, request: Request) -> Response:
    """Run a handler; whatever it raises becomes the contract's answer.

    `trio.Cancelled` is no error and passes.
    """
    try:
        return await handler(request)
    except BulkheadTrioError as error:
        request.notes["code"] = error.code
        if error.code == "internal":
            _log.exception("request_failed")
        return problem_of(error, instance=request.target)
    except Exception:  # noqa: BLE001  a mistake of ours is answered, logged and survived
        _log.exception("request_failed")
        return problem("internal", "The server made a mistake.", instance=request.target)
