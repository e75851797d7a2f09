"""Which routes no request would ever come to, since their paths are the server's own."""

from __future__ import annotations

import functools
from typing import Final
from urllib.parse import unquote

from bulkhead_trio.api._openapi.operations import operations
from bulkhead_trio.api.routes import RESERVED, OwnPaths
from bulkhead_trio.gateway._pattern_rules import Pattern

SAID: Final = "is a path that the server answers itself: no request for it would come here"


def hidden_by_ours(path: str, path_type: str) -> str | None:
    """What is wrong with a route's path that our own paths hide altogether; ``None``: nothing.

    One that merely covers some of them, as the prefix ``/`` does, has all other requests, and is
    right. Of a regular expression it is known what it matches where that is one path, or where all
    that it matches begins alike.

    Args:
        path: as it is right for a route.
        path_type: ``exact``, ``prefix`` or ``regex``.
    """
    if path_type == "exact":
        return SAID if unquote(path) in own_paths() else None
    if path_type == "prefix":
        return _said_of_all_below(unquote(path).rstrip("/") + "/")
    pattern = Pattern(path)
    only = pattern.only_match()
    if only is not None:
        return SAID if unquote(only.decode("ascii")) in own_paths() else None
    for each in RESERVED:
        if pattern.matches_only_below(each.encode("ascii") + b"/"):
            return _said_of_all_below(each + "/")
    return None


@functools.cache
def own_paths() -> OwnPaths:
    """All of ours, by the description of the API."""
    return OwnPaths(operation.path for operation in operations(["any"]))


def _said_of_all_below(beginning: str) -> str | None:
    for each in RESERVED:
        if beginning.startswith(each + "/"):
            return f"is {each} or below it, which is the server's own: no request would come here"
    return None
