"""A worker as a process: started by exec, told what to do over a line, killed on the way out."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import structlog
import trio

import bulkhead_trio
from bulkhead_trio.observe.snapshots import ProcessSnapshot
from bulkhead_trio.policies.bulkhead._children import Child
from bulkhead_trio.workers.assignment import Assignment, Line
from bulkhead_trio.workers.snapshots import decode

# With -P, so that a worker imports nothing from the directory that the server was started in.
COMMAND = (sys.executable, "-P", "-m", "bulkhead_trio.workers")

_log = structlog.get_logger("bulkhead_trio.workers")


class WorkerProcess:
    """A process that runs `bulkhead_trio.workers.worker`. Open one with `open_worker`.

    Attributes:
        ready: set when it serves.
        counted: what it has counted so far, as of about a second ago; ``None`` before it said so.
        words: how often it has been heard.
    """

    def __init__(self, child: Child, line: Line, past: ProcessSnapshot | None) -> None:
        self.ready = trio.Event()
        self.counted = past
        self.words = 0
        self._child = child
        self._line = line

    @property
    def pid(self) -> int:
        """Its number in the system."""
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """What it ended with, once it is left."""
        return self._child.process.returncode

    async def wait_ended(self) -> None:
        """Wait until it has ended."""
        await self._child.wait_ended()

    def signal(self, number: int) -> None:
        """Send it a signal; to one that has ended, none."""
        with suppress(ProcessLookupError):
            self._child.process.send_signal(signal.Signals(number))

    async def converse(self, assignment: bytes) -> None:
        """Tell it what to do, and hear what it says until it is gone."""
        try:
            await self._line.send(assignment)
            while (frame := await self._line.receive()) is not None:
                self.words += 1
                if frame:
                    self.counted = decode(frame)
                else:
                    self.ready.set()
        except (trio.BrokenResourceError, msgspec.DecodeError) as error:
            _log.warning("worker_line_broken", pid=self.pid, error=str(error))


@asynccontextmanager
async def open_worker(assignment: Assignment) -> AsyncIterator[WorkerProcess]:
    """Start a worker; on leaving it is killed, unless it has ended, and reaped.

    Raises:
        OSError: it cannot be started.
    """
    descriptors = [each for numbers in assignment.listeners.values() for each in numbers]
    ours, theirs = socket.socketpair()
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    async with stream:
        with theirs:
            try:
                child = await Child.start(
                    COMMAND,
                    stdin=theirs.fileno(),
                    pass_fds=sorted(set(descriptors)),
                    env=_environment(),
                )
            except (ValueError, subprocess.SubprocessError) as error:
                # The sockets were closed meanwhile, as they are when the server drains.
                raise OSError(errno.EBADF, f"cannot start a worker: {error}") from error
        worker = WorkerProcess(child, Line(stream), assignment.past)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.converse, pickle.dumps(assignment))
                yield worker
                nursery.cancel_scope.cancel()
        finally:
            await child.end()


def _environment() -> dict[str, str]:
    """This process's, without what was meant for it alone."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("LISTEN_")
    }
    root = Path(bulkhead_trio.__file__).parents[1]
    if not sys.flags.safe_path and Path(sys.path[0] or ".").resolve() == root:
        # Run from its source tree, and perhaps installed nowhere else.
        paths = [str(root), *environment.get("PYTHONPATH", "").split(os.pathsep)]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return environment
