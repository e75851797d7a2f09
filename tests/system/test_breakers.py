"""A tier's breaker, seen from outside: when it opens, whom it probes with, when it closes."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import trio

from ._client import ask_data
from ._database import locked_table, running_queries
from ._problems import assert_problem
from ._server import (
    Server,
    bulkheads,
    held_requests,
    wait_at_rest,
    wait_for_queries,
    wait_until_answered,
)
from .conftest import StartServer

COOLDOWN = 1.0
TIMEOUT = 1.0


@pytest.fixture(scope="module")
def server(start_server: StartServer) -> Server:
    return start_server(
        {
            "BULKHEAD_TIERS__FREE__RATE_LIMIT": "",
            "BULKHEAD_TIERS__FREE__COOLDOWN": str(COOLDOWN),
            "BULKHEAD_TIERS__PRO__COOLDOWN": str(COOLDOWN),
            "BULKHEAD_TIERS__PRO__TIMEOUT": str(TIMEOUT),
        }
    )


async def breaker_of(server: Server, tier: str) -> tuple[str, int]:
    """State and failures."""
    members = (await bulkheads(server))[tier]["circuitBreaker"]
    return members["state"], members["failures"]


async def closed_again(server: Server, tier: str = "free") -> None:
    """Wait until a request is good again: the breaker is closed."""

    async def is_good() -> bool:
        return (await ask_data(server.address, tier)).status == 200

    await wait_until_answered(is_good, f"{tier} works again", timeout=5 * COOLDOWN)
    assert await breaker_of(server, tier) == ("CLOSED", 0)


async def fail(server: Server, times: int, tier: str = "free") -> None:
    """So many failures of the database, one after the other."""
    for _ in range(times):
        answer = await ask_data(server.address, tier, "?force_error=true")
        assert_problem(answer, 503, "database_unavailable")


async def test_breaker_opens_after_five_failures_in_a_row(server: Server) -> None:
    """The fifth opens it; what comes then is refused at once with what is left of the cooldown."""
    await closed_again(server)
    rejected = (await bulkheads(server))["free"]["rejected"]["circuit_open"]
    await fail(server, 4)
    assert await breaker_of(server, "free") == ("CLOSED", 4)
    await fail(server, 1)
    assert (await breaker_of(server, "free"))[0] == "OPEN"
    for query in ("", "?force_error=true"):
        members = assert_problem(await ask_data(server.address, query=query), 503, "circuit_open")
        assert 1 <= members["retryAfter"] <= 2
    assert (await bulkheads(server))["free"]["rejected"]["circuit_open"] == rejected + 2


async def test_breaker_of_one_tier_leaves_the_others_alone(server: Server) -> None:
    """While free is open, pro and enterprise answer."""
    await closed_again(server)
    await fail(server, 5)
    for tier in ("pro", "enterprise"):
        assert (await ask_data(server.address, tier)).status == 200
        assert await breaker_of(server, tier) == ("CLOSED", 0)
    assert_problem(await ask_data(server.address), 503, "circuit_open")


async def test_breaker_counts_failures_in_a_row_only(server: Server) -> None:
    """A success in between begins the count anew."""
    await closed_again(server)
    for _ in range(3):
        await fail(server, 4)
        assert (await ask_data(server.address)).status == 200
    assert await breaker_of(server, "free") == ("CLOSED", 0)


async def test_breaker_ignores_callers_mistakes(server: Server) -> None:
    """Bad parameters and headers never count."""
    await closed_again(server)
    await fail(server, 4)
    for _ in range(8):
        assert (await ask_data(server.address, query="?limit=0")).status == 400
        wrong = await ask_data(server.address, headers={"X-Request-Timeout": "never"})
        assert wrong.status == 400
    assert await breaker_of(server, "free") == ("CLOSED", 4)
    assert (await ask_data(server.address)).status == 200


async def test_breaker_lets_one_probe_through_after_the_cooldown(server: Server) -> None:
    """While the probe is out everyone else is refused; its success closes the breaker."""
    assert server.database is not None
    await closed_again(server)
    await fail(server, 5)
    with ExitStack() as lock:
        lock.enter_context(locked_table(server.database))
        await trio.sleep(COOLDOWN + 0.2)
        async with held_requests(server, "free", 1) as (probe,):
            await wait_for_queries(server.database, 1)
            assert (await breaker_of(server, "free"))[0] == "HALF_OPEN"
            for _ in range(5):
                assert_problem(await ask_data(server.address, timeout=2), 503, "circuit_open")
            assert len(running_queries(server.database)) == 1
            lock.close()
            assert (await probe.answer()).status == 200
    assert await breaker_of(server, "free") == ("CLOSED", 0)


async def test_breaker_closes_when_the_probe_succeeds(server: Server) -> None:
    """Many at once after the cooldown: the first one through repairs the tier for all."""
    await closed_again(server)
    await fail(server, 5)
    await trio.sleep(COOLDOWN + 0.2)
    statuses: list[int] = []

    async def one() -> None:
        statuses.append((await ask_data(server.address)).status)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(one)
    assert 200 in statuses
    assert set(statuses) <= {200, 503}
    assert await breaker_of(server, "free") == ("CLOSED", 0)


async def test_breaker_opens_again_when_the_probe_fails(server: Server) -> None:
    """A failing probe costs a whole new cooldown."""
    await closed_again(server)
    await fail(server, 5)
    await trio.sleep(COOLDOWN + 0.2)
    await fail(server, 1)
    assert_problem(await ask_data(server.address), 503, "circuit_open")
    assert (await breaker_of(server, "free"))[0] == "OPEN"


async def test_breaker_gives_the_probe_back_when_its_caller_goes_away(server: Server) -> None:
    """A cancelled probe counts neither way: the next request is the probe."""
    assert server.database is not None
    await closed_again(server)
    await fail(server, 5)
    with locked_table(server.database):
        await trio.sleep(COOLDOWN + 0.2)
        async with held_requests(server, "free", 1) as (probe,):
            await wait_for_queries(server.database, 1)
            await probe.reset()
            await wait_for_queries(server.database, 0)
        await wait_at_rest(server)
    assert (await ask_data(server.address)).status == 200
    assert await breaker_of(server, "free") == ("CLOSED", 0)


async def test_breaker_opens_when_the_database_is_too_slow(server: Server) -> None:
    """Timeouts at the server's own limit are failures of the database, and open it too."""
    assert server.database is not None
    await closed_again(server, "pro")
    with locked_table(server.database):
        async with held_requests(server, "pro", 5) as wires:
            for wire in wires:
                answer = await wire.answer(timeout=TIMEOUT + 2)
                assert_problem(answer, 504, "deadline_exceeded")
        assert_problem(await ask_data(server.address, "pro", timeout=1), 503, "circuit_open")
    await closed_again(server, "pro")


async def test_force_error_can_be_switched_off(start_server: StartServer) -> None:
    """With FORCE_ERROR_ENABLED=false the parameter does nothing."""
    server = start_server({"FORCE_ERROR_ENABLED": "false"})
    for _ in range(6):
        assert (await ask_data(server.address, query="?force_error=true")).status == 200
