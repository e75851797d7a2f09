"""A process that uses the embedded server until its standard input ends; also run as a module."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import attrs
import trio

from bulkhead_trio.database.embedded import open_embedded_server

STOP_SECONDS = 30
REPOSITORY = Path(__file__).parents[3]


@attrs.frozen
class User:
    """Such a process, as the one that started it sees it."""

    process: subprocess.Popen[str]

    def report(self) -> dict[str, object]:
        """What it says when it has the server; waits for that."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it ended without the server, exit code {self.process.wait(STOP_SECONDS)}"
        return dict(json.loads(line))

    def leave(self) -> None:
        """End it in good order."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(STOP_SECONDS) == 0

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait(STOP_SECONDS)


@contextmanager
def using(
    directory: Path,
    *,
    max_connections: int = 20,
    supervise: bool = False,
    environ: Mapping[str, str] | None = None,
    uid: int | None = None,
) -> Iterator[User]:
    """Start such a process, as another user if ``uid`` says so.

    It is killed on the way out if it is still there.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(directory), str(max_connections), str(int(supervise))],
        env={**(os.environ if environ is None else environ)},
        cwd=REPOSITORY,
        user=uid,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield User(process)
        finally:
            process.kill()


def can_run_as(uid: int) -> bool:
    """Whether this process may become that user and is then able to run such a process."""
    command = [sys.executable, "-c", f"import {__name__}"]
    try:
        return subprocess.run(command, cwd=REPOSITORY, user=uid, check=False).returncode == 0
    except PermissionError:
        return False


async def use(directory: Path, *, max_connections: int, supervise: bool) -> None:
    """Use the server, say so in one line of JSON, and leave when standard input ends."""
    async with (
        open_embedded_server(directory, max_connections=max_connections) as server,
        trio.open_nursery() as nursery,
    ):
        if supervise:
            nursery.start_soon(server.supervise)
        report = {
            "pid": server.pid,
            "conninfo": server.conninfo,
            "is_shared": server.is_shared,
            "max_connections": server.max_connections,
        }
        print(json.dumps(report), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(
        lambda: use(
            Path(sys.argv[1]),
            max_connections=int(sys.argv[2]),
            supervise=bool(int(sys.argv[3])),
        )
    )
