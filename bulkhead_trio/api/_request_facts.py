"""What the edge wants of a request's headers, and the ids of requests."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)


class RequestFacts:
    """What the edge wants of a request's headers, read in one pass."""

    __slots__ = ("declared_length", "header_count", "request_id", "size", "trace_id")

    def __init__(self, header_count: int) -> None:
        self.header_count = header_count
        self.size = 0
        self.declared_length = 0
        self.request_id: str | None = None
        self.trace_id: str | None = None


def facts_of(headers: Sequence[tuple[bytes, bytes]]) -> RequestFacts:
    """Read them."""
    facts = RequestFacts(len(headers))
    size = 0
    for name, value in headers:
        size += len(name) + len(value)
        if name in _WANTED:
            if name == b"content-length":
                if value.isdigit():
                    facts.declared_length = int(value)
            elif name == b"x-request-id":
                facts.request_id = _given_request_id(headers)
            else:
                facts.trace_id = _trace_id(headers)
    facts.size = size
    return facts


_WANTED = frozenset([b"content-length", b"x-request-id", b"traceparent"])


def _given_request_id(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    given = [value for name, value in headers if name == b"x-request-id"]
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0].decode("ascii")
    return None


def new_request_id() -> str:
    """A number that no other request has; nothing is kept secret by it."""
    return f"{random.getrandbits(128):032x}"


def request_id_of(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """The caller's id where it is one that can be repeated, otherwise a new one."""
    return _given_request_id(headers) or new_request_id()


def _trace_id(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    given = [value for name, value in headers if name == b"traceparent"]
    match = _TRACEPARENT.fullmatch(given[0]) if len(given) == 1 else None
    return None if match is None else match[1].decode("ascii")
