"""The open connections of one front."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

import structlog
import trio

from bulkhead_trio.http.hypercorn._transport import Address
from bulkhead_trio.http.limits import ConnectionLimits

_log = structlog.get_logger("bulkhead_trio.http")


class Resident(Protocol):
    """One connection, as its front sees it."""

    @property
    def client(self) -> Address:
        """The peer's address."""

    async def run(self) -> None:
        """Serve until the connection ends."""

    def close_if_idle(self) -> None:
        """Close now if nothing is under way; otherwise end with it."""


class Residents:
    """Runs connections so that the trouble of one is never another's, and knows which are open."""

    def __init__(self) -> None:
        self._open: set[Resident] = set()
        self._of_host: Counter[str] = Counter()
        self._is_closing = False

    def __len__(self) -> int:
        return len(self._open)

    def has_room(self, limits: ConnectionLimits, client: Address) -> bool:
        """Whether one more, from there, may come in."""
        if len(self._open) >= limits.connections:
            return False
        return client is None or self._of_host[client[0]] < limits.connections_per_address

    async def run(self, connection: Resident) -> None:
        """Serve it to its end; an error that nobody expected is logged, and costs it alone."""
        host = connection.client[0] if connection.client is not None else ""
        self._open.add(connection)
        self._of_host[host] += 1
        try:
            if self._is_closing:
                connection.close_if_idle()
            await connection.run()
        except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass  # the peer has gone
        except* Exception:  # noqa: BLE001
            # Without this net it would end the nursery that all of them live in.
            _log.exception("connection_failed")
        finally:
            self._open.discard(connection)
            self._of_host[host] -= 1
            if not self._of_host[host]:
                del self._of_host[host]

    def close(self) -> None:
        """Close what is idle, and let the rest end with what is under way."""
        self._is_closing = True
        for connection in list(self._open):
            connection.close_if_idle()
