"""Which request asks for a WebSocket. With a body, it is plain HTTP."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def is_web_socket(method: bytes, http_version: bytes, headers: Iterable[tuple[bytes, Any]]) -> bool:
    """Whether a request's head does (RFC 6455, 4.1); names in lower case."""
    if method != b"GET" or http_version != b"1.1":
        return False
    upgrades: list[bytes] = []
    tokens: list[bytes] = []
    for name, value in headers:
        if name == b"upgrade":
            upgrades.append(value.strip().lower())
        elif name == b"connection":
            tokens += [token.strip().lower() for token in value.split(b",")]
        elif name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0")):
            return False
    return upgrades == [b"websocket"] and b"upgrade" in tokens
