"""What a plain proxy does not send on (RFC 9110, section 7.6.1)."""

from __future__ import annotations

from collections.abc import Iterable

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

Header = tuple[bytes, bytes]


def end_to_end(headers: Iterable[Header]) -> list[Header]:
    """Those of ``headers`` that are not for one connection; their names are in lower case."""
    return [(name, value) for name, value in headers if name not in HOP_BY_HOP]
