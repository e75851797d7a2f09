"""The parts that the embedded server is made of, each by itself."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from pathlib import Path

import pytest
import trio
import trio.testing

from bulkhead_trio.database.embedded._account import (
    Account,
    choose_account,
    open_installation,
    open_way,
)
from bulkhead_trio.database.embedded._errors import EmbeddedServerError
from bulkhead_trio.database.embedded._file_lock import FileLock
from bulkhead_trio.database.embedded._processes import PidFile, ServerProcess
from bulkhead_trio.database.embedded._server_log import LOG_BYTES, TAIL_BYTES, ServerLog
from bulkhead_trio.database.embedded._settings import choose_socket_directory, make_private

STRANGER = Account(uid=54321, gid=54321)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- locks ---------------------------------------------------------------------------------------


def test_lock_shared_by_many_is_exclusive_for_none(tmp_path: Path) -> None:
    """Shared holders admit each other; the last of them can have it alone."""
    path = tmp_path / "lock"
    with FileLock(path, owner=None) as first, FileLock(path, owner=None) as second:
        first.acquire_shared_nowait()
        second.acquire_shared_nowait()
        with pytest.raises(trio.WouldBlock):
            first.acquire_exclusive_nowait()
        second.acquire_exclusive_nowait()
        with pytest.raises(trio.WouldBlock):
            first.acquire_shared_nowait()
    assert mode(path) == 0o600


async def test_lock_waits_until_it_is_free(tmp_path: Path, autojump_clock: object) -> None:
    """A waiter gets the lock when its holder closes it, and blocks no other task meanwhile."""
    with FileLock(tmp_path / "lock", owner=None) as waiting, trio.fail_after(10):
        held = FileLock(tmp_path / "lock", owner=None)
        held.acquire_exclusive_nowait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiting.acquire_exclusive)
            await trio.sleep(3)
            held.close()
        assert 3 <= trio.current_time() < 4


def test_lock_is_held_by_whoever_inherited_it(tmp_path: Path) -> None:
    """Closed here, it is held until the process that inherited it has ended, however it ends."""
    with FileLock(tmp_path / "lock", owner=None) as other:
        held = FileLock(tmp_path / "lock", owner=None)
        held.acquire_exclusive_nowait()
        heir = subprocess.Popen(["sleep", "60"], pass_fds=(held.descriptor,))
        held.close()
        with pytest.raises(trio.WouldBlock):
            other.acquire_shared_nowait()
        heir.kill()
        heir.wait()
        other.acquire_exclusive_nowait()


# --- processes -----------------------------------------------------------------------------------


def test_pid_file_while_it_is_being_written(tmp_path: Path) -> None:
    """PostgreSQL writes the file in steps; each of them can be read."""
    assert PidFile.read(tmp_path) is None
    assert PidFile.read(tmp_path / "nowhere") is None
    file = tmp_path / "postmaster.pid"
    file.write_text("12\n")
    assert PidFile.read(tmp_path) == PidFile(12)
    file.write_text("12\n/a dir\n1700000000\n5432\n/a dir\n\n  99 1\nstarting\n")
    assert PidFile.read(tmp_path) == PidFile(12, 5432, "/a dir", is_ready=False)
    file.write_text("12\n/a dir\n1700000000\n5432\n/a dir\n\n  99 1\nready   \n")
    assert PidFile.read(tmp_path) == PidFile(12, 5432, "/a dir", is_ready=True)


async def test_process_that_has_ended_is_awaited_at_once() -> None:
    """Ended, zombie or reaped: waiting ends, and signals reach nobody."""
    child = subprocess.Popen(["sleep", "60"])
    with ServerProcess(child.pid) as process:
        assert not process.has_ended()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(process.wait_ended)
            nursery.start_soon(process.wait_ended)
            await trio.testing.wait_all_tasks_blocked()
            process.send(signal.SIGKILL)
        assert process.has_ended()
        child.wait()
        process.send(signal.SIGKILL)
        await process.wait_ended()


async def test_process_deaf_to_kind_signals_is_killed() -> None:
    """Each stage of stopping has its time, and the last one cannot be ignored."""
    deaf = ["sh", "-c", "trap '' INT; echo; while :; do sleep 1; done"]
    with subprocess.Popen(deaf, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with ServerProcess(child.pid) as process:
            await process.stop(((signal.SIGINT, 0.05), (signal.SIGKILL, 5.0)))
        assert child.wait() == -signal.SIGKILL


# --- account -------------------------------------------------------------------------------------


def test_way_is_opened_to_pass_not_to_look(tmp_path: Path) -> None:
    """Only what is closed is changed, and only by one bit; a second time nothing is."""
    closed = tmp_path / "closed"
    deepest = closed / "open" / "cluster"
    deepest.mkdir(parents=True)
    closed.chmod(0o700)
    deepest.chmod(0o700)
    changed = open_way(STRANGER, deepest)
    assert closed in changed
    assert closed / "open" not in changed
    assert mode(closed) == 0o701
    assert mode(deepest) == 0o700
    assert open_way(STRANGER, deepest) == []


def test_way_is_opened_to_the_group_that_owns_it(tmp_path: Path) -> None:
    """What counts for the account is what its class gets: o+x does not help a group member."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    open_way(Account(uid=54321, gid=closed.stat().st_gid), closed / "cluster")
    assert mode(closed) == 0o710


def test_installation_under_a_strict_umask_is_opened(tmp_path: Path) -> None:
    """Programs become runnable, data readable, and nothing writable."""
    program, data = tmp_path / "pg" / "bin" / "postgres", tmp_path / "pg" / "share" / "postgres.bki"
    for path, bits in ((program, 0o700), (data, 0o600)):
        path.parent.mkdir(parents=True, mode=0o700)
        path.write_text("")
        path.chmod(bits)
    open_installation(STRANGER, tmp_path / "pg", program)
    assert (mode(program), mode(data), mode(data.parent)) == (0o705, 0o604, 0o705)


async def test_account_of_an_existing_cluster_is_its_owner(tmp_path: Path) -> None:
    """Root runs a user's cluster as that user; a user runs everything as herself."""
    if os.geteuid() == 0:
        os.chown(tmp_path, 54321, 54321)
        assert await choose_account(tmp_path) == STRANGER
    else:
        assert await choose_account(tmp_path) is None


# --- log and socket ------------------------------------------------------------------------------


def test_log_tail_is_short_and_from_one_start(tmp_path: Path) -> None:
    """What was said before does not count, and a flood is cut."""
    log = ServerLog(tmp_path / "server.log")
    assert log.tail(0) == ""
    log.path.write_text("before\nafter\n")
    assert log.tail(len("before\n")) == "after"
    log.path.write_text("x" * 100_000)
    assert len(log.tail(0)) == TAIL_BYTES


def test_log_is_bounded_under_a_writer(tmp_path: Path) -> None:
    """A log that has grown too long is put aside, and its writer goes on in an empty one."""
    log = ServerLog(tmp_path / "server.log")
    writer = log.open_to_append(None)
    try:
        os.write(writer, b"x" * (LOG_BYTES + 1))
        log.bound()
        os.write(writer, b"new")
    finally:
        os.close(writer)
    assert log.path.read_text() == "new"
    assert (tmp_path / "server.log.1").stat().st_size == LOG_BYTES + 1


def test_socket_directory_is_the_same_for_everybody() -> None:
    """It depends on the cluster and its user alone, and leaves room for the socket's name."""
    short, long = Path("/data/postgres"), Path("/", "x" * 200, "postgres")
    assert choose_socket_directory(short, 1) == short
    assert choose_socket_directory(long, 1) == choose_socket_directory(long, 1)
    assert choose_socket_directory(long, 1) != choose_socket_directory(long, 2)
    assert len(str(choose_socket_directory(long, 2**31))) < 80
    assert choose_socket_directory(Path("/a,b"), 1) != Path("/a,b")


def test_socket_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Whoever can write where the socket is could stand in for PostgreSQL."""
    make_private(tmp_path / "ours", None)
    make_private(tmp_path / "ours", None)
    assert mode(tmp_path / "ours") == 0o700
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(EmbeddedServerError, match="Remove it"):
        make_private(tmp_path / "open", None)
    (tmp_path / "link").symlink_to(tmp_path / "ours")
    with pytest.raises(EmbeddedServerError, match="Remove it"):
        make_private(tmp_path / "link", None)
