"""Several processes on one port: one server to its clients, whatever becomes of one of them."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from ._client import Answer, NoAnswerError, Wire, ask, ask_data, open_wire, request_bytes
from ._database import find_postmaster, is_alive, locked_table
from ._server import (
    Server,
    bulkheads,
    free_port,
    held_requests,
    run_command,
    running_server,
    wait_for_queries,
    wait_until,
    wait_until_answered,
)
from .conftest import CreateDatabase

BASE = {
    "WORKERS": "2",
    "LOG_FORMAT": "json",
    "BULKHEAD_TIERS__FREE__RATE_LIMIT": "",
    "BULKHEAD_TIERS__FREE__TIMEOUT": "20",
}
FRONTS = ["engine", "hypercorn"]


@pytest.fixture
def database(create_database: CreateDatabase) -> str:
    return create_database()


@contextmanager
def running(
    data_dir: Path,
    database: str | None,
    variables: Mapping[str, str] | None = None,
    *,
    port: int | None = None,
) -> Iterator[Server]:
    with running_server(
        {**BASE, **(variables or {})}, data_dir=data_dir, database=database, port=port
    ) as server:
        # One of the workers answers before all of them do.
        while "Serving on" not in server.output:
            assert server.process.poll() is None, server.tail()
            time.sleep(0.02)
        yield server


def events(server: Server, name: str) -> list[dict[str, Any]]:
    """The log lines of one kind."""
    lines = [line for line in server.output.splitlines() if line.startswith("{")]
    return [event for line in lines if (event := json.loads(line))["event"] == name]


def worker_pids(server: Server) -> dict[int, int]:
    """The process of each worker, as the main process has said last."""
    return {event["worker"]: event["pid"] for event in events(server, "worker_ready")}


def children_of(pid: int) -> list[int]:
    """Its child processes, whichever of its threads has started them."""
    lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(number) for text in lists for number in text.split()]


def workers_of(pid: int) -> list[int]:
    """Those of them that are workers by now; imports start short-lived others."""
    found = []
    for child in children_of(pid):
        with suppress(OSError):
            if b"bulkhead_trio.workers" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


async def ask_often(server: Server, count: int, tier: str = "free") -> list[int]:
    """Statuses of so many requests, each on a connection of its own."""
    statuses: list[int] = []

    async def one() -> None:
        statuses.append((await ask_data(server.address, tier)).status)

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(one)
    return statuses


async def served(server: Server, tier: str = "free", outcome: str = "ok") -> int:
    return int((await bulkheads(server))[tier]["outcomes"].get(outcome, 0))


@pytest.mark.parametrize("front", FRONTS)
async def test_two_workers_serve_one_port_and_count_together(
    database: str, data_dir: Path, front: str
) -> None:
    """Both get requests; whichever is asked says what both have counted and hold."""
    roomy = {"BULKHEAD_TIERS__FREE__QUEUE": "400", "HTTP": front}
    with running(data_dir, database, roomy) as server:
        assert server.output.count("Serving on") == 1
        assert set(worker_pids(server)) == {0, 1}
        for _ in range(5):
            assert set(await ask_often(server, 40)) == {200}
        await wait_until(
            lambda: len([e for e in events(server, "request") if e["path"] == "/api/data"]) == 200,
            "200 lines",
        )
        by_worker = {
            number: [
                event
                for event in events(server, "request")
                if event["worker"] == number and event["path"] == "/api/data"
            ]
            for number in (0, 1)
        }
        assert all(len(requests) > 20 for requests in by_worker.values())
        assert sum(map(len, by_worker.values())) == 200
        for _ in range(8):
            members = await bulkheads(server)
            assert members["free"]["outcomes"] == {"ok": 200}
            assert members["free"]["latencyMs"]["p99"] > 0
            text = (await ask(server.address, "/metrics")).body.decode()
            assert 'bulkhead_requests_total{outcome="ok",tier="free"} 200.0' in text
            name = "bulkhead_request_duration_seconds"
            assert f'{name}_count{{outcome="ok",tier="free"}} 200.0' in text
            assert "bulkhead_processes_answered 2.0" in text
        assert (members["free"]["workers"], members["free"]["missing"]) == (2, [])
        assert members["free"]["connectionPool"]["max"] == 5
        assert [part["connections"] for part in members["free"]["share"]] == [3, 2]
        assert sum(part["queue"] for part in members["free"]["share"]) == 400
        assert members["enterprise"]["threadPool"]["poolSize"] == 60


async def test_rate_limit_over_all_workers_is_the_limit(database: str, data_dir: Path) -> None:
    """However the requests are spread, exactly so many pass: each worker has its part."""
    limits = {"BULKHEAD_TIERS__FREE__RATE_LIMIT": "41", "BULKHEAD_TIERS__FREE__QUEUE": "400"}
    with running(data_dir, database, limits) as server:
        statuses = [status for _ in range(6) for status in await ask_often(server, 50)]
        assert statuses.count(200) == 41
        assert statuses.count(429) == len(statuses) - 41
        free = (await bulkheads(server))["free"]
        assert free["rateLimit"] == {"limit": 41, "remaining": 0, "windowSeconds": 60}
        assert sorted(part["rateLimit"] for part in free["share"]) == [20, 21]
        assert free["rejected"]["rate_limited"] == statuses.count(429)


async def test_orders_are_counted_over_all_workers(database: str, data_dir: Path) -> None:
    """Accepted by any of them, each is completed once, and `/api/metrics` is of all desks."""
    with running(data_dir, database) as server:

        async def send(number: int) -> None:
            answer = await ask(
                server.address,
                "/api/orders",
                method="POST",
                headers={"X-User-Id": f"user-{number}"},
                body=json.dumps({"orderId": f"order-{number}", "amount": 1}).encode(),
            )
            assert answer.status == 202, str(answer)

        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(send, number)

        async def is_done() -> bool:
            answers = [await ask(server.address, f"/api/orders/order-{n}") for n in range(30)]
            return all(answer.json()["status"] == "completed" for answer in answers)

        await wait_until_answered(is_done, "all orders completed", timeout=10)
        desk = (await ask(server.address, "/api/metrics")).json()
        assert (desk["activeConcurrency"], desk["queueFull"]) == (0, False)


async def test_worker_that_is_killed_is_replaced_and_nobody_is_turned_away(
    database: str, data_dir: Path
) -> None:
    """Connections that had not been accepted wait for the next one; counters go on."""
    with running(data_dir, database, {"BULKHEAD_TIERS__FREE__QUEUE": "400"}) as server:
        assert set(await ask_often(server, 40)) == {200}
        await trio.sleep(1.5)  # what it has counted is known a second later
        before = worker_pids(server)
        os.kill(before[1], signal.SIGKILL)
        began = trio.current_time()
        statuses = await ask_often(server, 40)
        assert set(statuses) == {200}
        assert trio.current_time() - began < 10
        after = worker_pids(server)
        assert after[0] == before[0]
        assert after[1] != before[1]
        (ended,) = events(server, "worker_ended")
        assert (ended["worker"], ended["exit_code"]) == (1, -signal.SIGKILL)
        assert await served(server) == 80
        assert server.process.poll() is None


async def test_worker_that_hangs_is_left_out_and_its_absence_shown(
    database: str, data_dir: Path
) -> None:
    """Whoever asks the other one has an answer in half a second, which says what is missing."""
    with running(data_dir, database) as server:
        pids = worker_pids(server)
        os.kill(pids[1], signal.SIGSTOP)
        try:
            members = await bulkheads_of_the_living(server)
            assert members["free"]["missing"] == [1]
            assert [part["worker"] for part in members["free"]["share"]] == [0]
        finally:
            os.kill(pids[1], signal.SIGCONT)
        await wait_until_answered(lambda: is_whole(server), "all workers answer")


async def test_worker_that_hangs_for_long_is_replaced(database: str, data_dir: Path) -> None:
    """It is killed some ten seconds after its last word; the other one serves on."""
    with running(data_dir, database) as server:
        before = worker_pids(server)
        os.kill(before[1], signal.SIGSTOP)
        await wait_until(lambda: events(server, "worker_silent") != [], "silence", timeout=20)
        await wait_until(lambda: worker_pids(server)[1] != before[1], "another", timeout=20)
        await wait_until_answered(lambda: is_whole(server), "all workers answer")
        (silent,) = events(server, "worker_silent")
        assert (silent["worker"], silent["pid"]) == (1, before[1])
        (ended,) = events(server, "worker_ended")
        assert ended["exit_code"] == -signal.SIGKILL
        assert worker_pids(server)[0] == before[0]


async def bulkheads_of_the_living(server: Server) -> dict[str, Any]:
    """Connections that the stopped worker's queue got have no answer: others are tried."""
    for _ in range(30):
        with trio.move_on_after(1.5):
            return dict((await ask(server.address, "/metrics/bulkheads")).json())
    raise AssertionError("no worker answers")


async def is_whole(server: Server) -> bool:
    return (await bulkheads(server))["free"]["missing"] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_drain_finishes_what_runs_in_every_worker(
    database: str, data_dir: Path, number: signal.Signals
) -> None:
    """What each worker holds gets its 200, exit 0, and no process is left."""
    with running(data_dir, database) as server, ExitStack() as lock:
        pids = [*worker_pids(server).values()]
        lock.enter_context(locked_table(database))
        async with held_requests(server, "enterprise", 12) as wires:
            await wait_for_queries(database, 12)
            server.signal(number)
            await wait_until(lambda: server.output.count('"draining"') == 3, "draining")
            await trio.sleep(0.3)
            lock.close()
            for wire in wires:
                answer = await wire.answer()
                assert answer.status == 200, str(answer)
                assert answer.header("Connection") == "close"
        assert await server.exit_code() == 0
        assert "everything is given back" in server.output
        assert not any(map(is_alive, pids))
        assert events(server, "worker_ended") == []
        with pytest.raises(OSError, match=r"refused|all attempts"):
            await ask(server.address, "/health")


async def test_second_sigint_ends_all_workers(database: str, data_dir: Path) -> None:
    """Whoever is in a hurry waits for no worker."""
    with running(data_dir, database) as server, locked_table(database):
        async with held_requests(server, "enterprise", 4):
            await wait_for_queries(database, 4)
            server.signal(signal.SIGINT)
            await wait_until(lambda: server.output.count('"draining"') == 3, "draining")
            server.signal(signal.SIGINT)
            assert await server.exit_code() == 0


async def test_main_process_that_is_killed_takes_everything_with_it(data_dir: Path) -> None:
    """kill -9: the workers drain, and the last of them stops the embedded PostgreSQL."""
    temporary = data_dir.parent / "tmp"
    temporary.mkdir()
    with running(data_dir, None, {"TMPDIR": str(temporary)}) as server:
        postmaster = find_postmaster(data_dir)
        assert postmaster is not None
        pids = [*worker_pids(server).values()]
        assert len(pids) == 2
        assert set(pids) == set(workers_of(server.process.pid))
        assert (await ask_data(server.address)).status == 200
        async with open_wire(server.address) as wire:
            assert (await wire.ask("/health")).status == 200
            server.signal(signal.SIGKILL)
            await server.exit_code()
            await wait_until(lambda: not any(map(is_alive, pids)), "no worker", timeout=15)
            assert await wire.is_closed_within(1)
        await wait_until(lambda: not postmaster.is_alive, "no PostgreSQL", timeout=15)
        assert list(temporary.glob("bulkhead-*")) == []


async def test_end_stops_the_embedded_database_and_removes_what_was_made(data_dir: Path) -> None:
    """SIGTERM, exit 0: no process, no PostgreSQL, no directory of sockets."""
    temporary = data_dir.parent / "tmp"
    temporary.mkdir()
    with running(data_dir, None, {"TMPDIR": str(temporary)}) as server:
        postmaster = find_postmaster(data_dir)
        assert postmaster is not None
        assert [path.name for path in temporary.glob("bulkhead-*/*.sock")] != []
        server.signal(signal.SIGTERM)
        assert await server.exit_code() == 0
        assert not postmaster.is_alive
        assert list(temporary.glob("bulkhead-*")) == []


async def test_stop_while_workers_start_leaves_nothing(database: str, data_dir: Path) -> None:
    """SIGTERM before anything is served: exit 0 and no process."""
    with running_server(BASE, data_dir=data_dir, database=database, until_ready=False) as server:
        await wait_until(lambda: workers_of(server.process.pid) != [], "a worker", timeout=20)
        pids = workers_of(server.process.pid)
        server.signal(signal.SIGTERM)
        assert await server.exit_code() == 0
        assert not any(map(is_alive, pids))
        assert "Serving on" not in server.output


def test_workers_that_never_serve_are_given_up(database: str, data_dir: Path) -> None:
    """Exit 1 with a line that says so, after what each of them has said."""
    (data_dir / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if sys.orig_argv[-1] == 'bulkhead_trio.workers':\n"
        "    print('this one cannot start', file=sys.stderr, flush=True)\n"
        "    os._exit(1)\n"
    )
    variables = {**BASE, "PYTHONPATH": str(data_dir), "DATABASE_URL": database, "API_PORT": "0"}
    done = run_command(["serve"], variables, timeout=60)
    assert done.returncode == 1, done.stdout
    assert "Error: no worker serves" in done.stdout
    assert "this one cannot start" in done.stdout


async def test_temporary_files_may_be_far_away(database: str, data_dir: Path) -> None:
    """A TMPDIR whose path is too long for a socket is no reason not to serve."""
    too_long = data_dir / ("x" * 100)
    too_long.mkdir()
    with running(data_dir, database, {"TMPDIR": str(too_long)}) as server:
        assert (await bulkheads(server))["free"]["missing"] == []
        assert list(too_long.iterdir()) == []
        server.signal(signal.SIGTERM)
        assert await server.exit_code() == 0


def test_limits_that_cannot_be_divided_are_refused() -> None:
    """Exit 2, and the line names the tier."""
    done = run_command(["serve"], {"WORKERS": "6"})
    assert done.returncode == 2, done.stdout
    assert re.search(r"BULKHEAD_TIERS__FREE__CONNECTIONS: .*WORKERS=6.*tier free", done.stdout)


def test_port_in_use_by_workers_is_in_use(database: str, data_dir: Path) -> None:
    """A second server does not slip in beside the first one's sockets."""
    with running(data_dir, database) as server:
        port = str(server.address[1])
        for workers in ("1", "2"):
            variables = {"WORKERS": workers, "DATABASE_URL": database, "API_PORT": port}
            done = run_command(["serve"], variables)
            assert done.returncode == 1, done.stdout
            assert f"port {port}" in done.stdout


async def test_admin_listener_is_shared_too(database: str, data_dir: Path) -> None:
    """Metrics of all are on the admin listener of all."""
    port = free_port()
    with running(data_dir, database, {"ADMIN_BIND": f"127.0.0.1:{port}"}) as server:
        assert set(await ask_often(server, 10)) == {200}
        for _ in range(6):
            answer = await ask(("127.0.0.1", port), "/metrics/bulkheads")
            assert answer.json()["free"]["outcomes"] == {"ok": 10}


async def ask_by_path(path: Path, target: str) -> Answer:
    async with await trio.open_unix_socket(str(path)) as stream:
        wire = Wire(stream)
        await wire.send(request_bytes(target, headers={"X-Tenant-Tier": "free"}))
        return await wire.answer()


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_unix_socket_is_served_beside_tcp(
    database: str, data_dir: Path, front: str, workers: str
) -> None:
    """By all workers, with both fronts; the file is gone at the end."""
    path = data_dir.parent / "http.sock"
    port = free_port()
    variables = {"HTTP": front, "WORKERS": workers, "BIND": f"127.0.0.1:{port},unix:{path}"}
    with running(data_dir, database, variables, port=port) as server:
        assert f"Serving on unix:{path}" in server.output
        for _ in range(6):
            assert (await ask_by_path(path, "/api/data")).status == 200
        assert (await ask(server.address, "/health")).status == 200
        assert await served(server) == 6
        server.signal(signal.SIGTERM)
        assert await server.exit_code() == 0
        assert not path.exists()


async def test_survivor_serves_while_the_other_is_gone(database: str, data_dir: Path) -> None:
    """Connections that a living worker has are not touched by another's death."""
    with running(data_dir, database) as server:
        async with trio.open_nursery() as nursery:
            answered: list[bool] = []

            async def keep_asking() -> None:
                async with open_wire(server.address) as wire:
                    try:
                        for _ in range(40):
                            answer = await wire.ask("/api/data", headers={"X-Tenant-Tier": "pro"})
                            assert answer.status == 200
                            await trio.sleep(0.05)
                    except NoAnswerError:
                        answered.append(False)
                    else:
                        answered.append(True)

            for _ in range(12):
                nursery.start_soon(keep_asking)
            await trio.sleep(0.5)
            os.kill(worker_pids(server)[0], signal.SIGKILL)
        assert len(answered) == 12
        assert any(answered)
