"""Where a request goes: URLs taken apart, strictly.

A URL that two programs read differently is how a request gets past a check to somewhere else, so
what is unusual is refused rather than repaired: user names, blanks, backslashes in the host,
anything that is not ASCII, and every scheme but two.
"""

from __future__ import annotations

import functools
import ipaddress
import re

import attrs

from bulkhead_trio.errors import InvalidRequest

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*://[^/?#]*)((?:[/?][!\"$-~]*)?)(?:#.*)?")
_ORIGIN = re.compile(
    r"(https?)://(?:([0-9a-z_](?:[0-9a-z_.\-]{0,252}[0-9a-z_.])?)|\[([0-9a-f:.]+)\])"
    r"(?::([0-9]{1,5}))?"
)
_TARGET = re.compile(rb"/[!-~]*|\*")

DEFAULT_PORTS = {"http": 80, "https": 443}


@attrs.frozen(cache_hash=True)
class Origin:
    """Whom a connection leads to.

    Attributes:
        scheme: ``http`` or ``https``.
        host: a name in lower case, or an address without brackets.
        port: 1 to 65535.
        authority: as ``Host`` says it: without a port that goes without saying.
    """

    scheme: str
    host: str
    port: int
    authority: str = attrs.field(init=False, eq=False, repr=False)

    @authority.default
    def _authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def is_tls(self) -> bool:
        """Whether what is said is encrypted."""
        return self.scheme == "https"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


def split_url(url: str) -> tuple[Origin, bytes]:
    """The origin, and the target to ask it for: path and query. A fragment is left off.

    Raises:
        InvalidRequest: it is no absolute URL of ``http`` or ``https``.
    """
    match = _URL.fullmatch(url)
    if match is None:
        raise InvalidRequest(f"{url!r} is no URL: it needs a scheme, a host, and nothing unescaped")
    target = match[2]
    if not target.startswith("/"):
        target = "/" + target
    return origin_of(match[1]), target.encode("ascii")


def check_target(target: bytes) -> bytes:
    """What a request may ask for in place of a URL's path and query.

    Raises:
        InvalidRequest: it is nothing that a request line can have in it.
    """
    if _TARGET.fullmatch(target) is None:
        raise InvalidRequest(f"{target!r} is no request target")
    return target


@functools.lru_cache(maxsize=1024)
def origin_of(text: str) -> Origin:
    """The origin that ``scheme://host:port`` names.

    Remembered, since a program talks to few of them again and again.

    Raises:
        InvalidRequest: it names none.
    """
    match = _ORIGIN.fullmatch(text.lower())
    if match is None:
        raise InvalidRequest(f"{text!r} names no host that HTTP is spoken with")
    scheme, name, address, port_text = match.groups()
    port = int(port_text) if port_text else DEFAULT_PORTS[scheme]
    if not 1 <= port <= 65535:
        raise InvalidRequest(f"{text!r} has a port that there is not")
    if address is not None:
        try:
            name = str(ipaddress.IPv6Address(address))
        except ValueError:
            raise InvalidRequest(f"{text!r} has an address that is none") from None
    return Origin(scheme, name, port)
