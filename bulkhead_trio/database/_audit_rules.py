"""What an audit row may say of a route: everything but its secrets. Pure."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

MASK: Final = "***"

_SECRET_NAME: Final = re.compile(
    r"auth|cookie|credential|key|pass(word|wd)?|secret|session|signature|token", re.IGNORECASE
)
"""Names of headers, of query fields and of members whose values open something."""

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s]+")


def masked(value: Any) -> Any:
    """A copy of a decoded JSON document without its secrets.

    Masked are the values of members whose name speaks of a secret (headers to set, above all), and
    in URLs the user's name and password and the values of such query fields.
    """
    if isinstance(value, dict):
        return {name: _member(name, each) for name, each in value.items()}
    if isinstance(value, list):
        return [masked(each) for each in value]
    if isinstance(value, str) and _URL.fullmatch(value):
        return _masked_url(value)
    return value


def _member(name: str, value: Any) -> Any:
    if _SECRET_NAME.search(name) and isinstance(value, str | int | float):
        return MASK
    if _SECRET_NAME.search(name) and isinstance(value, list):
        return [MASK for _ in value]
    return masked(value)


def _masked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    _, at, host = parts.netloc.rpartition("@")
    netloc = f"{MASK}@{host}" if at else host
    fields = [_masked_field(field) for field in parts.query.split("&")]
    return urlunsplit((parts.scheme, netloc, parts.path, "&".join(fields), parts.fragment))


def _masked_field(field: str) -> str:
    name, equals, _ = field.partition("=")
    return f"{name}={MASK}" if equals and _SECRET_NAME.search(name) else field
