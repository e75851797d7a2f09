"""In which order addresses are tried."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable


def addresses_in_order(addresses: Iterable[str]) -> list[str]:
    """Each address once; the families take turns, beginning with the first address's.

    So that one family which leads nowhere costs one delay, not one for each of its addresses
    (RFC 8305, section 4, with an address family count of 1).

    Raises:
        ValueError: something is no IP address. A name here would be looked up once more, by then
            with another result perhaps than was checked.
    """
    by_family: dict[int, list[str]] = {}
    for address in dict.fromkeys(addresses):
        by_family.setdefault(ipaddress.ip_address(address).version, []).append(address)
    families = list(by_family.values())
    ordered: list[str] = []
    while any(families):
        ordered += [family.pop(0) for family in families if family]
    return ordered
