"""The table of routes: what a front binds, and what the API's description is checked against."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

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
        is_admin: whether the admin listener serves it, where there is one.
    """

    method: str
    path: str
    handler: Handler
    is_admin: bool = False


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
