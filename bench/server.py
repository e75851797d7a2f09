"""The server under test: the real command as a process, with known settings and nothing else."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from bench.client import Address, Answer, ConnectionLost, fetch

HOST = "127.0.0.1"
START_SECONDS = 60.0
"""How long the server may take until ``/ready`` says 200: a slow machine's imports, migrations."""
GRACE_SECONDS = 5
"""``SHUTDOWN_GRACE_SECONDS`` of the server: nothing that matters runs when it is stopped."""
STOP_SECONDS = GRACE_SECONDS + 10.0
POLL_SECONDS = 0.05
CONTROL_SECONDS = 10.0
"""How long one request for the server's state may take."""

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "USER", "VIRTUAL_ENV")
"""Variables that are passed on; all others could be settings and would change what is measured."""

LOG_TAIL_LINES = 20


class ServerFailed(Exception):
    """The server did not start, or did not end as it should."""


@attrs.frozen
class Server:
    """A running server. Open one with `open_server`."""

    address: Address
    pid: int

    async def get(self, path: str) -> Answer:
        """One request on a connection of its own.

        Raises:
            ServerFailed: no answer.
        """
        try:
            return await fetch(self.address, path, timeout=CONTROL_SECONDS)
        except (ConnectionLost, OSError, trio.TooSlowError) as error:
            raise ServerFailed(f"no answer to {path}: {error}") from error

    async def bulkheads(self) -> dict[str, Any]:
        """What ``/metrics/bulkheads`` says.

        Raises:
            ServerFailed: no answer, or not 200.
        """
        answer = await self.get("/metrics/bulkheads")
        if answer.status != 200:
            raise ServerFailed(f"/metrics/bulkheads answers {answer.status}")
        bulkheads: dict[str, Any] = answer.json()
        return bulkheads


def free_port() -> int:
    """A TCP port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def open_server(
    environment: Mapping[str, str],
    *,
    database_url: str,
    directory: Path,
    prefix: Sequence[str] = (),
) -> AsyncIterator[Server]:
    """Start ``bulkhead-trio serve`` and wait until it is ready; stop it when the block ends.

    Args:
        environment: settings of the server, beside those that say where things are.
        database_url: the PostgreSQL to use.
        directory: where the server may keep files; its output goes to ``server.log`` there.
        prefix: what its command line begins with, such as ``taskset``.

    Raises:
        ServerFailed: it did not become ready, or did not end with exit code 0 on SIGTERM.
    """
    address = Address(HOST, free_port())
    async with open_command(
        [*prefix, sys.executable, "-m", "bulkhead_trio", "serve"],
        environment=_places(address, database_url, directory) | dict(environment),
        address=address,
        log=directory / "server.log",
    ) as server:
        yield server


@asynccontextmanager
async def open_command(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    address: Address,
    log: Path,
    ready_path: str = "/ready",
    exit_codes: Collection[int] = (0,),
) -> AsyncIterator[Server]:
    """Start any HTTP server and wait until it is ready; stop it when the block ends.

    Args:
        command: its command line.
        environment: its variables, beside those of `INHERITED`.
        address: where it will listen.
        log: the file for its output.
        ready_path: answered with 200 when it is ready.
        exit_codes: with which it may end on SIGTERM.

    Raises:
        ServerFailed: it did not become ready, or ended otherwise.
    """
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    with log.open("wb") as output:
        process = await trio.lowlevel.open_process(
            command,
            env=inherited | dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process, which then stops the server
        )
    try:
        await _wait_ready(process, address, ready_path, log)
        yield Server(address, process.pid)
    finally:
        exit_code = await _stop(process)
    if exit_code not in exit_codes:
        raise ServerFailed(f"the server ended with {exit_code} on SIGTERM\n{_tail(log)}")


def _places(address: Address, database_url: str, directory: Path) -> dict[str, str]:
    return {
        "API_HOST": address.host,
        "API_PORT": str(address.port),
        "DATABASE_URL": database_url,
        "DATA_DIR": str(directory / "data"),
        "SHUTDOWN_GRACE_SECONDS": str(GRACE_SECONDS),
    }


async def _wait_ready(process: trio.Process, address: Address, path: str, log: Path) -> None:
    with trio.move_on_after(START_SECONDS):
        while process.poll() is None:
            if await _is_ready(address, path):
                return
            await trio.sleep(POLL_SECONDS)
        raise ServerFailed(f"the server ended with {process.returncode}\n{_tail(log)}")
    raise ServerFailed(f"the server was not ready after {START_SECONDS:g} s\n{_tail(log)}")


async def _is_ready(address: Address, path: str) -> bool:
    try:
        return (await fetch(address, path, timeout=CONTROL_SECONDS)).status == 200
    except (ConnectionLost, OSError, trio.TooSlowError):
        return False


async def _stop(process: trio.Process) -> int:
    """Ask the process to end, make it end if it does not in time; its exit code."""
    with trio.CancelScope(shield=True):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        with trio.move_on_after(STOP_SECONDS):
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None, "it has been waited for"
    return process.returncode


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"  | {line}" for line in lines[-LOG_TAIL_LINES:])
