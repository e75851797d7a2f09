"""What a peer may do with HTTP/2 that no limit on single requests covers. Pure.

HTTP/2 lets a peer make work for nothing: requests that it resets at once (CVE-2023-44487), or that
it makes us reset (CVE-2025-8671), pings, settings, priorities, empty frames (CVE-2019-9511 to 9518,
CVE-2024-27316). Each frame has a price here; a peer that has spent its budget is told to calm down.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable

import attrs

PREFACE_BYTES = 24
"""What a client sends before its first frame (RFC 9113, 3.4)."""

HEAD_BYTES = 9
DATA, HEADERS, WINDOW_UPDATE = 0x0, 0x1, 0x8
GOAWAY = 0x7

FULL_BYTES = 512
"""A frame of data with that much is worth its trouble, and free."""

PRICE_OF_LITTLE = 1.0
PRICE_OF_OTHERS = 20.0
"""Settings, pings, priorities, resets, continuations, unknown ones: nobody needs many of them."""

EARNED_BY_DATA = 4.0
"""For each frame of data that we send the peer may open windows again: two updates, and some air.
"""

_NAME = re.compile(rb"[!#$%&'*+\-.^`|~0-9a-z]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_TARGET = re.compile(rb"/[\x21-\x22\x24-\x7e]*")  # no fragment
_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}")
_AUTHORITY = re.compile(rb"[A-Za-z0-9\-._~!$&'()*+,;=:\[\]%]*")


@attrs.frozen
class H2Limits:
    """What one HTTP/2 connection may take.

    Attributes:
        streams: requests at the same time, those still being cancelled included.
        header_bytes: of a request's fields, uncompressed, with 32 for each (RFC 9113, 6.5.2).
        body_bytes: of all bodies together that came and that no handler has read yet.
        resets_per_second: streams that end before they are answered.
        resets_at_once: how many of them at once: a browser drops all it has when its user leaves.
        frames_per_second: small frames of data and window updates beyond what our answers call
            for; one of any other kind counts as 20.
        frames_at_once: how many of them at once.
    """

    streams: int = 100
    header_bytes: int = 32 * 1024
    body_bytes: int = 1024 * 1024
    resets_per_second: float = 10.0
    resets_at_once: int = 200
    frames_per_second: float = 1000.0
    frames_at_once: int = 5000


class FrameMeter:
    """Sees the bytes that a client sends, and says what their frames cost."""

    def __init__(self) -> None:
        self._to_skip = PREFACE_BYTES
        self._head = b""

    def cost_of(self, data: bytes) -> float:
        """The price of the frames that begin in ``data``."""
        cost, place = 0.0, 0
        while True:
            skipped = min(self._to_skip, len(data) - place)
            self._to_skip -= skipped
            place += skipped
            if place == len(data):
                return cost
            missing = HEAD_BYTES - len(self._head)
            self._head += data[place : place + missing]
            place = min(place + missing, len(data))
            if len(self._head) == HEAD_BYTES:
                self._to_skip = int.from_bytes(self._head[:3], "big")
                cost += _price(self._head[3], self._to_skip)
                self._head = b""


def _price(kind: int, length: int) -> float:
    if kind == HEADERS:
        return 0.0  # a request: the limit on streams holds
    if kind == DATA:
        return 0.0 if length >= FULL_BYTES else PRICE_OF_LITTLE
    return PRICE_OF_LITTLE if kind == WINDOW_UPDATE else PRICE_OF_OTHERS


def fault_of(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """The status to refuse a request's fields with; 0 where they are as strict as HTTP/1.1's.

    Args:
        headers: as they came, pseudo-headers included; names in lower case.
    """
    seen: dict[bytes, bytes] = {}
    for name, value in headers:
        if name.startswith(b":") or name == b"host":
            if name in seen:
                return 400
            seen[name] = value
        elif not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            return 400
    authority = seen.get(b":authority", seen.get(b"host", b""))
    is_right = (
        _METHOD.fullmatch(seen.get(b":method", b""))
        and seen[b":method"] != b"CONNECT"
        and _TARGET.fullmatch(seen.get(b":path", b""))
        and _AUTHORITY.fullmatch(authority)
        and seen.get(b"host", authority) == authority
        and authority
    )
    return 0 if is_right else 400


def is_sendable(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether an answer's fields can be sent without meaning something else."""
    return all(_NAME.fullmatch(name.lower()) and _VALUE.fullmatch(value) for name, value in headers)


def goaway(last_stream: int) -> bytes:
    """The frame that says: no streams after this one; those before it will be answered."""
    return b"\0\0\x08" + bytes([GOAWAY]) + b"\0" * 5 + struct.pack(">II", last_stream, 0)
