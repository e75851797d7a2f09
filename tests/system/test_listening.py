"""What the server listens on besides a TCP port: sockets that it is started with, Unix sockets."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from ._client import Address, ask
from ._server import (
    STOP_SECONDS,
    command_environment,
    running_server,
    wait_until,
    wait_until_answered,
)
from .conftest import CreateDatabase

WORKERS = ["1", "2"]

STARTER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.executable, [sys.executable, "-m", "bulkhead_trio", "serve"])
"""


@pytest.fixture
def database(create_database: CreateDatabase) -> str:
    return create_database()


@contextmanager
def started_with(
    listener: socket.socket, data_dir: Path, variables: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A server that is started with ``listener`` as descriptor 3, as systemd would."""
    with (data_dir.parent / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", STARTER, str(listener.fileno())],
            env=command_environment({"DATA_DIR": str(data_dir), **variables}),
            pass_fds=[listener.fileno()],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def is_ready(address: Address) -> bool:
    with trio.move_on_after(2):
        return (await ask(address, "/ready")).status == 200
    return False


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("bind", ["fd://3", ""], ids=["fd", "systemd"])
async def test_socket_that_the_server_is_started_with_is_served(
    database: str, data_dir: Path, bind: str, workers: str
) -> None:
    """By its number or by systemd's protocol; whoever opened it keeps it when the server ends."""
    variables = {"DATABASE_URL": database, "BIND": bind, "API_PORT": "1", "WORKERS": workers}
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        address = listener.getsockname()
        with started_with(listener, data_dir, variables) as process:
            # Connections wait in the socket's queue until the server is there.
            await wait_until_answered(lambda: is_ready(address), "ready", timeout=20)
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            await wait_until(lambda: process.poll() is not None, "its end", timeout=STOP_SECONDS)
            assert process.returncode == 0
        with socket.create_connection(address, timeout=2):
            pass  # is in the queue for the next one


async def test_unix_socket_of_a_killed_server_is_replaced(database: str, data_dir: Path) -> None:
    """kill -9 leaves the file; the next start is not kept from its address by it."""
    path = data_dir.parent / "http.sock"
    port_and_path = {"BIND": f"127.0.0.1:0,unix:{path}?mode=0600"}
    for _ in range(2):
        with running_server(
            port_and_path, data_dir=data_dir, database=database, until_ready=False
        ) as server:
            await wait_until(
                lambda: f"Serving on unix:{path}" in server.output, "ready", timeout=20
            )
            assert stat.S_IMODE(path.lstat().st_mode) == 0o600
            async with await trio.open_unix_socket(os.fspath(path)) as stream:
                await stream.send_all(b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n")
                assert bytes(await stream.receive_some()).startswith(b"HTTP/1.1 200")
            server.signal(signal.SIGKILL)
            await server.exit_code()
        assert path.exists()
