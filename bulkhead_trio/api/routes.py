"""The table of routes: what a front binds, and what the API's description is checked against."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeAlias
from urllib.parse import unquote

import attrs
import structlog

from bulkhead_trio.api._problem import problem, problem_of
from bulkhead_trio.api.messages import Request, Response
from bulkhead_trio.errors import BulkheadTrioError

Handler: TypeAlias = Callable[[Request], Response | Awaitable[Response]]
"""Answers at once, or says what to wait for. What can be decided is decided before the first wait,
so that a refusal costs neither a scope nor a switch of tasks."""

_log = structlog.get_logger("bulkhead_trio.api")


@attrs.frozen
class Route:
    """One method of one path.

    Attributes:
        path: a segment in braces, ``{orderId}``, stands for any one.
        reads_body: whether the handler wants the request's body.
        is_admin: whether the admin listener serves it, where there is one.
        is_hot: whether the data plane answers it; then there are no names in its path.
    """

    method: str
    path: str
    handler: Handler
    reads_body: bool = False
    is_admin: bool = False
    is_hot: bool = False

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


RESERVED = ("/admin",)
"""Ours with everything below, also what is not there: nobody's route may look like it."""


class OwnPaths:
    """Which paths are ours; everything else is a tenant's.

    Args:
        paths: those of all of our routes.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._exact: set[str] = set()
        self._segments: dict[int, list[tuple[str | None, ...]]] = {}
        for path in paths:
            if "{" not in path:
                self._exact.add(path)
                continue
            pattern = tuple(None if part.startswith("{") else part for part in path.split("/"))
            patterns = self._segments.setdefault(len(pattern), [])
            if pattern not in patterns:
                patterns.append(pattern)

    def __contains__(self, path: object) -> bool:
        """Whether ``path``, decoded, is one of ours, whatever the method."""
        if path in self._exact:
            return True
        if not isinstance(path, str):
            return False
        parts = path.split("/")
        for pattern in self._segments.get(len(parts), ()):
            if all(want is None or want == part for want, part in zip(pattern, parts, strict=True)):
                return True
        return any(path == each or path.startswith(each + "/") for each in RESERVED)


async def answer(handler: Handler, request: Request) -> Response:
    """Run a handler to its end; whatever it raises becomes the contract's answer.

    `trio.Cancelled` is no error and passes.
    """
    begun = begin(handler, request)
    return begun if isinstance(begun, Response) else await finish(begun, request)


def begin(handler: Handler, request: Request) -> Response | Awaitable[Response]:
    """Run a handler until it answers or has to wait; what `finish` is for then."""
    try:
        return handler(request)
    except Exception as error:  # noqa: BLE001
        return _answer_to(error, request)


async def finish(begun: Awaitable[Response], request: Request) -> Response:
    """Wait for the answer that a handler has begun with."""
    try:
        return await begun
    except Exception as error:  # noqa: BLE001
        return _answer_to(error, request)


def _answer_to(error: Exception, request: Request) -> Response:
    if isinstance(error, BulkheadTrioError):
        request.notes["code"] = error.code
        if error.code == "internal":
            _log.error("request_failed", exc_info=error)
        return problem_of(error, instance=request.target)
    # A mistake of ours is answered, logged and survived.
    _log.error("request_failed", exc_info=error)
    return problem("internal", "The server made a mistake.", instance=request.target)
