"""PostgreSQL's processes, found by what they are and never by a number alone.

``postmaster.pid`` names a process number. After a crash that number may belong to nobody, to a
zombie, or to somebody else's process; and the backends of a postmaster that was killed may outlive
it. So a number counts only when ``/proc`` shows a living ``postgres`` that works in the cluster's
directory, and the process is then held by a pidfd, which never means another one.
"""

from __future__ import annotations

import errno
import os
import select
import signal
from collections.abc import Container, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import attrs
import trio

PROGRAM_NAME: Final = "postgres"
PID_FILE: Final = "postmaster.pid"
LARGEST_PID: Final = 2**22
"""Linux's ``PID_MAX_LIMIT``."""

STOPPING: Final[Sequence[tuple[signal.Signals, float]]] = (
    (signal.SIGINT, 15.0),
    (signal.SIGQUIT, 3.0),
    (signal.SIGKILL, 2.0),
)
"""PostgreSQL's fast shutdown, its immediate one, and the kernel's; seconds that each gets. A fast
shutdown writes a checkpoint, which is what takes time."""

SEND_AGAIN_SECONDS: Final = 0.2
"""A server that is only beginning ignores signals, as whatever ``/bin/sh`` starts in the background
does; to one that has heard the first, a second is nothing."""


@attrs.frozen
class PidFile:
    """What ``postmaster.pid`` says.

    Attributes:
        pid: the number that the postmaster had.
        port: part of the socket's name; 0 while not written yet.
        socket_directory: absolute; empty while not written yet.
        is_ready: whether the server takes connections.
    """

    pid: int
    port: int = 0
    socket_directory: str = ""
    is_ready: bool = False

    @classmethod
    def read(cls, directory: Path) -> Self | None:
        """The pid file in ``directory``; ``None`` when there is none that names a process."""
        try:
            text = (directory / PID_FILE).read_text(errors="surrogateescape")
        except (FileNotFoundError, NotADirectoryError):
            return None
        # pid, directory, start time, port, socket directory, address, memory key, status:
        # src/include/utils/pidfile.h. The file grows line by line while the server starts.
        lines = [line.strip() for line in text.splitlines()] + [""] * 8
        if not lines[0].isdecimal() or not 0 < int(lines[0]) <= LARGEST_PID:
            return None
        port = int(lines[3]) if lines[3].isdecimal() else 0
        return cls(int(lines[0]), port, lines[4], lines[7] == "ready")


class ServerProcess:
    """A process that was alive when this was made, and no other ever after.

    Args:
        pid: its number.

    Raises:
        ProcessLookupError: there is no such process.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)

    @classmethod
    def find_postmaster(cls, directory: Path) -> Self | None:
        """The living postmaster that the pid file in ``directory`` names."""
        pid_file = PidFile.read(directory)
        return None if pid_file is None else cls.find(pid_file.pid, {str(directory)})

    @classmethod
    def find_all(cls, directory: Path) -> list[Self]:
        """Every living process of PostgreSQL in ``directory``, or in one of that name once."""
        names = {str(directory), f"{directory} (deleted)"}
        pids = (int(name) for name in os.listdir("/proc") if name.isdecimal())
        return [found for pid in pids if (found := cls.find(pid, names)) is not None]

    @classmethod
    def find(cls, pid: int, directories: Container[str]) -> Self | None:
        """The process ``pid`` if it is a living PostgreSQL in one of ``directories``."""
        if not _is_server(pid, directories):  # before anything is opened for it
            return None
        try:
            found = cls(pid)
        except OSError as error:
            if error.errno in (errno.ESRCH, errno.EINVAL):
                return None
            raise
        # It is held now; but is what is held still what was looked at?
        if _is_server(pid, directories) and not found.has_ended():
            return found
        found.close()
        return None

    def has_ended(self) -> bool:
        """Whether it has ended; a zombie has."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(0))

    async def wait_ended(self) -> None:
        """Wait until it has ended. Any number of tasks may."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            # Its number is its own for as long as it has not ended, so this is the same process.
            if not self.has_ended():
                await trio.lowlevel.wait_readable(descriptor)
        finally:
            os.close(descriptor)

    def send(self, number: signal.Signals) -> None:
        """Send a signal, which reaches nobody when it has ended."""
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return

    async def stop(self, stages: Sequence[tuple[signal.Signals, float]] = STOPPING) -> None:
        """Stop it: fast, then at once, then by force.

        Args:
            stages: the signals, and the seconds that each gets to have its effect.
        """
        for number, seconds in stages:
            with trio.move_on_after(seconds):
                while not self.has_ended():
                    self.send(number)
                    with trio.move_on_after(SEND_AGAIN_SECONDS):
                        await self.wait_ended()
            if self.has_ended():
                return

    def close(self) -> None:
        """Forget the process; it is not touched."""
        os.close(self._pidfd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


async def end_orphans(directory: Path) -> int:
    """End the backends of a postmaster that is gone; says how many there were.

    To be called when `ServerProcess.find_postmaster` finds none and none is being started. They
    cannot do anyone any good: crash recovery discards what they have not committed.
    """
    orphans = ServerProcess.find_all(directory)
    try:
        async with trio.open_nursery() as nursery:
            for orphan in orphans:
                nursery.start_soon(orphan.stop, STOPPING[1:])
    finally:
        for orphan in orphans:
            orphan.close()
    return len(orphans)


def _is_server(pid: int, directories: Container[str]) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        name, _, rest = status.partition("(")[2].rpartition(")")  # "1234 (postgres) S 1 ..."
        if name != PROGRAM_NAME or rest.split()[0] in {"Z", "X"}:
            return False
        return os.readlink(f"/proc/{pid}/cwd") in directories
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
