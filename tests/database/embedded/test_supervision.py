"""A server that dies under its users comes back, in the same place."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

import pytest
import trio
import trio.testing

from bulkhead_trio.database.embedded import EmbeddedServer, open_embedded_server
from bulkhead_trio.database.embedded._processes import ServerProcess

from ._look import KEEP, KEPT, ask, is_running, tell, wait_until
from ._user import using


def end(server: EmbeddedServer, number: signal.Signals) -> None:
    with ServerProcess(server.pid) as postmaster:
        postmaster.send(number)


async def wait_for_another(server: EmbeddedServer, pid: int) -> None:
    await wait_until(lambda: server.pid != pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT, signal.SIGTERM])
async def test_supervise_restarts_what_died(
    directory: Path, number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    """However it ended: it runs again soon, at the same address, and somebody is told."""
    async with (
        open_embedded_server(directory, max_connections=20) as server,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(server.supervise)
        tell(server.conninfo, KEEP)
        before, conninfo = server.pid, server.conninfo
        await trio.testing.wait_all_tasks_blocked()
        end(server, number)
        await wait_for_another(server, before)
        after = server.pid
        assert server.conninfo == conninfo
        assert ask(conninfo, KEPT) == 42
        nursery.cancel_scope.cancel()
    assert not is_running(directory)
    told = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert told == [
        f"PostgreSQL (process {before}) has ended; restarting it",
        f"PostgreSQL runs again (process {after})",
    ]


async def test_supervise_restarts_again_and_again(directory: Path) -> None:
    """A server that was restarted is watched as the first one was."""
    async with (
        open_embedded_server(directory, max_connections=20) as server,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(server.supervise)
        for _ in range(3):
            before = server.pid
            end(server, signal.SIGKILL)
            await wait_for_another(server, before)
        assert ask(server.conninfo, "SELECT 1") == 1
        nursery.cancel_scope.cancel()


async def test_supervise_by_two_processes_restarts_once(directory: Path) -> None:
    """Both notice; one restarts, the other uses what it finds; both leave in good order."""
    with using(directory, supervise=True) as other:
        other.report()
        async with (
            open_embedded_server(directory, max_connections=20) as server,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(server.supervise)
            before = server.pid
            starts = (directory / "server.log").read_text().count("starting PostgreSQL")
            await trio.testing.wait_all_tasks_blocked()
            end(server, signal.SIGKILL)
            await wait_for_another(server, before)
            assert (directory / "server.log").read_text().count("starting PostgreSQL") == starts + 1
            nursery.cancel_scope.cancel()
        assert ask(server.conninfo, "SELECT 1") == 1
        other.leave()
    assert not is_running(directory)


async def test_supervise_never_makes_a_new_cluster(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While its files are gone it says so and tries on; an empty database would be a lie."""
    aside = directory.with_name("aside")
    async with (
        open_embedded_server(directory, max_connections=20) as server,
        trio.open_nursery() as nursery,
    ):
        tell(server.conninfo, KEEP)
        before = server.pid
        directory.rename(aside)
        nursery.start_soon(server.supervise)
        end(server, signal.SIGKILL)
        await wait_until(lambda: "cannot be restarted" in caplog.text)
        assert not directory.exists()
        aside.rename(directory)
        await wait_for_another(server, before)
        assert ask(server.conninfo, KEPT) == 42
        nursery.cancel_scope.cancel()


async def test_supervise_cancelled_while_restarting(directory: Path) -> None:
    """Cancelled in the middle of a restart: nothing runs on, and the next start is a good one."""
    for seconds in (0.1, 0.12, 0.15, 0.2):
        async with open_embedded_server(directory, max_connections=20) as server:
            with trio.move_on_after(seconds):
                end(server, signal.SIGKILL)
                await server.supervise()
        assert not is_running(directory)
