"""What carries one connection's bytes: a socket, bare or under TLS."""

from __future__ import annotations

import contextlib
import select
import ssl
from typing import TypeAlias

import trio
from hypercorn.utils import parse_socket_addr

Address: TypeAlias = tuple[str, int] | None

RECEIVE_BYTES = 16 * 1024
"""Read from a socket at once where TLS is spoken: one record."""


class Plain:
    """A bare socket.

    Args:
        stream: connected.
        ahead: what somebody else has read from it already.
        client: the peer's address, where it is not the socket's.

    Raises:
        OSError: the peer has gone already.
    """

    is_tls = False

    def __init__(
        self, stream: trio.SocketStream, ahead: bytes = b"", client: Address = None
    ) -> None:
        self.client, self.server = _addresses(stream)
        self.client = client or self.client
        self._stream = stream
        self._ahead = ahead

    async def receive_some(self, most: int) -> bytes:
        """What has come; ``b""`` at the peer's end."""
        if self._ahead:
            await trio.lowlevel.checkpoint()
            ahead, self._ahead = self._ahead[:most], self._ahead[most:]
            return ahead
        return bytes(await self._stream.receive_some(most))

    async def send_all(self, data: bytes) -> None:
        """Have the kernel take all of it."""
        await self._stream.send_all(data)

    async def send_eof(self) -> None:
        """Say that nothing follows; the peer can still be read."""
        await self._stream.send_eof()

    def has_gone(self) -> bool:
        """Whether the peer has reset the connection."""
        return _is_reset(self._stream)

    def abort(self) -> None:
        """Close the socket at once."""
        self._stream.socket.close()


class _Floor(trio.abc.Stream):
    """The socket under TLS. Closing it ends our side only, so that the peer can still be read."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.socket_stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.socket_stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.socket_stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.socket_stream.receive_some(max_bytes or RECEIVE_BYTES)

    async def aclose(self) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.socket_stream.send_eof()


class Secured:
    """A socket under TLS; `handshake` comes first.

    An end without TLS's own ``close_notify`` counts as a broken connection: whoever could cut the
    connection could otherwise make a request look shorter than it was.

    Raises:
        OSError: the peer has gone already.
    """

    is_tls = True

    def __init__(self, stream: trio.SocketStream, context: ssl.SSLContext) -> None:
        self.client, self.server = _addresses(stream)
        self._socket_stream = stream
        self._stream = trio.SSLStream(_Floor(stream), context, server_side=True)
        self._has_ended = False

    async def handshake(self) -> str | None:
        """Agree on keys; returns the protocol that was negotiated (ALPN), if any.

        Raises:
            trio.BrokenResourceError: what the peer sends is no handshake that we can take.
        """
        await self._stream.do_handshake()
        protocol: str | None = self._stream.selected_alpn_protocol()
        return protocol

    async def receive_some(self, most: int) -> bytes:
        """What has come; ``b""`` at the peer's end. After `send_eof`, what comes means nothing."""
        if not self._has_ended:
            try:
                return bytes(await self._stream.receive_some(most))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                if not self._has_ended:
                    raise
        return bytes(await self._socket_stream.receive_some(most))

    async def send_all(self, data: bytes) -> None:
        """Have the kernel take all of it."""
        await self._stream.send_all(data)

    async def send_eof(self) -> None:
        """Say that nothing follows, in TLS and in TCP; the peer can still be read."""
        self._has_ended = True
        await self._stream.aclose()

    def has_gone(self) -> bool:
        """Whether the peer has reset the connection."""
        return _is_reset(self._socket_stream)

    def abort(self) -> None:
        """Close the socket at once."""
        self._socket_stream.socket.close()


Transport: TypeAlias = Plain | Secured


def _is_reset(stream: trio.SocketStream) -> bool:
    """The kernel knows before anybody reads; what was sent and is not read yet does not matter."""
    number = stream.socket.fileno()
    if number < 0:
        return True
    poll = select.poll()
    poll.register(number, 0)
    return bool(poll.poll(0))


def address_of(stream: trio.SocketStream) -> Address:
    """The peer's address, if it has one.

    Raises:
        OSError: the peer has gone already.
    """
    sock = stream.socket
    return parse_socket_addr(sock.family, sock.getpeername())


def _addresses(stream: trio.SocketStream) -> tuple[Address, Address]:
    sock = stream.socket
    return address_of(stream), parse_socket_addr(sock.family, sock.getsockname())
