"""What a test sees of processes and open files, from outside."""

from __future__ import annotations

import os
from pathlib import Path

import trio

PATIENCE_SECONDS = 30.0
"""A test that comes to it has failed."""


def open_files() -> list[str]:
    directory = os.open("/proc/self/fd", os.O_RDONLY)
    try:
        return sorted(set(os.listdir(directory)) - {str(directory)})
    finally:
        os.close(directory)


def child_processes() -> list[str]:
    """The living ones and the zombies."""
    return sorted(
        number
        for task in Path("/proc/self/task").iterdir()
        for number in (task / "children").read_text().split()
    )


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


async def wait_gone(pid: int) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        while is_running(pid):
            await trio.sleep(0.01)


async def wait_written(path: Path) -> int:
    """The process number that somebody writes there."""
    with trio.fail_after(PATIENCE_SECONDS):
        while not (path.exists() and path.read_text()):
            await trio.sleep(0.01)
    return int(path.read_text())
