"""TLS for a listener: what is offered, and handshakes that cannot be held open for ever."""

from __future__ import annotations

import ssl
from pathlib import Path

import attrs
import trio

from bulkhead_trio.http.hypercorn._transport import Secured

PROTOCOLS = ("h2", "http/1.1")
"""What is offered to a client that asks (ALPN), the preferred one first."""

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption only, as HTTP/2 demands (RFC 9113,
9.2.2). Those of TLS 1.3 are all good."""


@attrs.frozen
class HandshakeLimits:
    """What handshakes may take.

    Attributes:
        seconds: for one, from the connection on.
        at_once: under way at the same time. One more, and the oldest is cut off: an honest client
            is done after two round trips, so it is the oldest that is there to be in the way.
    """

    seconds: float = 10.0
    at_once: int = 256


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """What a listener offers: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.

    Args:
        certificate: a PEM file with the certificate, and those between it and the root.
        key: a PEM file with its private key, not encrypted.

    Raises:
        OSError: a file cannot be read, is not what it should be, or the two do not belong together
            (then it is an `ssl.SSLError`).
        ValueError: the key is encrypted.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(list(PROTOCOLS))
    context.load_cert_chain(certificate, key, password=_no_password)
    return context


def _no_password() -> str:
    # Otherwise OpenSSL would ask the terminal for it, and wait.
    raise ValueError("the private key is encrypted")


class Handshakes:
    """The handshakes that are under way on one listener.

    Args:
        context: what is offered.
        limits: on them.
    """

    def __init__(self, context: ssl.SSLContext, limits: HandshakeLimits) -> None:
        self._context = context
        self._limits = limits
        self._under_way: dict[trio.CancelScope, None] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._under_way)

    async def perform(self, stream: trio.SocketStream) -> tuple[Secured, str | None] | None:
        """Shake hands; ``None`` when nothing came of it.

        Returns:
            the connection, and the protocol that was negotiated, if any.

        Raises:
            OSError: the peer has gone already.
        """
        secured = Secured(stream, self._context)
        if len(self._under_way) >= self._limits.at_once:
            oldest = next(iter(self._under_way))
            del self._under_way[oldest]
            oldest.cancel()
        scope = trio.CancelScope(deadline=trio.current_time() + self._limits.seconds)
        self._under_way[scope] = None
        try:
            with scope:
                return secured, await secured.handshake()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return None  # garbage, no common version, or gone
        finally:
            self._under_way.pop(scope, None)
        return None
