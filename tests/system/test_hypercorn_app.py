"""``hypercorn -k trio 'bulkhead_trio.app:create_app()'``: the whole API under another's server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trio

from ..http.hypercorn._wires import WSClient, read_all
from ._client import Address, ask, open_wire
from ._database import locked_table
from ._problems import assert_problem
from ._server import (
    START_SECONDS,
    Server,
    _answers_ready,
    _stop,
    command_environment,
    free_port,
    wait_for_queries,
)
from .conftest import CreateDatabase
from .test_killer import KILLER

DATA = {"X-Tenant-Tier": "pro"}


@contextmanager
def running_hypercorn(
    variables: Mapping[str, str], *, data_dir: Path, database: str, options: Sequence[str] = ()
) -> Iterator[Server]:
    """Hypercorn with our application; stopped on the way out."""
    port = free_port()
    descriptor, name = tempfile.mkstemp(prefix="hypercorn-", suffix=".log", dir=data_dir.parent)
    settings = {"DATA_DIR": str(data_dir), "DATABASE_URL": database, **variables}
    with os.fdopen(descriptor, "wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "hypercorn", "-k", "trio", "-b", f"127.0.0.1:{port}"),
                *(*options, "bulkhead_trio.app:create_app()"),
            ],
            env=command_environment(settings),
            cwd=data_dir.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = Server(process, ("127.0.0.1", port), data_dir, Path(name), database)
    try:
        yield server
    except BaseException as error:
        error.add_note(server.tail())
        raise
    finally:
        _stop(server)


def wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _answers_ready(server.address):
        assert server.process.poll() is None, server.tail()
        assert time.monotonic() < deadline, server.tail()
        time.sleep(0.05)


async def test_api_is_served(create_database: CreateDatabase, data_dir: Path) -> None:
    """Everything answers as under our own server, and SIGTERM ends it in order."""
    with running_hypercorn({}, data_dir=data_dir, database=create_database()) as server:
        wait_until_ready(server)
        found = await ask(server.address, "/api/data", headers=DATA)
        assert found.status == 200
        assert found.header("x-request-id")
        assert_problem(await ask(server.address, "/nothing"), 401, "api_key_missing")
        async with open_wire(server.address) as wire:
            await wire.send(WSClient(None).hello("/socket"))
            assert (await read_all(wire._stream)).startswith(b"HTTP/1.1 404 ")
        server.signal(signal.SIGTERM)
        assert await server.exit_code() == 0
        assert "Traceback" not in server.output


async def test_what_runs_is_finished(create_database: CreateDatabase, data_dir: Path) -> None:
    """Hypercorn gives requests time; what they stand on is given back only afterwards."""
    database = create_database()
    with running_hypercorn({}, data_dir=data_dir, database=database) as server:
        wait_until_ready(server)
        async with open_wire(server.address) as wire:
            with locked_table(database):
                await wire.send(
                    b"GET /api/data HTTP/1.1\r\nHost: localhost\r\nX-Tenant-Tier: pro\r\n\r\n"
                )
                await wait_for_queries(database, 1)
                server.signal(signal.SIGTERM)
            assert (await wire.answer()).status == 200
        assert await server.exit_code() == 0


async def send_killer(address: Address) -> None:
    """A chunk's size that is none to a path that is 404; whatever comes back, or a reset."""
    async with open_wire(address) as wire:
        with suppress(trio.BrokenResourceError):
            await wire.send(KILLER)
            with trio.fail_after(5):
                await read_all(wire._stream)


async def test_malformed_chunks_do_not_end_it(
    create_database: CreateDatabase, data_dir: Path
) -> None:
    """What ends Hypercorn's Trio server within ten requests leaves it as it was, 1,000 times."""
    with running_hypercorn({}, data_dir=data_dir, database=create_database()) as server:
        wait_until_ready(server)
        for _ in range(50):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(send_killer, server.address)
        assert server.process.poll() is None, server.tail()
        assert (await ask(server.address, "/health")).status == 200
        assert "Traceback" not in server.output
        assert "connection_failed" not in server.output


async def test_several_workers(create_database: CreateDatabase, data_dir: Path) -> None:
    """Each of Hypercorn's processes has the application to itself."""
    with running_hypercorn(
        {}, data_dir=data_dir, database=create_database(), options=["-w", "2"]
    ) as server:
        wait_until_ready(server)
        for _ in range(20):
            assert (await ask(server.address, "/health")).status == 200
        server.signal(signal.SIGTERM)
        assert await server.exit_code() == 0


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"API_PORT": "many"}, "API_PORT: must be a whole number"),
        ({"DATABASE_URL": "postgresql://127.0.0.1:1/none"}, "lifespan_failed"),
    ],
)
async def test_failing_to_start_ends_it(
    create_database: CreateDatabase, data_dir: Path, variables: dict[str, str], said: str
) -> None:
    """A wrong configuration, or a database that is not there, is said, and nothing is served."""
    with running_hypercorn(variables, data_dir=data_dir, database=create_database()) as server:
        await server.exit_code(timeout=START_SECONDS)
        assert said in server.output
