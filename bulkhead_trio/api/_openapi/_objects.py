"""What schemas are written with."""

from __future__ import annotations

from typing import Any

JSON = dict[str, Any]


def counted(description: str, **more: object) -> JSON:
    """A whole number, 0 or more."""
    return {"type": "integer", "minimum": 0, "description": description, **more}


def measured(description: str) -> JSON:
    """A number, 0 or more."""
    return {"type": "number", "minimum": 0, "description": description}


def described_object(description: str, properties: JSON, **more: object) -> JSON:
    """An object that has all of its properties, and may come to have more."""
    return {
        "type": "object",
        "description": description,
        "required": list(properties),
        "properties": properties,
        **more,
    }
