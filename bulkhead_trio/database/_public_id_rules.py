"""Ids as the outside sees them, and ids that sort by the time at which they were made. Pure.

``evt_018f...``: a word for what it is, and the 32 hexadecimal digits of a UUID. The UUIDs have the
layout of version 7 (RFC 9562, 5.7): milliseconds since 1970 first, so that rows made one after the
other are neighbours in an index.
"""

from __future__ import annotations

import re
import uuid
from typing import Final, Literal

PublicPrefix = Literal["evt", "wh", "dlv", "ntf"]

RANDOM_BYTES: Final = 10
"""What `time_ordered_id` takes of randomness; 74 bits of it are used."""

_DIGITS: Final = re.compile(r"[0-9a-f]{32}")
_MILLISECOND_BITS: Final = 48


def public_id(prefix: PublicPrefix, id_: uuid.UUID) -> str:
    """``evt_``, ``wh_``, ``dlv_`` or ``ntf_`` and the digits of ``id_``."""
    return f"{prefix}_{id_.hex}"


def read_public_id(prefix: PublicPrefix, text: str) -> uuid.UUID | None:
    """What `public_id` made ``text`` of; ``None``: it has made nothing of the kind."""
    start, _, digits = text.partition("_")
    if start != prefix or not _DIGITS.fullmatch(digits):
        return None
    return uuid.UUID(hex=digits)


def time_ordered_id(milliseconds: int, randomness: bytes) -> uuid.UUID:
    """A UUID of version 7.

    Args:
        milliseconds: since 1970 in UTC.
        randomness: `RANDOM_BYTES` bytes.

    Raises:
        ValueError: ``milliseconds`` do not fit, or ``randomness`` has another length.
    """
    if len(randomness) != RANDOM_BYTES:
        raise ValueError(f"randomness must be {RANDOM_BYTES} bytes, not {len(randomness)}")
    if not 0 <= milliseconds < 1 << _MILLISECOND_BITS:
        raise ValueError(f"milliseconds must fit into {_MILLISECOND_BITS} bits: {milliseconds}")
    number = milliseconds << 80 | int.from_bytes(randomness)
    number = number & ~(0xF << 76) | 0x7 << 76  # the version
    number = number & ~(0x3 << 62) | 0x2 << 62  # the variant
    return uuid.UUID(int=number)
