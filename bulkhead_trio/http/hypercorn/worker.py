"""Hypercorn's own Trio server, mended so that one connection's trouble stays its own.

In Hypercorn 0.18 two tasks of a connection may close and write at once: its reader, which found
that what comes is no HTTP, and its application, which has answered without reading. `TCPServer`
writes under a lock and closes without it, so `trio.SocketStream` raises `BusyResourceError`; and
no error of a connection is caught, so it ends the nursery of the whole server. A few malformed
chunks to a path that is 404 are enough. This matters to whoever runs our application under that
server (`bulkhead_trio.app.create_app`); our own fronts do not use it.
"""

from __future__ import annotations

import warnings
from importlib.metadata import version
from typing import Any

import hypercorn.trio.run
import structlog
import trio
from hypercorn.trio.tcp_server import TCPServer

MENDED_RELEASE = "0.18"
"""The release that `mend` knows. In another one the names may mean something else."""

WRITE_SECONDS = 1.0
"""How long a connection that is to be closed waits for an answer that is being written."""

_log = structlog.get_logger("bulkhead_trio.http")


class MendedTCPServer(TCPServer):
    """Hypercorn's connection; it closes under the lock that it writes under, and fails alone."""

    async def run(self) -> None:
        """As Hypercorn's; an error that nobody expected is logged, and costs this connection."""
        try:
            await super().run()
        except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass  # the peer has gone
        except* Exception as group:  # noqa: BLE001  the net that Hypercorn does not have
            _log.error("connection_failed", exc_info=group)

    async def _close(self) -> None:
        with trio.move_on_after(WRITE_SECONDS, shield=True):
            async with self.send_lock:
                await super()._close()
                return
        # Whoever writes has a peer that does not read: closing breaks that off.
        await trio.aclose_forcefully(self.stream)


def mend(installed: str | None = None) -> bool:
    """Have Hypercorn's Trio worker of this process use `MendedTCPServer`, from now on.

    One name in one module is replaced, `hypercorn.trio.run.TCPServer`; doing it twice is doing it
    once. It makes no difference to a process in which that server does not run.

    Args:
        installed: Hypercorn's version; by default that of the installed package.

    Returns:
        whether it was done. It is not, and a `RuntimeWarning` says so, for any release but 0.18.
    """
    found = installed if installed is not None else version("hypercorn")
    if not f"{found}.".startswith(f"{MENDED_RELEASE}."):
        text = f"Hypercorn {found} is not mended: what is known is {MENDED_RELEASE}"
        warnings.warn(text, RuntimeWarning, stacklevel=2)
        return False
    module: Any = hypercorn.trio.run  # which offers no other way to choose its connection
    module.TCPServer = MendedTCPServer
    return True
