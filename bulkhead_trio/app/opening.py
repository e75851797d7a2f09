"""Where to listen, from the settings; and what to tell people about it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeAlias

from bulkhead_trio.api.messages import Listener
from bulkhead_trio.app.ground import Announce
from bulkhead_trio.config import Address, Bind, Settings, SocketPath
from bulkhead_trio.http.listeners import (
    DescriptorAddress,
    ListenAddress,
    OpenSockets,
    TCPAddress,
    UnixAddress,
    open_sockets,
    passed_descriptors,
)

Sockets: TypeAlias = Mapping[Listener, OpenSockets]


@asynccontextmanager
async def open_all(
    settings: Settings, environ: Mapping[str, str], *, shares: int = 1
) -> AsyncIterator[Sockets]:
    """Listen wherever the settings say, for so many processes.

    Args:
        settings: ``BIND``; without it the sockets that this process was passed at its start;
            without those ``API_HOST`` and ``API_PORT``. And ``ADMIN_BIND``.
        environ: says which sockets were passed.
        shares: for how many processes.

    Raises:
        OSError: an address cannot be listened on; says which.
    """
    where: dict[Listener, list[ListenAddress]] = {"public": _public(settings, environ)}
    if settings.admin_bind is not None:
        where["admin"] = [listen_address(settings.admin_bind)]
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(open_sockets(addresses, shares=shares))
            for name, addresses in where.items()
        }


def _public(settings: Settings, environ: Mapping[str, str]) -> list[ListenAddress]:
    if settings.bind:
        return [listen_address(each) for each in settings.bind]
    passed = passed_descriptors(environ, os.getpid())
    return [*passed] if passed else [TCPAddress(settings.api_host, settings.api_port)]


def listen_address(bind: Bind) -> ListenAddress:
    """What the settings call an address, as the sockets do."""
    if isinstance(bind, Address):
        return TCPAddress(bind.host, bind.port)
    if isinstance(bind, SocketPath):
        return UnixAddress(bind.path, bind.mode)
    return DescriptorAddress(bind.number)


def announce_ready(settings: Settings, sockets: Sockets, announce: Announce) -> None:
    """Say where it serves, and in development what to try."""
    first, *others = sockets["public"].addresses
    is_tls = settings.tls_certificate is not None
    base = _url(first, is_tls=is_tls)
    workers = f" with {settings.workers} workers" if settings.workers > 1 else ""
    announce(f"Serving on {base}{workers}")
    for other in others:
        announce(f"Serving on {_url(other, is_tls=is_tls)}")
    if "admin" in sockets:
        host, _, port = sockets["admin"].addresses[0].rpartition(":")
        announce(f"Admin surface on {host.strip('[]')} port {port}")
    if not settings.trust_tier_header or not base.startswith("http:"):
        return
    low, high = settings.tiers[0].name, settings.tiers[-1].name
    announce("Three to try:")
    announce(f"  curl -i {base}/api/data -H 'X-Tenant-Tier: {low}'")
    announce(f"  curl -i '{base}/api/data?limit=3' -H 'X-Tenant-Tier: {high}'")
    announce(f"  curl {base}/metrics/bulkheads")


def _url(address: str, *, is_tls: bool) -> str:
    if address.startswith(("unix:", "fd:")):
        return address
    return f"{'https' if is_tls else 'http'}://{address}"
