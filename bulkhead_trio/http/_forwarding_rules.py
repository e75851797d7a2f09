"""Who the client is: whoever has connected, or whom a proxy that is trusted says it speaks for.

``X-Forwarded-For`` is a list to which each proxy adds, on the right, whoever connected to it. So it
is read from the right, for as long as what added the next entry is trusted; what stands further
left may be anybody's invention.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

MOST_PROXIES = 16
"""On one way. More are somebody's attempt to have us read a long list."""


def client_address(
    peer: tuple[str, int | None] | None, headers: Headers, trusted: Sequence[Network]
) -> str:
    """The client's address; ``""`` where nobody can know, as behind a Unix socket.

    Args:
        peer: who has connected, as ``scope["client"]`` says it.
        headers: the request's, their names in lower case.
        trusted: networks of the proxies whose ``X-Forwarded-For`` is believed.
    """
    if peer is None:
        return ""
    client = _address(peer[0])
    if client is None:
        return ""
    if trusted and _is_in(client, trusted):
        for _, text in zip(range(MOST_PROXIES), _from_the_right(headers), strict=False):
            before = _address(_without_port(text))
            if before is None:
                break  # "unknown", or nonsense: this far it is certain
            client = before
            if not _is_in(client, trusted):
                break
    return str(client)


def is_trusted(peer: tuple[str, int | None] | None, trusted: Sequence[Network]) -> bool:
    """Whether forwarding headers are believed that whoever has connected sends."""
    address = None if peer is None or not trusted else _address(peer[0])
    return address is not None and _is_in(address, trusted)


def _from_the_right(headers: Headers) -> Iterator[str]:
    for name, value in reversed(headers):
        if name == b"x-forwarded-for":
            rest = value.decode("latin-1")
            while rest:
                rest, _, text = rest.rpartition(",")
                yield text.strip()


def _without_port(text: str) -> str:
    """Some proxies add a port; an IPv6 address is in brackets then."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _address(text: str) -> Address | None:
    """An address in one form: without a zone, and IPv4 as itself."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
