"""Where in a body a mistake is, by name: msgspec names no members of objects of any kind."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

MOST_NAMES: Final = 16
"""That are looked for: each is found by reading what is left of the body once more."""

UNNAMED: Final = "[...]"
"""How msgspec writes any member of an object."""

_STEP: Final = re.compile(r"\.[^.\[\]]+|\[(?:[0-9]+|\.\.\.)\]")
_PATH: Final = re.compile(rf"\$(?:{_STEP.pattern})*")

_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ANYTHING: Final = msgspec.json.Decoder[Any]()


def named_path(body: bytes, path: str) -> str:
    """The path with the names of members, where a value that cannot be read tells which they are.

    Args:
        body: as it was sent.
        path: as msgspec says it, ``$[...].b[1]``.
    """
    if UNNAMED not in path or _PATH.fullmatch(path) is None:
        return path
    here, value, names = "$", msgspec.Raw(body), 0
    for step in _STEP.findall(path):
        if step != UNNAMED:
            value = _inside(value, step)
            here += step
            continue
        names += 1
        found = _unreadable(value) if names <= MOST_NAMES else None
        if found is None:
            return here
        name, value = found
        here += f".{name}"
    return here


def _inside(value: msgspec.Raw, step: str) -> msgspec.Raw:
    if step.startswith("."):
        return _OBJECT.decode(value)[step[1:]]
    return _LIST.decode(value)[int(step[1:-1])]


def _unreadable(value: msgspec.Raw) -> tuple[str, msgspec.Raw] | None:
    """The first member whose value cannot be read."""
    for name, member in _OBJECT.decode(value).items():
        try:
            _ANYTHING.decode(member)
        except msgspec.ValidationError:
            return name, member
    return None
