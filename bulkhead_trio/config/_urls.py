"""URLs of what the server depends on: checked, and masked wherever they are shown.

Every one may hold a password, so no reason given here repeats any part of a value.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from bulkhead_trio.config._rules import Rule, text

MASK = "***"

_SECRET_NAME = re.compile(r"pass|pwd|secret|token|_key", re.IGNORECASE)
_CONNINFO_SECRET = re.compile(
    r"([a-z_]*(?:pass|secret|token|_key)[a-z_]*\s*=\s*)('(?:[^'\\]|\\.)*'?|(?:[^\s\\]|\\.)+)", re.I
)

_STARTTLS = re.compile("starttls=(require|try|never)")


def mask_all(_: str) -> str:
    """A secret as it may be shown: not even its length."""
    return MASK


def mask_url(url: str) -> str:
    """A URL or libpq connection string with its passwords hidden.

    In doubt more is hidden, not less: everything up to the last ``@`` counts as credentials.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return _CONNINFO_SECRET.sub(rf"\1{MASK}", url)
    credentials, at, rest = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    password = MASK if colon else ""
    return f"{scheme}://{_mask_query(user)}{colon}{password}{at}{_mask_query(rest)}"


def _mask_query(text: str) -> str:
    start, question, query = text.partition("?")
    return start + question + "&".join(map(_mask_parameter, query.split("&")))


def _mask_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    return f"{name}{equals}{MASK}" if _SECRET_NAME.search(unquote(name)) else parameter


def url(*schemes: str, hostless: Sequence[str] = ()) -> Rule[str]:
    """A URL of one of some schemes, with a host unless the scheme is in ``hostless``."""
    wanted = " or ".join(f"{scheme}://" for scheme in schemes)

    def rule(value: object) -> str:
        found = text(value)
        try:
            parts = urlsplit(found)
            port_is_wrong = parts.port == 0
        except ValueError:
            raise ValueError("must be a URL with a valid host and port") from None
        if parts.scheme not in schemes or "://" not in found:
            raise ValueError(f"must be a URL that starts with {wanted}")
        if port_is_wrong:
            raise ValueError("must have a port from 1 to 65535")
        if parts.scheme in hostless:
            if not parts.path.strip("/"):
                raise ValueError("must name the path of a socket")
        elif not parts.hostname:
            raise ValueError("must name a host")
        return found

    return rule


def smtp_url(value: object) -> str:
    """A mail server: ``smtp://[user:password@]host[:port][?starttls=require]``, or ``smtps://``."""
    found = url("smtp", "smtps")(value)
    parts = urlsplit(found)
    if parts.path not in ("", "/") or parts.fragment:
        raise ValueError("must have nothing but a query after the host and port")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if password and not user:
        raise ValueError("must have a user where it has a password")
    if not (user + password).isascii() or not (user + password).isprintable():
        raise ValueError("must have a user and a password of visible ASCII characters")
    if parts.query and (parts.scheme == "smtps" or not _STARTTLS.fullmatch(parts.query)):
        raise ValueError(
            "must have no other query than starttls=require, try or never, and none with smtps://"
        )
    return found


def database_url(value: object) -> str:
    """Whatever libpq takes: a ``postgresql://`` URL, or ``host=... dbname=...``."""
    # Here and not above: this costs more than all other imports of the configuration together,
    # and is needed by those only who bring a database of their own.
    from psycopg import Error
    from psycopg.conninfo import conninfo_to_dict

    found = text(value)
    scheme, separator, _ = found.partition("://")
    if separator and "=" not in scheme and scheme not in ("postgresql", "postgres"):
        raise ValueError("must be a URL that starts with postgresql:// or postgres://")
    try:
        parameters = conninfo_to_dict(found)
    except (Error, ValueError):
        raise ValueError(
            "must be a connection string of libpq: postgresql://user:password@host:port/database"
            " (with %XX for special characters), or host=... port=... dbname=..."
        ) from None
    for port in str(parameters.get("port") or "5432").split(","):
        if port and not (port.isdecimal() and port.isascii() and 0 < int(port[:9]) <= 65_535):
            raise ValueError("must have a port from 1 to 65535 (write / in a password as %2F)")
    return found
