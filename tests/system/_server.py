"""The real command as a process: started, awaited, asked how it is, and always stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from ._client import Address, NoAnswerError, Wire, ask, open_wire, request_bytes
from ._database import find_postmaster, kill_quietly, running_queries

START_SECONDS = 30.0
STOP_SECONDS = 15.0
TAIL_CHARACTERS = 6000

# Only these are inherited, so that a variable set on the machine cannot change what is tested.
INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "COVERAGE_PROCESS_START")


@attrs.define
class Server:
    """One `bulkhead-trio serve` that was started by a test."""

    process: subprocess.Popen[bytes]
    address: Address
    data_dir: Path
    output_file: Path
    database: str | None = None

    @property
    def output(self) -> str:
        """Everything it has said so far, both streams."""
        return self.output_file.read_text(errors="replace")

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.process.pid, number)

    def wait(self, timeout: float = STOP_SECONDS) -> int:
        """Its exit code.

        Raises:
            AssertionError: it is still there after ``timeout`` seconds.
        """
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"still running after {timeout} s\n{self.tail()}") from error

    async def exit_code(self, timeout: float = STOP_SECONDS) -> int:
        """As `wait`, while other tasks go on."""
        deadline = trio.current_time() + timeout
        while (code := self.process.poll()) is None:
            assert trio.current_time() < deadline, f"runs after {timeout} s\n{self.tail()}"
            await trio.sleep(0.02)
        return code

    def tail(self) -> str:
        """The end of what it said, for a failure's message."""
        return (
            f"--- output of the server (pid {self.process.pid}):\n{self.output[-TAIL_CHARACTERS:]}"
        )


def free_port() -> int:
    """A port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment of a command: ``variables`` and the little that a process needs."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {**inherited, "PYTHONUNBUFFERED": "1", **variables}


def run_command(
    arguments: Sequence[str], variables: Mapping[str, str], *, timeout: float = START_SECONDS
) -> subprocess.CompletedProcess[str]:
    """Run `bulkhead-trio` with these arguments to its end, in an empty directory."""
    with tempfile.TemporaryDirectory(prefix="bulkhead-") as directory:
        return subprocess.run(
            [sys.executable, "-m", "bulkhead_trio", *arguments],
            env=command_environment({"DATA_DIR": f"{directory}/data", **variables}),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )


@contextmanager
def running_server(
    variables: Mapping[str, str],
    *,
    data_dir: Path,
    database: str | None = None,
    arguments: Sequence[str] = (),
    until_ready: bool = True,
    port: int | None = None,
) -> Iterator[Server]:
    """A server on ``port`` or a free one; stopped on the way out, killed if it will not.

    A failure inside gets the end of the server's output as a note.
    """
    port = port or free_port()
    settings = {"API_HOST": "127.0.0.1", "API_PORT": str(port), "DATA_DIR": str(data_dir)}
    if database is not None:
        settings["DATABASE_URL"] = database
    data_dir.mkdir(exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix="server-", suffix=".log", dir=data_dir.parent)
    with os.fdopen(descriptor, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "bulkhead_trio", "serve", *arguments],
            env=command_environment({**settings, **variables}),
            cwd=data_dir.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = Server(process, ("127.0.0.1", port), data_dir, Path(name), database)
    try:
        if until_ready:
            _wait_until_ready(server)
        yield server
    except BaseException as error:
        error.add_note(server.tail())
        raise
    finally:
        _stop(server)


def _wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _answers_ready(server.address):
        assert server.process.poll() is None, f"exit {server.process.returncode}\n{server.tail()}"
        assert time.monotonic() < deadline, f"not ready in {START_SECONDS} s\n{server.tail()}"
        time.sleep(0.05)


def _answers_ready(address: Address) -> bool:
    try:
        with socket.create_connection(address, timeout=2) as connection:
            connection.sendall(request_bytes("/ready", headers={"Connection": "close"}))
            return connection.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def _stop(server: Server) -> None:
    """By its pid: kindly, then not. An embedded PostgreSQL that it left behind goes too."""
    if server.process.poll() is None:
        server.process.send_signal(signal.SIGCONT)
        server.process.terminate()
        try:
            server.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()
    if server.database is None:
        end_postmaster(server.data_dir)


def end_postmaster(data_dir: Path) -> None:
    """Make sure that no embedded PostgreSQL of this directory runs on."""
    postmaster = find_postmaster(data_dir)
    if postmaster is None or not postmaster.is_alive:
        return
    command_line = Path(f"/proc/{postmaster.pid}/cmdline")
    if b"postgres" not in command_line.read_bytes():
        return
    kill_quietly(postmaster.pid, signal.SIGINT)
    deadline = time.monotonic() + STOP_SECONDS
    while postmaster.is_alive and time.monotonic() < deadline:
        time.sleep(0.05)
    kill_quietly(postmaster.pid, signal.SIGKILL)


async def wait_until(
    holds: Callable[[], bool], what: str, *, timeout: float = 5.0, every: float = 0.03
) -> None:
    """Look again until it holds.

    Raises:
        AssertionError: it still does not after ``timeout`` seconds.
    """
    deadline = trio.current_time() + timeout
    while not holds():
        assert trio.current_time() < deadline, f"not within {timeout} s: {what}"
        await trio.sleep(every)


async def wait_until_answered(
    holds: Callable[[], Awaitable[bool]], what: str, *, timeout: float = 5.0, every: float = 0.05
) -> None:
    """As `wait_until`, where looking means to ask a server."""
    deadline = trio.current_time() + timeout
    while not await holds():
        assert trio.current_time() < deadline, f"not within {timeout} s: {what}"
        await trio.sleep(every)


async def wait_for_queries(database: str, count: int, *, timeout: float = 5.0) -> None:
    """Until so many queries of tenants' rows run or wait in PostgreSQL."""
    await wait_until(
        lambda: len(running_queries(database)) == count, f"{count} queries", timeout=timeout
    )


async def bulkheads(server: Server) -> dict[str, Any]:
    """``GET /metrics/bulkheads``."""
    answer = await ask(server.address, "/metrics/bulkheads", timeout=5)
    assert answer.status == 200, str(answer)
    members = answer.json()
    assert isinstance(members, dict)
    return members


async def wait_for_tier(
    server: Server, tier: str, *, timeout: float = 5.0, **expected: int
) -> dict[str, Any]:
    """Until ``active`` (workers), ``queued``, ``connections`` and ``pending`` are as expected."""
    deadline = trio.current_time() + timeout
    while True:
        members = (await bulkheads(server))[tier]
        pool, threads = members["connectionPool"], members["threadPool"]
        seen = {
            "active": threads["active"],
            "queued": threads["queued"],
            "connections": pool["active"],
            "pending": pool["pending"],
        }
        if all(seen[name] == value for name, value in expected.items()):
            return dict(members)
        assert trio.current_time() < deadline, f"expected {expected}, seen {seen}\n{server.tail()}"
        await trio.sleep(0.03)


async def wait_at_rest(server: Server, *, timeout: float = 3.0) -> None:
    """Until no tier holds anything: no worker, no waiting place, no connection."""
    for tier in await bulkheads(server):
        await wait_for_tier(
            server, tier, timeout=timeout, active=0, queued=0, connections=0, pending=0
        )


@asynccontextmanager
async def held_requests(
    server: Server, tier: str, count: int, *, headers: Mapping[str, str] | None = None
) -> AsyncIterator[list[Wire]]:
    """``count`` connections, each with one ``GET /api/data`` sent and no answer read."""
    wires: list[Wire] = []
    raw = request_bytes("/api/data", headers={"X-Tenant-Tier": tier, **(headers or {})})
    async with _all_closed(wires):
        for _ in range(count):
            wire = Wire(await trio.open_tcp_stream(*server.address))
            wires.append(wire)
            await wire.send(raw)
        yield wires


@asynccontextmanager
async def _all_closed(wires: list[Wire]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for wire in wires:
            await wire.aclose()


@attrs.define
class Load:
    """A steady light load: when each request was answered, and how."""

    statuses: list[tuple[float, int]] = attrs.field(factory=list)

    def since(self, moment: float) -> list[int]:
        """The statuses of the requests that were sent after a moment of Trio's clock."""
        return [status for sent, status in self.statuses if sent >= moment]


@asynccontextmanager
async def light_load(
    server: Server, tier: str = "pro", *, clients: int = 3, pause: float = 0.03
) -> AsyncIterator[Load]:
    """While inside, a few clients ask one after the other. An answer that never comes raises."""
    load = Load()

    async def client() -> None:
        headers = {"X-Tenant-Tier": tier}
        while True:
            async with open_wire(server.address) as wire:
                sent = trio.current_time()
                try:
                    answer = await wire.ask("/api/data", headers=headers, timeout=15)
                except NoAnswerError as error:
                    raise AssertionError(f"no answer under load\n{server.tail()}") from error
                load.statuses.append((sent, answer.status))
                assert answer.status != 500, str(answer)
            await trio.sleep(pause)

    async with trio.open_nursery() as nursery:
        for _ in range(clients):
            nursery.start_soon(client)
        yield load
        nursery.cancel_scope.cancel()
