"""A PostgreSQL of a test's own, which can be killed and started again where it was."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from ..._database import kill_quietly

HOLDER = """
import sys, trio
from pathlib import Path
from bulkhead_trio.database.embedded import open_embedded_server

async def main():
    async with open_embedded_server(Path(sys.argv[1]), max_connections=200) as server:
        print(server.pid, server.conninfo, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)  # until the test has gone

trio.run(main)
"""


class OwnPostgres:
    """It runs within its ``with`` block, in ``directory``, held by a process of its own.

    Attributes:
        conninfo: of its database ``postgres``; the same after each start.
    """

    def __init__(self, directory: Path) -> None:
        self.conninfo = ""
        self._directory = directory
        self._holder: subprocess.Popen[str] | None = None
        self._pid = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._holder is None:  # killed; whoever makes the directory ends what is left of it
            return
        holder, self._holder = self._holder, None
        holder.communicate(timeout=30)

    def start(self) -> None:
        """Start it; returns once it takes connections. Blocks the thread meanwhile."""
        self._holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(self._directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        pid, _, conninfo = self._holder.stdout.readline().strip().partition(" ")
        assert pid, "PostgreSQL did not start"
        assert self.conninfo in ("", conninfo), "it is somewhere else now"
        self._pid, self.conninfo = int(pid), conninfo

    def kill(self) -> None:
        """``kill -9`` of all its processes, and of the one that holds it."""
        assert self._holder is not None
        holder, self._holder = self._holder, None
        holder.kill()
        backends = Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text().split()
        for pid in (self._pid, *map(int, backends)):
            kill_quietly(pid, signal.SIGKILL)
        holder.communicate()
