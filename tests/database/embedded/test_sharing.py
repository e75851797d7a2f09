"""Who starts the server, who shares it, and who stops it."""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack
from pathlib import Path

import pytest

from bulkhead_trio.database.embedded import open_embedded_server

from ._look import KEEP, KEPT, ask, is_running, tell
from ._user import can_run_as, using

NOBODY = 65534


async def test_server_is_made_started_and_stopped(data_dir: Path) -> None:
    """From nothing to a safe, local server, and nothing of it runs on afterwards."""
    directory = data_dir / "deeper" / "postgres"
    async with open_embedded_server(directory, max_connections=37) as server:
        assert not server.is_shared
        assert server.max_connections == 37
        assert ask(server.conninfo, "SHOW max_connections") == "37"
        assert ask(server.conninfo, "SHOW listen_addresses") == ""
        assert ask(server.conninfo, "SHOW fsync") == "on"
        assert ask(server.conninfo, "SHOW server_encoding") == "UTF8"
        assert ask(server.conninfo, "SHOW TimeZone") == "UTC"
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert "ready to accept connections" in (directory / "server.log").read_text()
    assert not is_running(directory)
    assert not (directory / "postmaster.pid").exists()


async def test_server_keeps_what_was_committed(directory: Path) -> None:
    """A second start finds the rows of the first."""
    async with open_embedded_server(directory, max_connections=20) as server:
        tell(server.conninfo, KEEP)
    async with open_embedded_server(directory, max_connections=20) as server:
        assert ask(server.conninfo, KEPT) == 42


async def test_server_used_twice_in_one_process(directory: Path) -> None:
    """The second user joins; the first may go first; the last one stops the server."""
    async with open_embedded_server(directory, max_connections=20) as first:
        async with open_embedded_server(directory, max_connections=20) as second:
            assert second.is_shared
            assert second.pid == first.pid
        assert ask(first.conninfo, "SELECT 1") == 1
    assert not is_running(directory)


def test_server_outlives_the_process_that_started_it(directory: Path) -> None:
    """Two processes share; the one that started it leaves; the other one's leaving stops it."""
    with using(directory) as first, using(directory) as second:
        one, two = first.report(), second.report()
        assert {one["is_shared"], two["is_shared"]} == {False, True}
        assert one["pid"] == two["pid"]
        starter, guest = (second, first) if one["is_shared"] else (first, second)
        starter.leave()
        assert ask(str(one["conninfo"]), "SELECT 1") == 1
        guest.leave()
    assert not is_running(directory)


def test_server_wanted_by_many_at_once_is_one(data_dir: Path) -> None:
    """Four processes at once on an empty directory: one makes and starts, all use it."""
    directory = data_dir / "postgres"
    with ExitStack() as stack:
        users = [stack.enter_context(using(directory)) for _ in range(4)]
        reports = [user.report() for user in users]
        assert len({report["pid"] for report in reports}) == 1
        assert [report["is_shared"] for report in reports].count(False) == 1
        for user in users:
            user.leave()
    assert not is_running(directory)
    assert sorted(path.name for path in data_dir.iterdir()) == [
        "postgres", "postgres.alive.lock", "postgres.lock", "postgres.start.lock",
    ]  # fmt: skip


async def test_server_left_by_a_killed_process_is_taken_over(directory: Path) -> None:
    """kill -9 leaves the server running and no lock held: the next user has it to itself."""
    with using(directory) as user:
        left = user.report()
        user.kill()
    async with open_embedded_server(directory, max_connections=20) as server:
        assert server.pid == left["pid"]
        assert not server.is_shared
    assert not is_running(directory)


async def test_server_shared_keeps_its_connections(directory: Path) -> None:
    """Who joins gets what there is, and is told how much that is."""
    async with (
        open_embedded_server(directory, max_connections=20),
        open_embedded_server(directory, max_connections=50) as second,
    ):
        assert second.max_connections == 20


async def test_server_left_with_too_few_connections_is_started_anew(directory: Path) -> None:
    """A server that nobody uses is not kept if it allows too little."""
    with using(directory, max_connections=20) as user:
        left = user.report()
        user.kill()
    async with open_embedded_server(directory, max_connections=50) as server:
        assert server.pid != left["pid"]
        assert ask(server.conninfo, "SHOW max_connections") == "50"


@pytest.mark.parametrize(
    "name",
    ["with space", 'it\'s, "q" $HOME `x` \\ ;&', "x" * 120, "ünïcode", "-D"],
    ids=["space", "shell", "long", "letters", "option"],
)
async def test_server_lives_in_any_path(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A relative path, and whatever characters and length it has."""
    monkeypatch.chdir(data_dir)
    directory = Path(name)
    async with open_embedded_server(directory, max_connections=20) as server:
        assert ask(server.conninfo, "SHOW data_directory") == str(data_dir / name)
        assert ask(server.conninfo, "SHOW max_connections") == "20"
    assert not is_running(data_dir / name)


def test_server_needs_nothing_of_the_environment(directory: Path) -> None:
    """No HOME, a TMPDIR that does not exist, and variables that would mislead PostgreSQL."""
    environ = {"PATH": os.environ["PATH"], "PGDATA": "/nowhere", "PGPORT": "1", "TMPDIR": "/none"}
    with using(directory, environ=environ) as user:
        assert ask(str(user.report()["conninfo"]), "SELECT 1") == 1
        user.leave()
    assert not is_running(directory)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run PostgreSQL as somebody else")
async def test_server_of_root_opens_the_way_and_nothing_else(data_dir: Path) -> None:
    """Closed directories above become passable, not readable; the data stays closed."""
    closed = data_dir / "closed"
    closed.mkdir(mode=0o700)
    async with open_embedded_server(closed / "postgres", max_connections=20):
        assert stat.S_IMODE(closed.stat().st_mode) == 0o701
        status = (closed / "postgres").stat()
        assert stat.S_IMODE(status.st_mode) == 0o700
        assert status.st_uid != 0


def test_server_of_an_ordinary_user(data_dir: Path) -> None:
    """Somebody who is not root needs nothing but a directory; whoever runs the tests is either."""
    if not can_run_as(NOBODY):
        pytest.skip("only root can become somebody else, who must be able to read Python")
    os.chown(data_dir, NOBODY, NOBODY)
    directory = data_dir / "postgres"
    with using(directory, uid=NOBODY) as user:
        assert ask(str(user.report()["conninfo"]), "SELECT 1") == 1
        assert directory.stat().st_uid == NOBODY
        user.leave()
    with using(directory) as root:
        assert ask(str(root.report()["conninfo"]), "SELECT 1") == 1
        root.leave()
    with using(directory, uid=NOBODY) as user:
        assert ask(str(user.report()["conninfo"]), "SELECT 1") == 1
        user.leave()
