"""A log that nobody reads for a while: the server serves on, says what is missing, and can stop."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from ._client import Address, ask, open_wire
from ._server import START_SECONDS, STOP_SECONDS, _answers_ready, command_environment, free_port
from .conftest import CreateDatabase

REQUEST = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"
AT_ONCE = 50
ROUNDS = 200
"""Ten thousand lines, more than twice what is kept."""


@attrs.frozen
class Stalled:
    """A server whose standard error is a pipe, and the pipe's other end."""

    process: subprocess.Popen[bytes]
    address: Address
    log: int

    def read_on(self) -> tuple[threading.Thread, list[bytes]]:
        """Read from now on, to the end."""
        pieces: list[bytes] = []

        def read() -> None:
            while piece := os.read(self.log, 65536):
                pieces.append(piece)

        thread = threading.Thread(target=read)
        thread.start()
        return thread, pieces


@contextmanager
def running(workers: int, *, data_dir: Path, database: str) -> Iterator[Stalled]:
    """`bulkhead-trio serve` with nobody who reads what it says."""
    address = ("127.0.0.1", free_port())
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "bulkhead_trio", "serve"],
        env=command_environment(
            {
                "API_PORT": str(address[1]),
                "DATA_DIR": str(data_dir),
                "DATABASE_URL": database,
                "WORKERS": str(workers),
            }
        ),
        cwd=data_dir.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=writing,
    )
    os.close(writing)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers_ready(address):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield Stalled(process, address, reading)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(reading)


async def ask_often(address: Address) -> None:
    """So many requests, each answered."""
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(ask_in_rounds, address, ROUNDS // 4)


async def ask_in_rounds(address: Address, rounds: int) -> None:
    async with open_wire(address) as wire:
        for _ in range(rounds):
            await wire.send(REQUEST * AT_ONCE)
            for _ in range(AT_ONCE):
                assert (await wire.answer()).status < 500


def parsed(data: bytes) -> list[dict[str, Any]]:
    """Its lines; one that is mixed with another is no JSON."""
    return [json.loads(line) for line in data.splitlines()]


@pytest.mark.parametrize("workers", [1, 2])
async def test_stalled_log_does_not_stop_the_server(
    create_database: CreateDatabase, data_dir: Path, workers: int
) -> None:
    """Every request is answered; the count of what is missing is in the metrics and in the log."""
    with running(workers, data_dir=data_dir, database=create_database()) as server:
        await ask_often(server.address)
        dropped = await dropped_lines(server.address)
        assert dropped > 0
        thread, pieces = server.read_on()
        await trio.sleep(1)
        await ask_often(server.address)
        server.process.terminate()
        code = await trio.to_thread.run_sync(server.process.wait, STOP_SECONDS)
        await trio.to_thread.run_sync(thread.join)
        assert code == 0
        lines = parsed(b"".join(pieces))
        said = [line["lines"] for line in lines if line["event"] == "log_lines_dropped"]
        assert sum(said) >= dropped
        requests = sum(line.get("path") == "/nothing" for line in lines)
        assert requests + sum(said) >= 2 * ROUNDS * AT_ONCE
        assert len(said) <= 2 * workers


async def test_server_stops_though_nobody_reads(
    create_database: CreateDatabase, data_dir: Path
) -> None:
    """Its last lines are not waited for."""
    with running(1, data_dir=data_dir, database=create_database()) as server:
        await ask_often(server.address)
        server.process.terminate()
        assert await trio.to_thread.run_sync(server.process.wait, STOP_SECONDS) == 0


async def dropped_lines(address: Address) -> int:
    """What the metrics say."""
    text = (await ask(address, "/metrics")).body.decode()
    found = re.search(r"^bulkhead_log_lines_dropped_total (\S+)$", text, re.MULTILINE)
    assert found is not None
    return int(float(found.group(1)))
