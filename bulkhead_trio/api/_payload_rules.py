"""What may be an event's payload: a JSON object, kept as it was written; and the object that it
is in. Pure.

It is not decoded: numbers of any size and precision, the order of members and the white space stay
what they were. So what is checked is what others would stumble over who do decode it, PostgreSQL
first, which would refuse all events of a batch for the sake of one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import accumulate
from typing import Final

import msgspec

MOST_PAYLOAD_BYTES: Final = 256 * 1024
"""Of an event. Each delivery sends it, and each try again."""

MOST_DEPTH: Final = 100
"""Objects and arrays within each other; decoders that are written recursively stop at some such."""

_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')
_NAME: Final = re.compile(rb'[ \t\r\n]*("(?:[^"\\]|\\.)*")[ \t\r\n]*:[ \t\r\n]*')
_TEXT: Final = msgspec.json.Decoder(str)
_NEXT: Final = re.compile(rb"[ \t\r\n]*([,}])")
_OTHERS: Final = bytes(set(range(256)) - set(b"[]{}"))
_STEPS: Final = tuple({"[": 1, "{": 1, "]": -1, "}": -1}.get(chr(code), 0) for code in range(256))


def check_payload(raw: bytes) -> bytes:
    """The payload.

    Args:
        raw: JSON that has been found to be well formed, but for its strings' bytes.

    Raises:
        ValueError: it cannot be one; the message follows its name.
    """
    if not raw.startswith(b"{"):
        raise ValueError("must be an object")
    if len(raw) > MOST_PAYLOAD_BYTES:
        raise ValueError(f"must have at most {MOST_PAYLOAD_BYTES} bytes")
    try:
        raw.decode()
    except UnicodeDecodeError:
        raise ValueError("is not JSON in UTF-8") from None
    if raw.count(b"[") + raw.count(b"{") > MOST_DEPTH and _depth(raw) > MOST_DEPTH:
        raise ValueError(f"must have at most {MOST_DEPTH} objects and arrays within each other")
    return raw


def repeated_member(body: bytes, members: Mapping[str, bytes]) -> str | None:
    """A member that an object has more than once; ``None``: each is there once.

    Args:
        body: the object, well formed.
        members: what was read of it: each name once, in the order in which it came first, and of
            its values the last one, as it was written.
    """
    at, has_more = body.index(b"{") + 1, bool(members)
    for name, value in members.items():
        here, at = _name(body, at)
        if here != name:
            return here  # it came before
        raw = bytes(value)
        end = _NEXT.match(body, at + len(raw))
        if end is None or not body.startswith(raw, at):
            return name  # this is not its last value
        at, has_more = end.end(), end[1] == b","
    return _name(body, at)[0] if has_more else None


def _name(body: bytes, at: int) -> tuple[str, int]:
    """The name of the member that begins there, and where its value does."""
    found = _NAME.match(body, at)
    assert found is not None  # noqa: S101  the object is well formed
    return _TEXT.decode(found[1]), found.end()


def _depth(raw: bytes) -> int:
    brackets = _STRING.sub(b"", raw).translate(None, delete=_OTHERS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)))
