"""The route document: what a route is, as people write it in JSON or TOML.

Times in it are milliseconds. What is absent has the default that stands here, and every member of
``resilience`` is off while it is absent. ``docs/gateway/routes.md`` explains each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias
from uuid import UUID

import msgspec
from msgspec import Meta

from bulkhead_trio.errors import InvalidBody
from bulkhead_trio.gateway import _document_rules as rules
from bulkhead_trio.gateway._part_types import URL, Part
from bulkhead_trio.gateway._reading_rules import Check, Mistake, reader_of, says
from bulkhead_trio.gateway.resilience_spec import (
    BreakerSpec,
    BudgetSpec,
    BulkheadSpec,
    EjectionSpec,
    FallbackSpec,
    HealthCheckSpec,
    ResilienceSpec,
    RetrySpec,
    TimeoutSpec,
    switched_on,
)

__all__ = [
    "ANY_METHOD",
    "BreakerSpec",
    "BudgetSpec",
    "BulkheadSpec",
    "EjectionSpec",
    "FallbackSpec",
    "HealthCheckSpec",
    "RequestHeadersSpec",
    "RequestTransformSpec",
    "ResilienceSpec",
    "ResponseHeadersSpec",
    "ResponseTransformSpec",
    "RetrySpec",
    "RewritingSpec",
    "RouteSpec",
    "TimeoutSpec",
    "TransformSpec",
    "UpstreamSpec",
    "merge_patch",
    "read_spec",
    "spec_json",
    "switched_on",
    "urls_of",
]

ANY_METHOD: Final = rules.ANY_METHOD

Headers: TypeAlias = Annotated[dict[str, str], Meta(max_length=64)]


# --- where to ------------------------------------------------------------------------------------


class UpstreamSpec(Part, frozen=True, kw_only=True):
    """One upstream.

    Attributes:
        url: http or https; its path is put before that of each request.
        weight: its part beside the others' weights.
    """

    url: URL
    weight: Annotated[int, Meta(ge=1, le=1000)] = 1


# --- transformation ------------------------------------------------------------------------------


class RequestHeadersSpec(Part, frozen=True, kw_only=True):
    """Headers of requests.

    Attributes:
        set: in place of whatever the client sent.
        add: beside whatever the client sent.
        remove: names.
    """

    set: Headers = msgspec.field(default_factory=dict)
    add: Headers = msgspec.field(default_factory=dict)
    remove: Annotated[tuple[str, ...], Meta(max_length=64)] = ()

    def mistakes(self) -> Iterator[Mistake]:
        """What is wrong with it as a whole."""
        return rules.header_mistakes(self.set, self.add, self.remove, of_answers=False)


class ResponseHeadersSpec(Part, frozen=True, kw_only=True):
    """Headers of answers.

    Attributes:
        set: in place of whatever the upstream sent.
        add: beside whatever the upstream sent.
        remove: names.
    """

    set: Headers = msgspec.field(default_factory=dict)
    add: Headers = msgspec.field(default_factory=dict)
    remove: Annotated[tuple[str, ...], Meta(max_length=64)] = ()

    def mistakes(self) -> Iterator[Mistake]:
        """What is wrong with it as a whole."""
        return rules.header_mistakes(self.set, self.add, self.remove, of_answers=True)


class RewritingSpec(Part, frozen=True, kw_only=True):
    """How a path is changed: the first match of a pattern is replaced.

    Attributes:
        pattern: RE2; where it does not match, the path stays as it is.
        replacement: with ``$1``, ``${1}`` or ``${name}`` for groups, and ``$$`` for a dollar sign.
    """

    pattern: str
    replacement: Annotated[str, Meta(max_length=rules.LONGEST_PATH)]

    def mistakes(self) -> Iterator[Mistake]:
        """What is wrong with it as a whole."""
        return rules.rewriting_mistakes(self.pattern, self.replacement)


class RequestTransformSpec(Part, frozen=True, kw_only=True):
    """What is changed in requests."""

    headers: RequestHeadersSpec | None = None
    path: RewritingSpec | None = None


class ResponseTransformSpec(Part, frozen=True, kw_only=True):
    """What is changed in answers.

    Attributes:
        headers: those of answers.
        locations: whether addresses of the upstream itself, in ``Location`` and
            ``Content-Location``, become those that its client has asked.
    """

    headers: ResponseHeadersSpec | None = None
    locations: bool = True


class TransformSpec(Part, frozen=True, kw_only=True):
    """What is changed on the way."""

    request: RequestTransformSpec | None = None
    response: ResponseTransformSpec | None = None


# --- the route -----------------------------------------------------------------------------------


def _tenant_id_mistake(text: str) -> str | None:
    try:
        is_canonical = str(UUID(text)) == text.lower()
    except ValueError:
        is_canonical = False
    return None if is_canonical else "must be a tenant's id, a UUID"


class RouteSpec(Part, frozen=True, kw_only=True):
    """A route: which requests it takes, where they go, and what is done on the way.

    Attributes:
        tenant_id: whose it is.
        method: one, several in alphabetical order, or ``"*"``.
        path: to be compared with requests' paths, as ``path_type`` says.
        path_type: ``exact``, ``prefix`` (whole segments) or ``regex`` (from the path's beginning).
        priority: of two regular expressions that match, the higher one counts.
        strip_path: whether what was matched is taken off the path.
        upstreams: each once.
        load_balancing: how they share.
        slow_start_ms: over how long an upstream that came back gets its whole part again.
        identity: as whom requests go to upstreams; its token replaces the caller's.
        transform: what is changed on the way.
        resilience: what protects it.
    """

    tenant_id: Annotated[str, says(_tenant_id_mistake)]
    method: Annotated[
        str | tuple[str, ...],
        Meta(description='a method, a list of methods, or "*"'),
        Check(rules.method_mistakes),
    ] = ANY_METHOD
    path: Annotated[str, Meta(max_length=rules.LONGEST_PATH)]
    path_type: Literal["exact", "prefix", "regex"] = "prefix"
    priority: Annotated[int, Meta(ge=-1_000_000, le=1_000_000)] = 0
    strip_path: bool = False
    upstreams: Annotated[tuple[UpstreamSpec, ...], Meta(min_length=1, max_length=64)]
    load_balancing: Literal["round-robin", "weighted", "random", "least-connections"] = (
        "round-robin"
    )
    slow_start_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = 0
    identity: Annotated[str, Meta(max_length=32), says(rules.identity_mistake)] | None = None
    transform: TransformSpec = TransformSpec()
    resilience: ResilienceSpec = ResilienceSpec()

    def __repr__(self) -> str:
        # Headers that it sets may be secrets.
        return f"RouteSpec({self.method!r}, {self.path!r}, {self.path_type!r})"

    @property
    def methods(self) -> tuple[str, ...] | None:
        """All methods that it names; ``None`` for any."""
        if self.method == ANY_METHOD:
            return None
        return (self.method,) if isinstance(self.method, str) else self.method

    def mistakes(self) -> Iterator[Mistake]:
        """What is wrong with it as a whole."""
        is_regex = self.path_type == "regex"
        wrong = rules.regex_mistake(self.path) if is_regex else rules.path_mistake(self.path)
        if wrong is not None:
            yield ".path", wrong
        if self.priority and not is_regex:
            yield ".priority", "has no effect but on regular expressions"
        request = self.transform.request
        if self.identity is not None and request is not None and request.headers is not None:
            yield from rules.authorization_mistakes(request.headers.set, request.headers.add)
        seen: dict[tuple[str, str], int] = {}
        for number, upstream in enumerate(self.upstreams):
            first = seen.setdefault(rules.origin_and_base(upstream.url), number)
            if first != number:
                yield f".upstreams[{number}].url", f"is there already, as upstreams[{first}]"


# --- reading and writing -------------------------------------------------------------------------


def read_spec(document: bytes) -> RouteSpec:
    """The route that a JSON document describes.

    Raises:
        InvalidBody: with every mistake there is.
    """
    mistakes: list[Mistake] = []
    try:
        decoded = msgspec.json.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _invalid([("$", "is not JSON")]) from None
    spec = reader_of(RouteSpec)(decoded, "$", mistakes)
    if mistakes or not isinstance(spec, RouteSpec):
        raise _invalid(mistakes)
    return _canonical(spec)


def spec_json(spec: RouteSpec) -> bytes:
    """The document in the one form for everything that means the same; `read_spec` reads it."""
    document = _without_nulls(msgspec.to_builtins(spec))
    return msgspec.json.encode(document)


def urls_of(spec: RouteSpec) -> Iterator[tuple[str, str]]:
    """Every URL that requests may go to, with the path of its member."""
    for number, upstream in enumerate(spec.upstreams):
        yield f"$.upstreams[{number}].url", upstream.url
    fallback = spec.resilience.fallback
    if fallback is not None and fallback.upstream is not None:
        yield "$.resilience.fallback.upstream", fallback.upstream


def merge_patch(target: Any, patch: Any) -> Any:
    """What a JSON merge patch (RFC 7396) makes of ``target``, which stays as it is."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def _canonical(spec: RouteSpec) -> RouteSpec:
    if isinstance(spec.method, str):
        return spec
    methods = tuple(sorted(spec.method))
    return msgspec.structs.replace(spec, method=methods[0] if len(methods) == 1 else methods)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list | tuple) else value


MOST_MISTAKES: Final = 100
"""That are told of one document; nobody mends more at once."""


def _invalid(mistakes: list[Mistake]) -> InvalidBody:
    return InvalidBody(
        "The route is not what it should be.",
        errors=[{"path": path, "message": message} for path, message in mistakes[:MOST_MISTAKES]],
    )
