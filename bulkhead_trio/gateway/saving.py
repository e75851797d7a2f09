"""A route that is to be saved: read, and its upstreams looked at, with every mistake found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import msgspec

from bulkhead_trio.errors import BulkheadTrioError, InvalidBody
from bulkhead_trio.gateway.spec import RouteSpec, read_spec, urls_of

CheckURL: TypeAlias = Callable[[str], None]
"""Raises one of our errors for a URL that nobody may connect to, or that is none; never waits."""


def read_route(document: Mapping[str, Any], *, check_url: CheckURL) -> RouteSpec:
    """The route that ``document``, of decoded JSON or TOML, describes.

    Args:
        document: all of it.
        check_url: refuses upstreams that nobody may connect to.

    Raises:
        InvalidBody: with every mistake there is.
    """
    try:
        raw = msgspec.json.encode(document)
    except (TypeError, ValueError, RecursionError):
        raise invalid([("$", "has values that JSON does not have")]) from None
    try:
        spec = read_spec(raw)
    except InvalidBody as error:
        errors = [(each["path"], each["message"]) for each in error.errors]
        known = {path for path, _ in errors}
        others = ((path, url) for path, url in _upstreams_in(document) if path not in known)
        raise invalid([*errors, *_mistakes(others, check_url)]) from None
    if errors := list(_mistakes(urls_of(spec), check_url)):
        raise invalid(errors)
    # PostgreSQL writes UUIDs in lower case, and so do all of our keys.
    return msgspec.structs.replace(spec, tenant_id=spec.tenant_id.lower())


def invalid(errors: list[tuple[str, str]]) -> InvalidBody:
    """What to raise for mistakes, each a path and what is wrong there."""
    return InvalidBody(
        "The body is not what it should be.",
        errors=[{"path": path, "message": message} for path, message in errors],
    )


def _mistakes(urls: Iterator[tuple[str, str]], check_url: CheckURL) -> Iterator[tuple[str, str]]:
    for path, url in urls:
        try:
            check_url(url)
        except BulkheadTrioError as error:
            yield path, error.message


def _upstreams_in(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The URLs of upstreams in a document that is wrong somewhere."""
    upstreams = document.get("upstreams")
    for number, upstream in enumerate(upstreams if isinstance(upstreams, list) else ()):
        url = upstream.get("url") if isinstance(upstream, Mapping) else None
        if isinstance(url, str):
            yield f"$.upstreams[{number}].url", url
