"""The embedded PostgreSQL of a data directory: first start, crashes, restarts, a second server."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from ._client import Answer, ask, ask_data
from ._database import (
    Postmaster,
    connected,
    find_postmaster,
    find_rows_database,
    is_alive,
    kill_quietly,
)
from ._problems import assert_problem
from ._server import (
    Server,
    end_postmaster,
    held_requests,
    light_load,
    running_server,
    wait_at_rest,
    wait_until,
    wait_until_answered,
)

RECOVERY_SECONDS = 20.0
VARIABLES = {
    "BULKHEAD_TIERS__FREE__RATE_LIMIT": "",
    "BULKHEAD_TIERS__PRO__RATE_LIMIT": "",
    "BULKHEAD_TIERS__PRO__COOLDOWN": "1",
    "SHUTDOWN_GRACE_SECONDS": "5",
}


@pytest.fixture(scope="module")
def shared_dir(make_data_dir: Callable[[], Path]) -> Path:
    """One data directory for this module: making a cluster takes seconds."""
    return make_data_dir()


@pytest.fixture(autouse=True)
def nothing_left(shared_dir: Path) -> Iterator[None]:
    """A test that fails leaves no PostgreSQL to the next one."""
    yield
    end_postmaster(shared_dir)


def postmaster_of(server: Server) -> Postmaster:
    found = find_postmaster(server.data_dir)
    assert found is not None, server.tail()
    assert found.is_alive, server.tail()
    return found


async def rows(server: Server, tier: str = "free") -> list[dict[str, object]]:
    answer = await ask_data(server.address, tier, "?limit=100")
    assert answer.status == 200, str(answer)
    found = answer.json()
    assert isinstance(found, list)
    return found


def write_marker(server: Server, message: str) -> None:
    """Commit a row, as a client of PostgreSQL."""
    with connected(find_rows_database(postmaster_of(server))) as connection:
        connection.execute(
            "INSERT INTO tenant_data (tier, payload)"
            " VALUES ('free', jsonb_build_object('message', %s::text))",
            (message,),
        )


def messages(found: list[dict[str, object]]) -> list[object]:
    return [row["payload"]["message"] for row in found]  # type: ignore[index]


async def stop_cleanly(server: Server) -> None:
    """SIGTERM, exit 0, and its PostgreSQL is gone without a trace."""
    pid = postmaster_of(server).pid
    server.signal(signal.SIGTERM)
    assert await server.exit_code() == 0, server.tail()
    assert not is_alive(pid), "the embedded PostgreSQL runs on"
    assert find_postmaster(server.data_dir) is None, "postmaster.pid was left behind"


async def test_first_start_sets_everything_up_and_says_so(shared_dir: Path) -> None:
    """Rows for every tier, secrets that only the owner reads, and three lines to try."""
    with running_server(VARIABLES, data_dir=shared_dir) as server:
        for tier in ("free", "pro", "enterprise"):
            assert await rows(server, tier)
        assert server.output.count("curl ") >= 3, server.tail()
        assert str(server.address[1]) in server.output
        for name in ("admin.key", "secret.key"):
            secret = shared_dir / name
            assert stat.S_IMODE(secret.stat().st_mode) == 0o600, name
            text = secret.read_text().strip()
            assert len(text) >= 32, name
            assert text not in server.output, f"{name} is on the terminal"
        assert "admin.key" in server.output, "nobody is told where the admin key is"
        await stop_cleanly(server)


async def test_second_start_keeps_rows_and_secrets(shared_dir: Path) -> None:
    """Nothing is seeded twice and no key is made anew."""
    with running_server(VARIABLES, data_dir=shared_dir) as server:
        before = await rows(server)
        keys = [(shared_dir / name).read_bytes() for name in ("admin.key", "secret.key")]
        await stop_cleanly(server)
    with running_server(VARIABLES, data_dir=shared_dir) as server:
        assert await rows(server) == before
        assert [(shared_dir / name).read_bytes() for name in ("admin.key", "secret.key")] == keys
        await stop_cleanly(server)


async def test_server_killed_comes_up_again(shared_dir: Path) -> None:
    """kill -9 of the server: the next start serves, with what was committed."""
    with running_server(VARIABLES, data_dir=shared_dir) as server:
        write_marker(server, "before the kill")
        async with held_requests(server, "pro", 20):
            os.kill(server.process.pid, signal.SIGKILL)
            await server.exit_code()
        with running_server(VARIABLES, data_dir=shared_dir) as again:
            assert "before the kill" in messages(await rows(again))
            await stop_cleanly(again)


@pytest.mark.parametrize("reused", [False, True], ids=["free", "reused"])
async def test_everything_killed_comes_up_again(shared_dir: Path, reused: bool) -> None:
    """kill -9 of server and PostgreSQL: no stale lock is in the way, not even when its process
    number belongs to somebody else by now."""
    with running_server(VARIABLES, data_dir=shared_dir) as server:
        write_marker(server, f"before the end {reused}")
        postmaster = postmaster_of(server)
        os.kill(server.process.pid, signal.SIGKILL)
        kill_quietly(postmaster.pid, signal.SIGKILL)
        await server.exit_code()
        await wait_until(lambda: not is_alive(postmaster.pid), "the end of PostgreSQL")
        stranger = subprocess.Popen(["sleep", "60"])
        try:
            if reused:
                pid_file = shared_dir / "postgres" / "postmaster.pid"
                pid_file.write_text(
                    pid_file.read_text().replace(str(postmaster.pid), str(stranger.pid), 1)
                )
            with running_server(VARIABLES, data_dir=shared_dir) as again:
                assert f"before the end {reused}" in messages(await rows(again))
                assert stranger.poll() is None, "a stranger was killed"
                await stop_cleanly(again)
        finally:
            stranger.kill()
            stranger.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT])
async def test_database_that_dies_is_brought_back(shared_dir: Path, number: signal.Signals) -> None:
    """PostgreSQL killed under load: 503 for a while, then 200 again, by the same process."""
    with running_server(VARIABLES, data_dir=shared_dir) as server:
        write_marker(server, f"before {number}")
        first = postmaster_of(server)
        async with light_load(server) as load:
            await wait_until(lambda: len(load.statuses) > 10, "some load")
            os.kill(first.pid, number)
            killed = trio.current_time()
            await wait_until(
                lambda: load.since(killed)[-30:] == [200] * 30,
                "thirty good answers in a row",
                timeout=RECOVERY_SECONDS,
            )
            assert set(load.since(killed)) <= {200, 503}, set(load.since(killed))
            assert (await ask(server.address, "/ready")).status == 200
        assert postmaster_of(server).pid != first.pid
        assert f"before {number}" in messages(await rows(server))
        await wait_at_rest(server)
        await stop_cleanly(server)


async def test_ready_tells_that_the_database_is_away(shared_dir: Path) -> None:
    """While PostgreSQL hangs: alive, not ready, and the refusals are the contract's."""
    variables = {**VARIABLES, "BULKHEAD_TIERS__FREE__TIMEOUT": "1"}
    with running_server(variables, data_dir=shared_dir) as server:
        first = postmaster_of(server)

        async def is_not_ready() -> bool:
            return (await ask(server.address, "/ready", timeout=10)).status != 200

        with stopped([first.pid, *children_of(first.pid)]):
            # An answer may be a moment old: orchestrators ask often, the database need not hear it.
            await wait_until_answered(is_not_ready, "not ready", timeout=15)
            answer = await ask(server.address, "/ready", timeout=10)
            assert answer.status == 503, str(answer)
            assert answer.json()["status"] == "not_ready"
            assert answer.json()["checks"]["database"] != "ok"
            assert (await ask(server.address, "/health", timeout=2)).status == 200
            data = await ask_data(server.address, timeout=5)
            assert_problem(data)
            assert data.status in {503, 504}
        await ready_again(server)
        await stop_cleanly(server)


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """While inside, these processes stand still."""
    for pid in pids:
        kill_quietly(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            kill_quietly(pid, signal.SIGCONT)


def children_of(pid: int) -> list[int]:
    """The processes that a process has started."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


async def ready_again(server: Server) -> Answer:
    """Until the server answers with rows again."""
    with trio.fail_after(RECOVERY_SECONDS):
        while True:
            answer = await ask_data(server.address, "pro")
            if answer.status == 200:
                return answer
            assert answer.status in {503, 504}, str(answer)
            await trio.sleep(0.1)


async def test_two_servers_share_a_directory_or_say_why_not(shared_dir: Path) -> None:
    """The second serves too and outlives the first, or ends with one clear line."""
    with (
        running_server(VARIABLES, data_dir=shared_dir) as first,
        running_server(VARIABLES, data_dir=shared_dir, until_ready=False) as second,
    ):

        async def has_decided() -> bool:
            return second.process.poll() is not None or await is_ready(second)

        await wait_until_answered(has_decided, "a decision", timeout=RECOVERY_SECONDS)
        if second.process.poll() is not None:
            assert second.process.returncode == 1, second.tail()
            assert shared_dir.name in second.output
            assert "Traceback" not in second.output
            await stop_cleanly(first)
            return
        assert await rows(first) == await rows(second)
        pid = postmaster_of(second).pid
        async with light_load(second) as load:
            first.signal(signal.SIGTERM)
            assert await first.exit_code() == 0
            ended = trio.current_time()
            await trio.sleep(1)
            assert is_alive(pid), "the first took the database away from the second"
            assert set(load.since(ended)) == {200}
        await stop_cleanly(second)


async def is_ready(server: Server) -> bool:
    try:
        return (await ask(server.address, "/ready", timeout=5)).status == 200
    except OSError:
        return False


async def test_stop_while_starting_leaves_nothing(data_dir: Path) -> None:
    """SIGTERM in the middle of the first start: it ends, and no PostgreSQL runs on."""
    with running_server(VARIABLES, data_dir=data_dir, until_ready=False) as server:
        await wait_until(
            lambda: (data_dir / "postgres" / "PG_VERSION").exists(), "initdb", timeout=20
        )
        server.signal(signal.SIGTERM)
        code = await server.exit_code()
        assert code in {0, 130, 143, -signal.SIGTERM}, server.tail()
        assert "Traceback" not in server.output, server.tail()
        found = find_postmaster(data_dir)
        assert found is None or not found.is_alive, "an embedded PostgreSQL runs on"
        assert not re.search(r"Error|Exception", server.output), server.tail()
