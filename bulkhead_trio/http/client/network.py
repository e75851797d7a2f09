"""Where a client may connect to: not everywhere, when what it asks for is told by somebody else.

A URL that a tenant has chosen is a request from inside the house: to the database's port, to the
cloud's metadata, to whatever listens on loopback (server-side request forgery). The names in such
URLs are no help, since whoever owns a name may let it lead anywhere, and elsewhere a moment later
(DNS rebinding). So addresses are checked, all of them, and the checked ones are connected to.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import NoReturn

from bulkhead_trio.errors import AddressForbidden
from bulkhead_trio.http.client._network_rules import (
    Address,
    Network,
    is_metadata_name,
    is_own_name,
    literal_address,
    plain_address,
    why_not,
)
from bulkhead_trio.http.client._url_rules import split_url
from bulkhead_trio.http.client.dialling import Resolve, resolve_by_system

_LOOPBACK = (ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1"))


class NetworkPolicy:
    """Which addresses a client may connect to: those of the internet, and networks that are named.

    Args:
        allowed_private: networks inside that may be connected to nevertheless. Clouds' metadata
            addresses never may.
    """

    def __init__(self, allowed_private: Iterable[Network] = ()) -> None:
        self.allowed_private: Sequence[Network] = tuple(allowed_private)

    def why_not(self, address: str | Address) -> str | None:
        """Why ``address`` may not be connected to, in a word; ``None`` where it may.

        Raises:
            ValueError: it is no address.
        """
        plain = plain_address(address if isinstance(address, str) else str(address))
        return why_not(plain, self.allowed_private)

    def check_host(self, host: str, port: int) -> Address | None:
        """What can be said of a URL's host without asking a resolver.

        Returns:
            the address that it is, which may be connected to; ``None`` where it is a name.

        Raises:
            AddressForbidden: it is an address that may not be connected to, or one in a spelling
                that is not everywhere understood alike; or a name that cannot be anybody's.
        """
        try:
            address = literal_address(host)
        except ValueError:
            _refuse(host, port, f"{host!r} is an address in a spelling that is not taken")
        if address is not None:
            if (kind := why_not(address, self.allowed_private)) is not None:
                _refuse(host, port, f"{host} may not be connected to: {kind}", kind)
        elif is_metadata_name(host):
            _refuse(host, port, f"{host} may not be connected to: metadata", "metadata")
        elif is_own_name(host) and all(map(self.why_not, _LOOPBACK)):
            _refuse(host, port, f"{host} may not be connected to: loopback", "loopback")
        return address

    def check_url(self, url: str) -> None:
        """Refuse a URL when it is saved, as far as that can be seen without a resolver.

        It saves who has written it from finding out later; what protects is `guarded_resolve`.

        Raises:
            AddressForbidden: nobody may connect there.
            InvalidRequest: it is no URL of ``http`` or ``https``.
        """
        origin, _ = split_url(url)
        self.check_host(origin.host, origin.port)

    def check_resolved(self, host: str, port: int, addresses: Iterable[str]) -> list[str]:
        """The addresses that a name leads to, all of which may be connected to.

        Raises:
            AddressForbidden: one of them may not, or is no address: a name that leads inside as
                well as outside is an attempt to get in.
        """
        checked: list[str] = []
        for text in addresses:
            try:
                address = plain_address(text)
            except ValueError:
                _refuse(host, port, f"{host} leads to what is no address")
            if (kind := why_not(address, self.allowed_private)) is not None:
                _refuse(host, port, f"{host} leads where nobody may connect to", kind)
            checked.append(text)
        return checked


def guarded_resolve(policy: NetworkPolicy, resolve: Resolve = resolve_by_system) -> Resolve:
    """A resolver that gives addresses only where all of them may be connected to.

    To be given to `HTTPClient` or `EndpointClient` as their ``resolve``: they ask it for every
    connection that they make, literal addresses included, and connect to what it gave.

    Args:
        policy: says which may.
        resolve: asked once for each connection; a literal address is not asked for.
    """

    async def guarded(host: str, port: int) -> list[str]:
        literal = policy.check_host(host, port)
        if literal is not None:
            return policy.check_resolved(host, port, [host.strip("[]")])
        return policy.check_resolved(host, port, await resolve(host, port))

    return guarded


def _refuse(host: str, port: int, message: str, kind: str = "spelling") -> NoReturn:
    """Raise `AddressForbidden` for a host; the message names what the caller has said itself."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    raise AddressForbidden(message, origin=where, kind=kind)
