"""Locks between processes that the kernel takes back when their holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

POLL_SECONDS = 0.05
"""`flock` has no way of waiting that Trio could cancel, so it is asked this often."""


class FileLock:
    """An open lock file; closing it gives the lock back."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def try_exclusive(self) -> bool:
        """Take the lock alone, now or not at all; a shared one that is held is lost if not."""
        return self._try(fcntl.LOCK_EX)

    def try_shared(self) -> bool:
        """Take the lock together with others, now or not at all."""
        return self._try(fcntl.LOCK_SH)

    def _try(self, kind: int) -> bool:
        try:
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Give it back."""
        os.close(self._descriptor)


@asynccontextmanager
async def exclusive(path: Path) -> AsyncIterator[None]:
    """Hold the lock at ``path`` alone for the length of a block; waits as long as it takes."""
    lock = FileLock(path)
    try:
        while not lock.try_exclusive():
            await trio.sleep(POLL_SECONDS)
        yield
    finally:
        lock.close()
