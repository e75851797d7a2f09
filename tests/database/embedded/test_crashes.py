"""kill -9 of anything at any moment: the next start comes up, with what was committed."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import psycopg
import pytest
import trio

from bulkhead_trio.database.embedded import open_embedded_server
from bulkhead_trio.database.embedded._account import choose_account
from bulkhead_trio.database.embedded._cluster import find_installation
from bulkhead_trio.database.embedded._processes import PidFile, ServerProcess

from ._look import KEEP, KEPT, SOON_SECONDS, ask, is_running, tell, wait_until
from ._user import using

START_SECONDS = 20.0


async def assert_comes_up(directory: Path) -> None:
    """The server starts, answers, and stops again."""
    async with open_embedded_server(
        directory, max_connections=20, start_seconds=START_SECONDS
    ) as server:
        assert ask(server.conninfo, "SELECT 1") == 1
    assert not is_running(directory)


def has_any(directory: Path, pattern: str) -> bool:
    return any(directory.glob(pattern))


@contextmanager
def stranger(*command: str) -> Iterator[int]:
    """A process that has nothing to do with PostgreSQL, and must be left alone."""
    process = subprocess.Popen(command or ("sleep", "60"))
    try:
        yield process.pid
        assert process.poll() is None, "a stranger was killed"
    finally:
        process.kill()
        process.wait()


def kill_postmaster(directory: Path) -> int:
    """kill -9 of the postmaster; says its number, once it has ended."""
    found = ServerProcess.find_postmaster(directory)
    assert found is not None
    with found, os.fdopen(os.pidfd_open(found.pid)) as ended:
        found.send(signal.SIGKILL)
        readable, _, _ = select.select([ended], [], [], SOON_SECONDS)
        assert readable, "it has not ended"
    return found.pid


@pytest.mark.parametrize("with_user", [False, True], ids=["postmaster", "both"])
async def test_start_after_kill(directory: Path, with_user: bool) -> None:
    """After kill -9 of the postmaster, or of it and its user, committed rows are there."""
    with using(directory) as user:
        conninfo = str(user.report()["conninfo"])
        tell(conninfo, KEEP)
        kill_postmaster(directory)
        if with_user:
            user.kill()
        else:
            user.leave()
    async with open_embedded_server(directory, max_connections=20) as server:
        assert ask(server.conninfo, KEPT) == 42
    assert not is_running(directory)


async def test_start_beside_a_stranger_with_the_old_number(directory: Path) -> None:
    """A pid file and a socket lock that name a living process of somebody else."""
    with stranger() as pid:
        text = f"{pid}\n{directory}\n1700000000\n5432\n{directory}\n\n  1 1\nready\n"
        (directory / "postmaster.pid").write_text(text)
        (directory / ".s.PGSQL.5432.lock").write_text(text)
        await assert_comes_up(directory)


async def test_start_beside_a_stranger_named_postgres(directory: Path, data_dir: Path) -> None:
    """Not even a process of that name is believed if it works elsewhere."""
    program = data_dir / "bin" / "postgres"
    program.parent.mkdir()
    shutil.copy("/bin/sleep", program)
    with stranger(str(program), "60") as pid:
        (directory / "postmaster.pid").write_text(f"{pid}\n{directory}\n")
        await assert_comes_up(directory)


async def test_start_after_a_pid_file_of_any_content(directory: Path) -> None:
    """An empty, torn or nonsensical pid file, and one that names init or ourselves."""
    for text in ("", "\n", "word", "-5\n", "0\n", "9" * 20, "1\n", f"{os.getpid()}\n", "\udcff"):
        (directory / "postmaster.pid").write_text(text, errors="surrogateescape")
        await assert_comes_up(directory)


async def test_start_after_a_socket_was_left(directory: Path) -> None:
    """A socket file that nobody listens on."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(directory / ".s.PGSQL.5432"))
    await assert_comes_up(directory)


async def test_start_while_the_old_postmaster_is_a_zombie(directory: Path, data_dir: Path) -> None:
    """A killed postmaster whose parent does not reap it is dead all the same."""
    data_dir.chmod(0o711)
    account = await choose_account(directory)
    program = find_installation() / "bin" / "postgres"
    postmaster = subprocess.Popen(
        [program, "-D", directory, "-k", directory, "-c", "listen_addresses="],
        cwd="/",
        stderr=subprocess.DEVNULL,
        **({} if account is None else account.process_options()),
    )
    try:
        await wait_until(lambda: (found := PidFile.read(directory)) and found.is_ready)
        postmaster.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, postmaster.pid, os.WEXITED | os.WNOWAIT)
        assert "State:\tZ" in Path(f"/proc/{postmaster.pid}/status").read_text()
        await assert_comes_up(directory)
    finally:
        postmaster.kill()
        postmaster.wait()


async def test_start_while_a_backend_outlives_its_postmaster(directory: Path) -> None:
    """A backend that is too busy to notice is ended; it would be in the way of the next one."""
    with using(directory) as user:
        conninfo = str(user.report()["conninfo"])
        with closing(psycopg.connect(conninfo, autocommit=True)) as connection:
            busy = b"DO $$ BEGIN LOOP END LOOP; END $$"
            connection.pgconn.send_query(busy)
            active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO%'"
            await wait_until(lambda: ask(conninfo, active))
            kill_postmaster(directory)
            user.kill()
            assert is_running(directory)
            await assert_comes_up(directory)


async def test_start_after_half_an_initdb(data_dir: Path) -> None:
    """What an interrupted initdb left is swept away, whenever it was interrupted."""
    directory = data_dir / "postgres"
    for progress in ("PG_VERSION", "global/pg_control", "base/4/PG_VERSION"):
        with using(directory) as user:
            pattern = f".postgres.initdb-*/{progress}"
            await wait_until(partial(has_any, data_dir, pattern))
            user.kill()
        assert not directory.exists()
    await assert_comes_up(directory)
    assert not list(data_dir.glob(".*")), "something is left of an initdb"


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.02, 0.04, 0.08])
async def test_start_cancelled_leaves_nothing(directory: Path, seconds: float) -> None:
    """Whenever a start is cancelled, no process of PostgreSQL and no lock stays behind."""
    with trio.move_on_after(seconds):
        async with open_embedded_server(directory, max_connections=20):
            await trio.sleep_forever()
    assert not is_running(directory)
    await assert_comes_up(directory)


async def test_first_start_cancelled_leaves_nothing(data_dir: Path) -> None:
    """Cancelled in the middle of initdb: its processes and its files go too."""
    directory = data_dir / "postgres"
    async with trio.open_nursery() as nursery:

        async def start() -> None:
            async with open_embedded_server(directory, max_connections=20):
                raise AssertionError("too late to cancel")

        nursery.start_soon(start)
        await wait_until(partial(has_any, data_dir, ".postgres.initdb-*/base"))
        nursery.cancel_scope.cancel()
    await assert_comes_up(directory)
    assert not list(data_dir.glob(".*")), "something is left of an initdb"
