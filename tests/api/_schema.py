"""Checks a value against a schema of the API's description, in the few words that it uses."""

from __future__ import annotations

import datetime
import re
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_KNOWN = {
    "$ref", "type", "description", "required", "properties", "additionalProperties", "items",
    "enum", "const", "minimum", "maximum", "exclusiveMinimum", "minLength", "maxLength",
    "pattern", "format", "default",
    "x-additionalPropertiesName",
}  # fmt: skip


def resolve(document: Any, node: Any) -> Any:
    """The node, or what its reference leads to; one that leads nowhere raises."""
    while "$ref" in node:
        reference = node["$ref"]
        assert reference.startswith("#/"), reference
        node = document
        for part in reference[2:].split("/"):
            node = node[part.replace("~1", "/").replace("~0", "~")]
    return node


def check(document: Any, schema: Any, value: Any, at: str = "$") -> None:
    """Raise AssertionError where ``value`` is not what ``schema`` says.

    Stricter than JSON Schema: words that are not known here and members that are not described
    are mistakes too, since it is the description that is on trial.
    """
    schema = resolve(document, schema)
    assert schema.keys() <= _KNOWN, f"{at}: {schema.keys() - _KNOWN}"
    _check_value(schema, value, at)
    if isinstance(value, dict) and "properties" in schema:
        missing = set(schema.get("required", ())) - value.keys()
        assert not missing, f"{at} has no {missing}"
        assert value.keys() <= schema["properties"].keys(), f"{at}: {value.keys()}"
        for name, member in value.items():
            check(document, schema["properties"][name], member, f"{at}.{name}")
    elif isinstance(value, dict) and "additionalProperties" in schema:
        for name, member in value.items():
            check(document, schema["additionalProperties"], member, f"{at}.{name}")
    elif isinstance(value, list) and "items" in schema:
        for number, member in enumerate(value):
            check(document, schema["items"], member, f"{at}[{number}]")


def _check_value(schema: Any, value: Any, at: str) -> None:
    if "type" in schema:
        names = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        allowed = tuple(kind for name in names for kind in _TYPES[name])
        assert isinstance(value, allowed), f"{at} is no {names}: {value!r}"
        assert "boolean" in names or not isinstance(value, bool), f"{at} is no {names}: {value!r}"
    if "enum" in schema:
        assert value in schema["enum"], f"{at}: {value!r}"
    if "const" in schema:
        assert value == schema["const"], f"{at}: {value!r}"
    if value is not None and ("minLength" in schema or "maxLength" in schema):
        assert schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)), at
    if "exclusiveMinimum" in schema:
        assert value > schema["exclusiveMinimum"], f"{at}: {value!r}"
    if "minimum" in schema:
        assert value >= schema["minimum"], f"{at}: {value!r}"
    if "maximum" in schema:
        assert value <= schema["maximum"], f"{at}: {value!r}"
    if "pattern" in schema:
        assert re.search(schema["pattern"], value), f"{at}: {value!r}"
    if schema.get("format") == "date-time" and value is not None:
        assert datetime.datetime.fromisoformat(value).tzinfo is not None, f"{at}: {value!r}"
