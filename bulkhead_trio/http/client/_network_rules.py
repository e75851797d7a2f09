"""Which addresses are somewhere on the internet, and which are somewhere inside.

The ranges are those of IANA's special-purpose address registries (RFC 6890 and its updates). Of
IPv6 only global unicast, ``2000::/3``, is outside at all: the rest nobody has been given.

Many an address of IPv6 carries one of IPv4, to which a machine on the way, or this one, sends what
is meant for it: both ends of the translation count.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterator, Sequence
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_INSIDE: tuple[tuple[str, str], ...] = (
    ("0.0.0.0/8", "unspecified"),  # connecting to 0.0.0.0 leads to this machine
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared"),  # carrier-grade NAT
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "documentation"),
    ("192.31.196.0/24", "reserved"),  # AS112
    ("192.52.193.0/24", "reserved"),  # AMT
    ("192.88.99.0/24", "6to4"),
    ("192.168.0.0/16", "private"),
    ("192.175.48.0/24", "reserved"),  # AS112
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("::/96", "IPv4-compatible"),
    ("::ffff:0:0/96", "IPv4-mapped"),
    ("::ffff:0:0:0/96", "IPv4-translated"),
    ("64:ff9b::/96", "NAT64"),
    ("64:ff9b:1::/48", "NAT64"),
    ("100::/64", "discard"),
    ("2001::/32", "Teredo"),
    ("2001:2::/48", "benchmarking"),
    ("2001::/23", "reserved"),
    ("2001:db8::/32", "documentation"),
    ("2002::/16", "6to4"),
    ("3fff::/20", "documentation"),
    ("5f00::/16", "reserved"),  # segment routing
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
)

_RANGES: tuple[tuple[Network, str], ...] = tuple(
    (ipaddress.ip_network(text), kind) for text, kind in _INSIDE
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")

METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",  # nearly every cloud; metadata.google.internal
        "169.254.170.2",  # Amazon ECS: credentials of a task
        "169.254.170.23",  # Amazon EKS: credentials of a pod
        "169.254.42.42",  # Scaleway
        "169.254.0.23",  # Tencent
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure: a public address that leads to the machine's own host
        "192.0.0.192",  # Oracle, of old
        "fd00:ec2::254",  # Amazon
        "fd00:ec2::23",  # Amazon EKS
        "fd20:ce::254",  # Google
        "fd00:42::42",  # Scaleway
        "fe80::a9fe:a9fe",  # OpenStack
    )
)
"""Where clouds tell a machine its own secrets: never anybody's upstream."""

METADATA_NAMES = frozenset(
    [
        "metadata",
        "metadata.goog",
        "metadata.google.internal",
        "metadata.azure.internal",
        "metadata.tencentyun.com",
        "instance-data",
        "instance-data.ec2.internal",
    ]
)

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_LOW_32_BITS = tuple(
    ipaddress.IPv6Network(text)
    for text in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")
)
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")
_ISATAP = frozenset([0x00005EFE, 0x02005EFE])

_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def plain_address(text: str) -> Address:
    """The address, without the zone that an IPv6 address may have behind a ``%``.

    An address with a zone is not equal to the same one without, so that it would be in no list.

    Raises:
        ValueError: it is none.
    """
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        return ipaddress.IPv6Address(int(address))
    return address


def kind_of(address: Address) -> str | None:
    """What is special about an address; ``None`` where it is somewhere on the internet."""
    for network, kind in _RANGES:
        if address in network:
            return kind
    if address.version == 6 and address not in _GLOBAL_UNICAST:
        return "reserved"
    return None


def carried_by(address: Address) -> tuple[ipaddress.IPv4Address, ...]:
    """The IPv4 addresses that an IPv6 address has in it, for whoever translates."""
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    if address.teredo is not None:
        return address.teredo  # the server, and the client behind it
    if address.sixtofour is not None:
        return (address.sixtofour,)
    low = int(address) & 0xFFFFFFFF
    if int(address) > 1 and any(address in network for network in _LOW_32_BITS):
        return (ipaddress.IPv4Address(low),)
    if address in _LOCAL_NAT64:
        return tuple(_carried_by_prefix(address.packed))
    if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:  # RFC 5214, whatever network it is in
        return (ipaddress.IPv4Address(low),)
    return ()


def _carried_by_prefix(packed: bytes) -> Iterator[ipaddress.IPv4Address]:
    """RFC 6052, section 2.2: where the address is depends on a prefix length that nobody tells.

    Every place that it can be in is looked at. Bits 64 to 71 and those behind the address are zero.
    """
    last = ipaddress.IPv4Address(packed[12:])
    has_found = False
    for length in (48, 56, 64):
        start = length // 8
        without = packed[start:8] + packed[9:]
        found = ipaddress.IPv4Address(without[:4])
        if packed[8] == 0 and not any(without[4:]) and found not in _THIS_NETWORK:
            has_found = True
            yield found
    if not has_found or last not in _THIS_NETWORK:
        yield last


def why_not(address: Address, allowed: Sequence[Network]) -> str | None:
    """Why nobody may connect to ``address``, in a word; ``None`` where anybody may.

    An address that carries others may be connected to where they may be too: allowing the range of
    a translator allows nothing behind it.

    Args:
        address: as `plain_address` gives it.
        allowed: networks that may be connected to although they are inside.
    """
    carried = carried_by(address)
    if address in METADATA or any(each in METADATA for each in carried):
        return "metadata"
    kind = kind_of(address)
    if kind is not None and not any(address in network for network in allowed):
        return kind
    for each in carried:
        if (kind := why_not(each, allowed)) is not None:
            return kind
    return None


@functools.lru_cache(maxsize=1024)
def literal_address(host: str) -> Address | None:
    """The address that ``host`` is; ``None`` where it is a name.

    Brackets and a zone are passed over.

    Raises:
        ValueError: some programs take it for an address and others do not, or for another one:
            ``0177.0.0.1``, ``127.1``, ``2130706433``, ``0x7f000001``, ``127.0.0.1.``.
    """
    text = host.lower()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    if ":" in text or "%" in text:
        return plain_address(text)
    last = text.rstrip(".").rpartition(".")[2]
    if _NUMBER.fullmatch(last) is None:
        return None
    return ipaddress.IPv4Address(text)


def is_metadata_name(host: str) -> bool:
    """Whether a name is one that clouds keep for their metadata."""
    return host.rstrip(".").lower() in METADATA_NAMES


def is_own_name(host: str) -> bool:
    """Whether a name is this machine's own, whatever a resolver says (RFC 6761, section 6.3)."""
    name = host.rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost")
