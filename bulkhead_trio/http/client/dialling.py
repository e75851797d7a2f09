"""From an origin to a socket: names to addresses, addresses to a connection, TLS on top of it."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import trio

from bulkhead_trio.errors import AddressForbidden, UpstreamUnreachable
from bulkhead_trio.http.client._address_rules import addresses_in_order
from bulkhead_trio.http.client._url_rules import Origin
from bulkhead_trio.http.client.wire import LimitPassed, Wire, WireStream
from bulkhead_trio.http.engine.readiness import Readiness

TLSStream: TypeAlias = trio.SSLStream[WireStream]

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""Gives the IP addresses of a host, for a port. A connection goes to one of these and nowhere else;
whoever must not let a request go everywhere checks them here, and raises."""

NEXT_ADDRESS_SECONDS = 0.25
"""After which the next address is tried beside the one that has not answered yet (RFC 8305)."""


async def resolve_by_system(host: str, port: int) -> list[str]:
    """The addresses that the system's resolver gives; it runs in a thread.

    Raises:
        OSError: it gives none.
    """
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a part of it is empty, or longer than the DNS allows
        raise OSError(errno.EADDRNOTAVAIL, "it is no host's name") from error
    return [str(address[0]) for *_, address in found]


def client_tls_context() -> ssl.SSLContext:
    """Verifies whom it talks to, speaks HTTP/1.1, and notices when an answer is cut off."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    # Some Pythons let it pass when the connection ends without TLS having ended, which is how an
    # answer that ends with its connection is cut short by somebody on the way (RFC 9112, 9.8).
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return context


class Dialler:
    """Makes connections.

    Args:
        resolve: names to addresses.
        tls_context: for ``https``; ``None`` for `client_tls_context`.
        write_seconds: the longest time in which a peer takes nothing.
    """

    def __init__(
        self, resolve: Resolve, tls_context: ssl.SSLContext | None, *, write_seconds: float
    ) -> None:
        self._resolve = resolve
        self._tls_context = tls_context
        self._write_seconds = write_seconds

    async def dial(self, origin: Origin, readiness: Readiness) -> tuple[Wire, TLSStream | None]:
        """A connection to ``origin``; its caller says how long this may take.

        Raises:
            UpstreamUnreachable: there is none to be had.
        """
        addresses = await self._addresses(origin)
        wire = await _first_of(addresses, origin, readiness)
        try:
            wire.watch()
            if not origin.is_tls:
                return wire, None
            return wire, await self._encrypted(wire, origin)
        except BaseException:
            wire.close()
            raise

    async def _addresses(self, origin: Origin) -> list[str]:
        try:
            addresses = addresses_in_order(await self._resolve(origin.host, origin.port))
        except AddressForbidden as error:
            error.origin = str(origin)
            raise
        except OSError as error:
            raise _unreachable(origin, f"its name leads nowhere: {error}") from error
        if not addresses:
            raise _unreachable(origin, "its name leads nowhere")
        return addresses

    async def _encrypted(self, wire: Wire, origin: Origin) -> TLSStream:
        if self._tls_context is None:
            # It reads the authorities from files, which takes some tens of milliseconds.
            self._tls_context = await trio.to_thread.run_sync(client_tls_context)
        stream = trio.SSLStream(
            WireStream(wire, self._write_seconds), self._tls_context, server_hostname=origin.host
        )
        try:
            await stream.do_handshake()
        except (OSError, trio.BrokenResourceError, LimitPassed) as error:
            reason = error.__cause__ or error
            raise _unreachable(origin, f"TLS failed: {reason}") from error
        return stream


async def _first_of(addresses: list[str], origin: Origin, readiness: Readiness) -> Wire:
    """A connection to the first address that takes one.

    Raises:
        UpstreamUnreachable: none does.
    """
    errors: list[OSError] = []
    if len(addresses) == 1:
        try:
            return await _connected(addresses[0], origin.port, readiness)
        except OSError as error:
            errors.append(error)
    else:
        wire = await _race(addresses, origin.port, readiness, errors)
        if wire is not None:
            return wire
    raise _unreachable(origin, "; ".join(str(error) for error in errors)) from errors[-1]


async def _race(
    addresses: list[str], port: int, readiness: Readiness, errors: list[OSError]
) -> Wire | None:
    """Try one after the other, each a little after the one before, or when that has failed."""
    winners: list[Wire] = []

    async def attempt(address: str, has_failed: trio.Event) -> None:
        try:
            wire = await _connected(address, port, readiness)
        except OSError as error:
            errors.append(error)
            has_failed.set()
        else:
            winners.append(wire)
            nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            for address in addresses:
                has_failed = trio.Event()
                nursery.start_soon(attempt, address, has_failed)
                with trio.move_on_after(NEXT_ADDRESS_SECONDS):
                    await has_failed.wait()
    except BaseException:
        for wire in winners:
            wire.close()
        raise
    for loser in winners[1:]:
        loser.close()
    return winners[0] if winners else None


async def _connected(address: str, port: int, readiness: Readiness) -> Wire:
    """A connection to one address.

    Raises:
        OSError: it takes none.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    wire = Wire(sock, readiness)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock.connect((address, port))
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sock)
            if error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(error, f"{address}: {os.strerror(error)}") from None
    except BaseException:
        wire.close()
        raise
    return wire


def _unreachable(origin: Origin, why: str) -> UpstreamUnreachable:
    return UpstreamUnreachable(f"{origin} cannot be reached: {why}", origin=str(origin))
