"""What runs on a data directory: read from its pid file and from ``/proc``, and doubted."""

from __future__ import annotations

from pathlib import Path

import attrs

PID_FILE = "postmaster.pid"
READY = "ready"


@attrs.frozen
class Postmaster:
    """A PostgreSQL server process of one data directory."""

    pid: int
    status: str

    @property
    def is_ready(self) -> bool:
        """Whether it takes connections."""
        return self.status == READY


def find_postmaster(directory: Path) -> Postmaster | None:
    """The living server of ``directory``, if there is one.

    A pid file proves nothing: its process may have been killed, be a zombie that nobody reaps, or
    by now be some other program that was given the same number.
    """
    try:
        lines = (directory / PID_FILE).read_text().splitlines()
        pid = int(lines[0])
    except (FileNotFoundError, ValueError, IndexError):
        return None
    if not is_server_process(pid, directory):
        return None
    return Postmaster(pid=pid, status=lines[7].strip() if len(lines) > 7 else "starting")


def is_server_process(pid: int, directory: Path) -> bool:
    """Whether ``pid`` is a living PostgreSQL process of ``directory``."""
    process = Path("/proc") / str(pid)
    try:
        # "pid (name) state ...", and the name may contain anything.
        name, _, rest = (process / "stat").read_text().partition("(")[2].rpartition(")")
        if name != "postgres" or rest.split()[0] in ("Z", "X"):
            return False
        # PostgreSQL makes its data directory its working directory, and so do its children.
        return (process / "cwd").resolve(strict=True) == directory.resolve()
    except (OSError, IndexError):
        return False


def server_processes(directory: Path) -> list[int]:
    """Every living PostgreSQL process of ``directory``, orphans of a killed server included."""
    numbers = (entry.name for entry in Path("/proc").iterdir())
    return [
        int(name) for name in numbers if name.isdigit() and is_server_process(int(name), directory)
    ]
