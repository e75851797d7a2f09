"""SIGTERM and SIGINT: what runs is finished, nothing new begins, all is given back, exit 0."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from ._client import Answer, NoAnswerError, Wire, ask, ask_data, open_wire
from ._database import connected, locked_table, running_queries
from ._problems import assert_problem
from ._server import held_requests, running_server, wait_at_rest, wait_for_queries, wait_for_tier
from .conftest import CreateDatabase

GRACE = 6.0
BASE = {
    "BULKHEAD_TIERS__FREE__RATE_LIMIT": "",
    "BULKHEAD_TIERS__FREE__TIMEOUT": "20",
    "SHUTDOWN_GRACE_SECONDS": str(GRACE),
}
SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture
def database(create_database: CreateDatabase) -> str:
    return create_database()


async def try_ask(wire: Wire, target: str) -> Answer | None:
    """The answer on a kept connection; ``None`` when the server has closed it."""
    try:
        return await wire.ask(target, headers={"X-Tenant-Tier": "pro"}, timeout=3)
    except NoAnswerError:
        return None


async def try_ask_anew(address: tuple[str, int], target: str) -> Answer | None:
    """The answer on a new connection; ``None`` when it is refused or closed."""
    try:
        return await ask(address, target, headers={"X-Tenant-Tier": "pro"}, timeout=3)
    except (OSError, NoAnswerError):
        return None


async def wait_until_not_ready(address: tuple[str, int]) -> None:
    """Until a load balancer that asks anew would take the server out."""
    with trio.fail_after(3):
        while True:
            answer = await try_ask_anew(address, "/ready")
            if answer is None:
                return
            if answer.status != 200:
                assert answer.status == 503, str(answer)
                assert answer.json()["status"] == "not_ready"
                return
            await trio.sleep(0.02)


@pytest.mark.parametrize("number", SIGNALS)
async def test_drain_finishes_what_runs(
    database: str, data_dir: Path, number: signal.Signals
) -> None:
    """The slow request gets its 200; newcomers are sent away; a second signal changes nothing."""
    with running_server(BASE, data_dir=data_dir, database=database) as server, ExitStack() as lock:
        lock.enter_context(locked_table(database))
        async with (
            held_requests(server, "free", 2) as wires,
            open_wire(server.address) as kept,
            open_wire(server.address) as kept_for_work,
        ):
            assert (await kept.ask("/ready")).status == 200
            assert (await kept_for_work.ask("/health")).status == 200
            await wait_for_queries(database, 2)
            server.signal(number)
            await wait_until_not_ready(server.address)
            answer = await try_ask(kept, "/ready")
            if answer is not None:
                assert answer.status == 503, str(answer)
                assert answer.json()["status"] == "not_ready"
            for work in (
                await try_ask(kept_for_work, "/api/data"),
                await try_ask_anew(server.address, "/api/data"),
            ):
                if work is not None:
                    assert_problem(work, 503, "draining")
            server.signal(signal.SIGTERM)
            await trio.sleep(0.3)
            assert server.process.poll() is None, "the second signal ended it"
            assert len(running_queries(database)) == 2
            lock.close()
            for wire in wires:
                assert (await wire.answer(timeout=3)).status == 200
        assert await server.exit_code(3) == 0
        assert "Traceback" not in server.output
    assert_no_connections(database)


@pytest.mark.parametrize("number", SIGNALS)
async def test_drain_ends_after_its_grace(
    database: str, data_dir: Path, number: signal.Signals
) -> None:
    """What has not finished by then is cancelled, in PostgreSQL too; the exit is still clean."""
    variables = {**BASE, "SHUTDOWN_GRACE_SECONDS": "1"}
    with running_server(variables, data_dir=data_dir, database=database) as server:
        with locked_table(database):
            async with held_requests(server, "free", 12) as wires:
                await wait_for_tier(server, "free", active=10, queued=2)
                started = trio.current_time()
                server.signal(number)
                for wire in wires:
                    try:
                        answer = await wire.answer(timeout=4)
                    except NoAnswerError:
                        continue
                    assert answer.status in {503, 504}, str(answer)
                    assert_problem(answer)
                assert await server.exit_code(5) == 0
                assert trio.current_time() - started >= 0.9
            await wait_for_queries(database, 0, timeout=2)
        assert "Traceback" not in server.output
    assert_no_connections(database)


async def test_second_interrupt_is_clean(database: str, data_dir: Path) -> None:
    """Ctrl-C twice: the wait may be cut short, the way out is the same."""
    with running_server(BASE, data_dir=data_dir, database=database) as server:
        with locked_table(database):
            async with held_requests(server, "free", 2):
                await wait_for_queries(database, 2)
                server.signal(signal.SIGINT)
                await wait_until_not_ready(server.address)
                server.signal(signal.SIGINT)
                assert await server.exit_code(GRACE + 3) in {0, 130}
            await wait_for_queries(database, 0, timeout=2)
        assert "Traceback" not in server.output
    assert_no_connections(database)


async def test_drain_with_nothing_to_do_is_quick(database: str, data_dir: Path) -> None:
    """Idle and half-open connections do not hold the exit up: its grace is for work."""
    variables = {**BASE, "SHUTDOWN_GRACE_SECONDS": "30"}
    with running_server(variables, data_dir=data_dir, database=database) as server:
        async with (
            open_wire(server.address) as idle,
            open_wire(server.address) as silent,
            open_wire(server.address) as half,
        ):
            assert (await idle.ask("/health")).status == 200
            await silent.send(b"")
            await half.send(b"GET /api/data HTTP/1.1\r\nHost: te")
            server.signal(signal.SIGTERM)
            assert await server.exit_code(6) == 0
    assert_no_connections(database)


async def test_drain_under_load_answers_everyone_it_accepted(database: str, data_dir: Path) -> None:
    """Requests are served, refused by name or not accepted; none is cut off without an answer."""
    statuses: list[int] = []
    cut_off: list[str] = []
    with running_server(BASE, data_dir=data_dir, database=database) as server:

        async def client() -> None:
            while True:
                try:
                    stream = await trio.open_tcp_stream(*server.address)
                except OSError:
                    return
                wire = Wire(stream)
                try:
                    answer = await wire.ask("/api/data", headers={"X-Tenant-Tier": "free"})
                    statuses.append(answer.status)
                    if answer.status != 200:
                        assert_problem(answer, 503)
                except NoAnswerError as error:
                    cut_off.append(str(error))
                finally:
                    await wire.aclose()

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(client)
            await trio.sleep(0.5)
            server.signal(signal.SIGTERM)
            assert await server.exit_code(GRACE + 3) == 0
            nursery.cancel_scope.deadline = trio.current_time() + 3
    assert statuses.count(200) > 20
    # A connection that was still in the listener's backlog when it closed is reset by the kernel.
    assert len(cut_off) <= 6, cut_off
    assert_no_connections(database)


async def test_drain_is_over_when_the_port_is_free(database: str, data_dir: Path) -> None:
    """The same port serves again at once: a restart needs no waiting."""
    with running_server(BASE, data_dir=data_dir, database=database) as server:
        assert (await ask_data(server.address)).status == 200
        server.signal(signal.SIGTERM)
        assert await server.exit_code() == 0
        port = server.address[1]
    with running_server(BASE, data_dir=data_dir, database=database, port=port) as server:
        assert (await ask_data(server.address)).status == 200
        await wait_at_rest(server)


def assert_no_connections(database: str) -> None:
    """PostgreSQL has nobody left but the test."""
    with connected(database) as connection:
        left = connection.execute(
            "SELECT pid, state, query FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        ).fetchall()
    assert left == []
