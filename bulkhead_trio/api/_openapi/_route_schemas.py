"""The bodies of routes: types, bounds and defaults are those of `RouteSpec`, words are here."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import inspect

from bulkhead_trio.api._openapi._objects import JSON, counted, described_object
from bulkhead_trio.api._openapi._route_words import MAP_NAMES, WORDS
from bulkhead_trio.gateway.resilience_spec import ResilienceSpec
from bulkhead_trio.gateway.spec import RouteSpec, TransformSpec, UpstreamSpec

_TEXT: JSON = {"type": "string"}
_FLAG: JSON = {"type": "boolean"}
_UUID: JSON = {"type": "string", "format": "uuid"}
_MOMENT: JSON = {"type": "string", "format": "date-time"}
_MAYBE_MOMENT: JSON = {"type": ["string", "null"], "format": "date-time"}

_WITHOUT_DEFAULT = ("identity",)
"""Members that a route need not have, and that are absent then."""

_COMPONENTS: dict[type, str] = {
    UpstreamSpec: "Upstream",
    TransformSpec: "Transform",
    ResilienceSpec: "Resilience",
}
"""Parts that are described once, and referred to."""


def route_schemas() -> JSON:
    """For ``components.schemas``."""
    new = _struct(inspect.type_info(RouteSpec), "")
    members = {name: each for name, each in new["properties"].items() if name != "tenantId"}
    kept = {
        "id": dict(_UUID),
        "tenantId": new["properties"]["tenantId"],
        **members,
        "createdAt": dict(_MOMENT),
        "updatedAt": dict(_MOMENT),
        "version": counted("One more with each change; `ETag` names it."),
    }
    return {
        "NewRoute": {**new, "description": "A route to be made."},
        "RoutePatch": {
            "type": "object",
            "description": "What to change, as a JSON merge patch (RFC 7396): what is absent "
            "stays, null takes away, and lists are replaced whole.",
            "properties": members,
        },
        "Route": described_object(
            "A route; what was left out has its default.",
            kept,
            required=[name for name in kept if name not in _WITHOUT_DEFAULT],
        ),
        **{
            name: _struct(inspect.type_info(kind), name.lower())
            for kind, name in _COMPONENTS.items()
        },
        "RouteHealth": _health(),
    }


def _schema(info: Any, path: str) -> JSON:
    """The schema of a type."""
    match info:
        case inspect.Metadata():
            return _schema(info.type, path)
        case inspect.UnionType():
            return _union(info, path)
        case inspect.StructType():
            name = _COMPONENTS.get(info.cls)
            return _struct(info, path) if name is None else _ref(name)
        case inspect.LiteralType():
            return {"type": "string", "enum": list(info.values)}
        case inspect.BoolType():
            return dict(_FLAG)
        case inspect.IntType():
            return {"type": "integer", **_bounds(info)}
        case inspect.FloatType():
            return {"type": "number", **_bounds(info)}
        case inspect.StrType():
            most = {} if info.max_length is None else {"maxLength": info.max_length}
            return {"type": "string", **most}
        case inspect.VarTupleType():
            return {"type": "array", "items": _schema(info.item_type, f"{path}[]")}
        case inspect.DictType():
            return {
                "type": "object",
                "additionalProperties": _schema(info.value_type, f"{path}.*"),
                "x-additionalPropertiesName": MAP_NAMES[path.rpartition(".")[2]],
            }
        case _:
            raise TypeError(f"{path} has a type that is not described: {info}")


def _union(info: inspect.UnionType, path: str) -> JSON:
    """One of several types; what may be null may as well be absent, and is so in answers."""
    schemas = [_schema(each, path) for each in info.types if not isinstance(each, inspect.NoneType)]
    if len(schemas) == 1:
        return schemas[0]
    merged: JSON = {}
    for each in schemas:
        merged |= each
    return {**merged, "type": [each["type"] for each in schemas]}


def _struct(info: Any, path: str) -> JSON:
    properties = {}
    for field in info.fields:
        name = field.encode_name
        where = f"{path}.{name}" if path else name
        schema = _schema(field.type, where)
        if "$ref" not in schema:
            default = _default(field)
            schema |= {} if default is None else {"default": default}
            schema["description"] = WORDS[where]
        properties[name] = schema
    required = [field.encode_name for field in info.fields if field.required]
    return {
        "type": "object",
        "description": WORDS[path] if path else "",
        **({"required": required} if required else {}),
        "properties": properties,
    }


def _default(field: inspect.Field) -> Any:
    """A plain default, where there is one worth telling."""
    if field.default is msgspec.NODEFAULT:
        return None
    default = msgspec.to_builtins(field.default)
    return None if isinstance(default, dict) else default


def _bounds(info: Any) -> JSON:
    named = {"minimum": info.ge, "maximum": info.le, "exclusiveMinimum": info.gt}
    return {name: bound for name, bound in named.items() if bound is not None}


def _ref(name: str) -> JSON:
    return {"$ref": f"#/components/schemas/{name}"}


def _health() -> JSON:
    upstream = {
        "url": dict(_TEXT),
        "weight": {"type": "number"},
        "healthy": {**_FLAG, "description": "Whether requests go there, as far as health goes."},
        "state": {
            **_TEXT,
            "enum": ["unknown", "healthy", "unhealthy", "ejected"],
            "description": "`unhealthy` by checks, `ejected` because requests failed.",
        },
        "lastCheck": {**_MAYBE_MOMENT, "description": "When the last check ended."},
        "consecutiveSuccesses": counted("Checks in a row that passed."),
        "consecutiveFailures": counted("Checks in a row that failed."),
        "failedRequests": counted("Requests in a row that failed, where that is watched."),
        "ejectedUntil": {**_MAYBE_MOMENT, "description": "When it is let in again."},
        "ejections": counted("How often it was ejected."),
        "inFlight": counted("Requests that it has now."),
        "circuitBreaker": {
            **described_object(
                "Its breaker; null without one.",
                {
                    "state": {**_TEXT, "enum": ["CLOSED", "OPEN", "HALF_OPEN"]},
                    "failures": counted("In its window."),
                    "retryAfter": {
                        "type": "number",
                        "description": "Seconds of its cooldown left.",
                    },
                },
            ),
            "type": ["object", "null"],
        },
    }
    return described_object(
        "How this instance finds the upstreams of a route.",
        {
            "routeId": dict(_UUID),
            "healthy": {**_FLAG, "description": "Whether one of them is up at least."},
            "upstreams": {
                "type": "array",
                "items": described_object("One upstream.", upstream),
                "description": "In the order of the route.",
            },
        },
    )
