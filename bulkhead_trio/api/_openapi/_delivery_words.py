"""What the schemas of events, webhooks, deliveries and notifications are written with."""

from __future__ import annotations

from typing import Final

from bulkhead_trio.api._openapi._objects import JSON, described_object
from bulkhead_trio.delivery._matching_rules import MOST_CHARACTERS

EXAMPLE_DIGITS: Final = "0195f2c06a4b7c3e8d21a90b4c5d6e7f"

MOMENT: Final[JSON] = {"type": "string", "format": "date-time"}
MAYBE_MOMENT: Final[JSON] = {"type": ["string", "null"], "format": "date-time"}
TYPE: Final[JSON] = {
    "type": "string",
    "minLength": 1,
    "maxLength": MOST_CHARACTERS,
    "pattern": r"^[a-zA-Z0-9_]+(\.[a-zA-Z0-9_]+)*$",
}
PATTERN: Final[JSON] = {
    "type": "string",
    "maxLength": MOST_CHARACTERS,
    "pattern": r"^(\*|[a-zA-Z0-9_]+(\.[a-zA-Z0-9_]+)*(\.\*)?)$",
}


def page(description: str, item: str) -> JSON:
    """A part of a list."""
    return described_object(
        description,
        {
            "items": {"type": "array", "items": ref(item)},
            "nextCursor": {
                "type": ["string", "null"],
                "description": "Send it as `cursor` for the next page; null: this is the last.",
            },
        },
    )


def in_path(whose: str, prefix: str) -> JSON:
    """The parameter ``id``, an id with this beginning."""
    return {
        "name": "id",
        "in": "path",
        "required": True,
        "description": f"The {whose} id.",
        "schema": {"type": "string", "pattern": id_pattern(prefix)},
        "example": f"{prefix}_{EXAMPLE_DIGITS}",
    }


def in_query(name: str, description: str, schema: JSON) -> JSON:
    """A field of the query."""
    return {"name": name, "in": "query", "description": description, "schema": schema}


def own_id(prefix: str) -> JSON:
    """An id with this beginning."""
    return {"type": "string", "pattern": id_pattern(prefix)}


def id_pattern(prefix: str) -> str:
    """What such an id looks like."""
    return f"^{prefix}_[0-9a-f]{{32}}$"


def ref(name: str) -> JSON:
    """A reference to one of ``components.schemas``."""
    return {"$ref": f"#/components/schemas/{name}"}
