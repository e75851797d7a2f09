"""Full tiers, slow queries, deadlines and callers who leave: everything is given back."""

from __future__ import annotations

import os
import random
import signal
from contextlib import ExitStack

import pytest
import trio

from ._client import Wire, ask, ask_data, open_wire, request_bytes
from ._database import locked_table, running_queries
from ._problems import assert_problem
from ._server import (
    Server,
    bulkheads,
    held_requests,
    wait_at_rest,
    wait_for_queries,
    wait_for_tier,
)
from .conftest import StartServer

CONNECTIONS, WORKERS, QUEUE = 2, 3, 2
CAPACITY = WORKERS + QUEUE
PROMPT = 1.5
"""Seconds in which what waits for nothing is answered on a busy machine."""


@pytest.fixture(scope="module")
def server(start_server: StartServer) -> Server:
    variables = {"BULKHEAD_TIERS__FREE__RATE_LIMIT": ""}
    for tier in ("FREE", "PRO", "ENTERPRISE"):
        variables |= {
            f"BULKHEAD_TIERS__{tier}__CONNECTIONS": str(CONNECTIONS),
            f"BULKHEAD_TIERS__{tier}__WORKERS": str(WORKERS),
            f"BULKHEAD_TIERS__{tier}__QUEUE": str(QUEUE),
            f"BULKHEAD_TIERS__{tier}__TIMEOUT": "8",
            f"BULKHEAD_TIERS__{tier}__FAILURE_THRESHOLD": "1000",
        }
    return start_server(variables)


@pytest.fixture
def database(server: Server) -> str:
    assert server.database is not None
    return server.database


async def test_full_tier_refuses_at_once(server: Server, database: str) -> None:
    """Beyond workers and waiting places: 503 with when to come back, and the rest is served."""
    before = (await bulkheads(server))["free"]["rejected"]["bulkhead_full"]
    with ExitStack() as lock:
        lock.enter_context(locked_table(database))
        async with held_requests(server, "free", CAPACITY) as wires:
            full = await wait_for_tier(
                server, "free", active=WORKERS, queued=QUEUE, connections=CONNECTIONS, pending=1
            )
            assert full["connectionPool"]["max"] == CONNECTIONS
            assert full["threadPool"]["poolSize"] == WORKERS
            assert full["threadPool"]["queueSize"] == QUEUE
            for _ in range(10):
                answer = await ask_data(server.address, timeout=PROMPT)
                members = assert_problem(answer, 503, "bulkhead_full")
                assert members["retryAfter"] <= 60
            assert len(running_queries(database)) == CONNECTIONS
            lock.close()
            for wire in wires:
                assert (await wire.answer()).status == 200
    await wait_at_rest(server)
    after = (await bulkheads(server))["free"]["rejected"]["bulkhead_full"]
    assert after - before == 10


async def test_full_tier_leaves_the_others_alone(server: Server, database: str) -> None:
    """While free is full and waits for a lock of its own rows, pro answers."""
    with ExitStack() as lock:
        lock.enter_context(locked_table(database))
        async with held_requests(server, "free", CAPACITY) as wires:
            await wait_for_tier(server, "free", active=WORKERS, queued=QUEUE)
            members = await bulkheads(server)
            for tier in ("pro", "enterprise"):
                assert members[tier]["threadPool"]["active"] == 0
                assert members[tier]["connectionPool"]["active"] == 0
            lock.close()
            assert (await ask_data(server.address, "pro", timeout=PROMPT)).status == 200
            for wire in wires:
                assert (await wire.answer()).status == 200


async def test_metrics_answer_while_every_tier_is_full(server: Server, database: str) -> None:
    """Who watches the server is never in the queue that he watches."""
    with ExitStack() as stack:
        stack.enter_context(locked_table(database))
        async with (
            held_requests(server, "free", CAPACITY),
            held_requests(server, "pro", CAPACITY),
            held_requests(server, "enterprise", CAPACITY),
        ):
            for tier in ("free", "pro", "enterprise"):
                await wait_for_tier(server, tier, active=WORKERS, queued=QUEUE)
            for path in ("/metrics/bulkheads", "/metrics", "/health", "/ready", "/docs"):
                assert (await ask(server.address, path, timeout=PROMPT)).status == 200, path
            for tier in ("free", "pro", "enterprise"):
                refused = await ask_data(server.address, tier, timeout=PROMPT)
                assert_problem(refused, 503, "bulkhead_full")
    await wait_at_rest(server)


async def test_deadline_in_the_queue_is_kept(server: Server, database: str) -> None:
    """A caller who waits for a worker is told no later than at his deadline."""
    before = (await bulkheads(server))["free"]["rejected"]["deadline"]
    with locked_table(database):
        async with held_requests(server, "free", WORKERS):
            await wait_for_tier(server, "free", active=WORKERS, queued=0)
            started = trio.current_time()
            answer = await ask_data(
                server.address, headers={"X-Request-Timeout": "0.6"}, timeout=0.6 + PROMPT
            )
            members = assert_problem(answer)
            assert members["code"] in {"deadline_exceeded", "deadline_unreachable", "queue_timeout"}
            if members["code"] == "deadline_exceeded":
                assert trio.current_time() - started >= 0.55
            await wait_for_tier(server, "free", active=WORKERS, queued=0)
    await wait_at_rest(server)
    assert (await bulkheads(server))["free"]["rejected"]["deadline"] == before + 1


async def test_deadline_in_the_database_cancels_the_query(server: Server, database: str) -> None:
    """504 at the deadline, and PostgreSQL has stopped working on it while it was still slow."""
    with locked_table(database):
        started = trio.current_time()
        async with held_requests(server, "free", 1, headers={"X-Request-Timeout": "0.7"}) as (
            wire,
        ):
            await wait_for_queries(database, 1)
            assert_problem(await wire.answer(timeout=0.7 + PROMPT), 504, "deadline_exceeded")
            assert trio.current_time() - started >= 0.65
        await wait_for_queries(database, 0, timeout=PROMPT)
        await wait_at_rest(server)
    assert (await ask_data(server.address)).status == 200


async def test_deadline_holds_while_waiting_for_a_connection(server: Server, database: str) -> None:
    """A worker without a connection gives up at the deadline, and its place is free again."""
    with locked_table(database):
        async with held_requests(server, "free", CONNECTIONS):
            await wait_for_queries(database, CONNECTIONS)
            answer = await ask_data(
                server.address, headers={"X-Request-Timeout": "0.5"}, timeout=0.5 + PROMPT
            )
            assert assert_problem(answer)["code"] in {"deadline_exceeded", "deadline_unreachable"}
            await wait_for_tier(server, "free", active=CONNECTIONS, pending=0)
    await wait_at_rest(server)


async def test_deadline_holds_when_the_backend_hangs(server: Server, database: str) -> None:
    """A PostgreSQL process that answers nothing at all, not even to a cancel, is given up."""
    with locked_table(database):
        async with held_requests(server, "free", 1, headers={"X-Request-Timeout": "1"}) as (wire,):
            await wait_for_queries(database, 1)
            (backend,) = running_queries(database)
            os.kill(backend.pid, signal.SIGSTOP)
            try:
                assert_problem(await wire.answer(timeout=1 + 2 * PROMPT), 504, "deadline_exceeded")
                await wait_at_rest(server, timeout=10)
                assert (await ask(server.address, "/health", timeout=PROMPT)).status == 200
            finally:
                os.kill(backend.pid, signal.SIGCONT)
    await wait_for_queries(database, 0)
    for _ in range(2 * CONNECTIONS):
        assert (await ask_data(server.address)).status == 200


@pytest.mark.parametrize("manner", ["orderly", "reset"])
async def test_caller_who_leaves_cancels_his_query(
    server: Server, database: str, manner: str
) -> None:
    """The query of someone who is gone is gone too, while the database is still slow."""
    with locked_table(database):
        async with held_requests(server, "free", CONNECTIONS) as wires:
            await wait_for_queries(database, CONNECTIONS)
            for wire in wires:
                await leave(wire, manner)
            await wait_for_queries(database, 0, timeout=3)
            await wait_at_rest(server)


@pytest.mark.parametrize("manner", ["orderly", "reset"])
async def test_callers_who_leave_give_everything_back(
    server: Server, database: str, manner: str
) -> None:
    """Running, waiting for a connection or in the queue: each place is free again."""
    with locked_table(database):
        async with held_requests(server, "free", CAPACITY) as wires:
            await wait_for_tier(server, "free", active=WORKERS, queued=QUEUE)
            for wire in reversed(wires):
                await leave(wire, manner)
            await wait_for_queries(database, 0, timeout=3)
            await wait_at_rest(server)
    assert (await ask_data(server.address)).status == 200


async def test_caller_who_leaves_the_queue_frees_his_place(server: Server, database: str) -> None:
    """The place of one who left is taken by the next, while the workers are still busy."""
    with locked_table(database):
        async with held_requests(server, "free", CAPACITY) as wires:
            await wait_for_tier(server, "free", active=WORKERS, queued=QUEUE)
            assert_problem(await ask_data(server.address, timeout=PROMPT), 503, "bulkhead_full")
            await leave(wires[-1], "orderly")
            await wait_for_tier(server, "free", active=WORKERS, queued=QUEUE - 1)
            async with held_requests(server, "free", 1):
                await wait_for_tier(server, "free", active=WORKERS, queued=QUEUE)
    await wait_at_rest(server)


async def test_caller_who_leaves_with_a_request_behind_is_noticed(
    server: Server, database: str
) -> None:
    """A second request sent ahead on the same connection does not hide that its sender has left."""
    raw = request_bytes("/api/data", headers={"X-Tenant-Tier": "free"})
    with locked_table(database):
        async with open_wire(server.address) as wire:
            await wire.send(raw + raw)
            await wait_for_queries(database, 1)
        await wait_for_queries(database, 0, timeout=3)
        await wait_at_rest(server)


async def test_callers_who_leave_at_any_moment_leave_nothing(server: Server, database: str) -> None:
    """Hundreds of connections, a third broken off at random points: all is at rest after."""
    dice = random.Random(7)
    statuses: list[int] = []
    raw = request_bytes("/api/data", headers={"X-Tenant-Tier": "free"})

    async def one(gives_up: bool, after: float) -> None:
        async with open_wire(server.address) as wire:
            await wire.send(raw)
            if gives_up:
                await trio.sleep(after)
                await wire.reset()
            else:
                statuses.append((await wire.answer()).status)

    for _ in range(20):
        async with trio.open_nursery() as nursery:
            for number in range(15):
                nursery.start_soon(one, number % 3 == 0, dice.uniform(0, 0.02))
    await wait_at_rest(server)
    assert not running_queries(database)
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) >= 20
    assert [(await ask_data(server.address)).status for _ in range(5)] == [200] * 5


async def test_deadlines_at_any_moment_leave_nothing(server: Server, database: str) -> None:
    """Deadlines about as long as a request takes: whichever comes first, nothing is held after."""
    dice = random.Random(11)
    for _ in range(400):
        # From a microsecond to a few milliseconds, each order of magnitude as often as the next.
        seconds = f"{10 ** dice.uniform(-6, -2.4):.9f}"
        await ask_data(server.address, headers={"X-Request-Timeout": seconds})
    await wait_at_rest(server)
    assert not running_queries(database)
    assert (await ask_data(server.address)).status == 200


async def leave(wire: Wire, manner: str) -> None:
    """Close the connection, by FIN or by RST."""
    if manner == "reset":
        await wire.reset()
    else:
        await wire.aclose()
