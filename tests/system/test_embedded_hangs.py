"""A PostgreSQL that hangs: what waits for it does so for bounded, but real seconds."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from bulkhead_trio.database.embedded import EmbeddedServerError, open_embedded_server
from bulkhead_trio.database.embedded._processes import ServerProcess

from ..database.embedded._user import using
from ._database import connected

RESCUE_SECONDS = 20.0


async def test_hanging_server_that_nobody_uses_is_replaced(
    make_data_dir: Callable[[], Path],
) -> None:
    """Left behind by a killed process and stopped in its tracks: a new one takes its place."""
    directory = make_data_dir() / "postgres"
    with using(directory) as user:
        report = user.report()
        user.kill()
    with ServerProcess(int(str(report["pid"]))) as hanging:
        hanging.send(signal.SIGSTOP)
        with trio.fail_after(RESCUE_SECONDS):
            async with open_embedded_server(directory, max_connections=20) as server:
                assert hanging.has_ended()
                with connected(server.conninfo) as connection:
                    connection.execute("SELECT 1")


async def test_hanging_server_that_others_use_is_left_alone(
    make_data_dir: Callable[[], Path],
) -> None:
    """A newcomer says what is wrong instead of taking the database from those who wait for it."""
    directory = make_data_dir() / "postgres"
    with using(directory) as user:
        report = user.report()
        with ServerProcess(int(str(report["pid"]))) as hanging:
            hanging.send(signal.SIGSTOP)
            with (
                trio.fail_after(RESCUE_SECONDS),
                pytest.raises(EmbeddedServerError, match="does not answer"),
            ):
                async with open_embedded_server(directory, max_connections=20):
                    raise AssertionError("it answered")
            hanging.send(signal.SIGCONT)
        user.leave()
