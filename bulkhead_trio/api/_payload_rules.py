"""What may be an event's payload: a JSON object, kept as it was written. Pure.

It is not decoded: numbers of any size and precision, the order of members and the white space stay
what they were. So what is checked is what others would stumble over who do decode it, PostgreSQL
first, which would refuse all events of a batch for the sake of one.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Final

MOST_PAYLOAD_BYTES: Final = 256 * 1024
"""Of an event. Each delivery sends it, and each try again."""

MOST_DEPTH: Final = 100
"""Objects and arrays within each other; decoders that are written recursively stop at some such."""

_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')
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


def _depth(raw: bytes) -> int:
    brackets = _STRING.sub(b"", raw).translate(None, delete=_OTHERS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)))
