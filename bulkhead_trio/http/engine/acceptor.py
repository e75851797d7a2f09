"""Accepts connections, each in its turn: whoever comes anew waits as everybody does."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

import structlog
import trio

from bulkhead_trio.http.engine.connection import ARRIVALS, Address
from bulkhead_trio.http.engine.meter import METERED
from bulkhead_trio.http.engine.readiness import Readiness
from bulkhead_trio.http.engine.turn_taker import TurnTaker

_log = structlog.get_logger("bulkhead_trio.http")

Begin = Callable[[socket.socket, Address | None, Address | None], None]
"""Takes a connected socket, the client's address and our own."""

SHORT_OF = frozenset([errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
RECOVERY_SECONDS = 0.1
"""After the system had no room for one more: it may have some when others have closed theirs."""


class Acceptor(TurnTaker):
    """Accepts what comes to one listening socket.

    Args:
        listener: the descriptor of a socket that listens; stays its owner's.
        readiness: says when there is something, and whose turn it is.
        begin: given every connection.
    """

    def __init__(self, listener: int, readiness: Readiness, begin: Begin) -> None:
        super().__init__(readiness, ARRIVALS)
        # A descriptor of its own, so that closing the listener is its owner's affair alone.
        self._sock = socket.socket(fileno=socket.dup(listener))
        self._sock.setblocking(False)
        self._begin = begin

    async def run(self) -> None:
        """Accept until cancelled."""
        METERED.set(self)
        server = asgi_address(self._sock.getsockname())
        self._readiness.watch(self._sock, self)
        try:
            while True:
                if await self._accept_one(server):
                    self.ask_for_turn()  # more may have come, of which no news will come
                await self.park()
        finally:
            self._readiness.forget(self._sock)
            self._sock.close()

    async def _accept_one(self, server: Address | None) -> bool:
        """Whether there may be another one."""
        try:
            sock, peer = self._sock.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in SHORT_OF:
                _log.warning("accepting_failed", error=errno.errorcode[error.errno or 0])
                await trio.sleep(RECOVERY_SECONDS)
            return True  # else it has gone again before it was accepted
        self._begin(sock, asgi_address(peer), server)
        return True

    def on_ready(self, events: int) -> None:  # noqa: ARG002
        """Somebody has come."""
        self.ask_for_turn()


def asgi_address(address: object) -> Address | None:
    """A socket's address as ASGI wants it; ``None`` for a Unix socket's end without a name."""
    if isinstance(address, tuple):
        return str(address[0]), int(address[1])
    if isinstance(address, bytes):
        address = address.decode("utf-8", errors="replace")
    return (str(address), None) if address else None
