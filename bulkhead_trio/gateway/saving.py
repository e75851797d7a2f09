"""A route that is to be saved: read, and its upstreams looked at, with every mistake found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import msgspec

from bulkhead_trio.errors import BulkheadTrioError, InvalidBody
from bulkhead_trio.gateway.spec import RouteSpec, read_spec, urls_of
from bulkhead_trio.http.client._audience_rules import Audience

CheckURL: TypeAlias = Callable[[str], None]
"""Raises one of our errors for a URL that nobody may connect to, or that is none; never waits."""

Hidden: TypeAlias = Callable[[str, str], str | None]
"""What is wrong with a path, and its ``pathType``, that no request would ever come to, because the
server answers all of them itself; ``None`` where some would."""

Audiences: TypeAlias = Mapping[str, Audience]
"""The identities that are configured, each with the URLs that its tokens may be sent to."""

NO_IDENTITIES: Final[Audiences] = MappingProxyType({})

WHAT_IT_MATCHES: Final = ("method", "path", "pathType", "priority")
"""Of two routes of a tenant that have these alike, the younger would never have a request."""


def what_it_matches(spec: RouteSpec) -> tuple[object, ...]:
    """What `WHAT_IT_MATCHES` names of a route, to compare it with others."""
    return spec.method, spec.path, spec.path_type, spec.priority


def nothing_is_hidden(path: str, path_type: str) -> None:
    """As where there are no paths but tenants'."""


def read_route(
    document: Mapping[str, Any],
    *,
    check_url: CheckURL,
    hidden: Hidden = nothing_is_hidden,
    identities: Audiences = NO_IDENTITIES,
) -> RouteSpec:
    """The route that ``document``, of decoded JSON or TOML, describes.

    Args:
        document: all of it.
        check_url: refuses upstreams that nobody may connect to.
        hidden: refuses paths that are the server's own.
        identities: what requests may go out as; a route with another is refused, and so is one
            with upstreams that its identity is not for.

    Raises:
        InvalidBody: with every mistake there is.
    """
    try:
        raw = msgspec.json.encode(document)
    except (TypeError, ValueError):
        raise invalid([("$", "has values that JSON does not have")]) from None
    except RecursionError:
        raise invalid([("$", "has too many objects or arrays within each other")]) from None
    try:
        spec = read_spec(raw)
    except InvalidBody as error:
        errors = [(each["path"], each["message"]) for each in error.errors]
        known = {path for path, _ in errors}
        others = ((path, url) for path, url in _upstreams_in(document) if path not in known)
        raise invalid([*errors, *_mistakes(others, check_url)]) from None
    errors = [*_mistakes(urls_of(spec), check_url), *_identity_mistakes(spec, identities)]
    if (wrong := hidden(spec.path, spec.path_type)) is not None:
        errors.insert(0, ("$.path", wrong))
    if errors:
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


def _identity_mistakes(spec: RouteSpec, identities: Audiences) -> Iterator[tuple[str, str]]:
    name = spec.identity
    if name is None:
        return
    audience = identities.get(name)
    if audience is None:
        yield "$.identity", "is the name of no identity that is configured"
        return
    for path, url in urls_of(spec):
        if not audience.covers(url):
            yield path, f"is nothing that tokens of the identity {name} may be sent to"


def _upstreams_in(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The URLs of upstreams in a document that is wrong somewhere."""
    upstreams = document.get("upstreams")
    for number, upstream in enumerate(upstreams if isinstance(upstreams, list) else ()):
        url = upstream.get("url") if isinstance(upstream, Mapping) else None
        if isinstance(url, str):
            yield f"$.upstreams[{number}].url", url
