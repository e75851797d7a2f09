"""Locks between processes that cannot go stale: the kernel drops them with their last holder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

import trio

from bulkhead_trio.database.embedded._account import Account

POLL_SECONDS = 0.05
"""How often a taken lock is tried again. A blocking flock would block the event loop."""


class FileLock:
    """An ``flock`` on a file, which is created (mode 0600) and never removed.

    It belongs to the open file, not to the process: two of them exclude each other within one
    process too, and processes that inherit `descriptor` hold it together.

    Args:
        path: the file.
        owner: whom the file is given to; ``None`` keeps it the caller's own.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path, *, owner: Account | None) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        if owner is not None:
            os.fchown(self.descriptor, owner.uid, owner.gid)

    def acquire_exclusive_nowait(self) -> None:
        """Take the lock for this holder alone; a shared hold is given up for it either way.

        Raises:
            trio.WouldBlock: somebody else holds it.
        """
        self._flock(fcntl.LOCK_EX)

    def acquire_shared_nowait(self) -> None:
        """Hold the lock together with other shared holders; an exclusive hold becomes shared.

        Raises:
            trio.WouldBlock: somebody else holds it exclusively.
        """
        self._flock(fcntl.LOCK_SH)

    async def acquire_exclusive(self) -> None:
        """Wait until `acquire_exclusive_nowait` succeeds; the caller bounds the wait."""
        while True:
            try:
                self.acquire_exclusive_nowait()
            except trio.WouldBlock:
                await trio.sleep(POLL_SECONDS)
            else:
                return

    def close(self) -> None:
        """Give the lock up, unless another process has inherited it."""
        os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _flock(self, operation: int) -> None:
        try:
            fcntl.flock(self.descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            raise trio.WouldBlock from None
