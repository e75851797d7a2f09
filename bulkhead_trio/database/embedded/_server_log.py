"""PostgreSQL's log: what it said last, and no more of it than the disk can bear."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

import attrs

from bulkhead_trio.database.embedded._account import Account

LOG_BYTES: Final = 8 * 1024 * 1024
"""A longer log is put aside as ``....1``, so it takes twice this, and what one minute adds."""

TAIL_BYTES: Final = 2000
"""What of it goes into an error's message: some twenty lines."""


@attrs.frozen
class ServerLog:
    """The file that the server's standard error goes to."""

    path: Path

    def open_to_append(self, owner: Account | None) -> int:
        """A descriptor for the server to write to."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        if owner is not None:
            os.fchown(descriptor, owner.uid, owner.gid)
        return descriptor

    def size(self) -> int:
        """Its length in bytes; 0 when there is none."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def bound(self) -> None:
        """Put a log aside that has grown too long.

        The server has the file open for appending, so it is copied and emptied, not renamed. A
        line that is written in between is lost.
        """
        if self.size() > LOG_BYTES:
            shutil.copyfile(self.path, self.path.with_name(f"{self.path.name}.1"))
            os.truncate(self.path, 0)

    def tail(self, start: int) -> str:
        """Its last lines, none of them from before the byte ``start``."""
        try:
            with self.path.open("rb") as file:
                file.seek(max(start, self.size() - TAIL_BYTES))
                return file.read().decode(errors="replace").strip()
        except FileNotFoundError:
            return ""
