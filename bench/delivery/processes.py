"""The processor time of a process and of all that it has started."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def tree_cpu_seconds(pid: int) -> float:
    """What a process has used, its children included, whether they live or have been waited for.

    Raises:
        ProcessLookupError: there is no such process.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except FileNotFoundError:
        raise ProcessLookupError(f"there is no process {pid}") from None
    # After the name, which is in parentheses and may hold anything: state is field 3 of proc(5),
    # utime, stime and those of children that were waited for are 14 to 17.
    fields = text.rpartition(")")[2].split()
    used = sum(int(field) for field in fields[11:15]) / _TICKS
    for child in children:
        try:
            used += tree_cpu_seconds(int(child))
        except ProcessLookupError:
            continue  # it has ended since, and is in its parent's sum from now on
    return used


def postmaster_pid(directory: Path) -> int:
    """Of the PostgreSQL whose data is in ``directory``."""
    return int((directory / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0])
