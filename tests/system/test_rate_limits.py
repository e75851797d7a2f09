"""The fixed window of a tier, its headers, and what does not count."""

from __future__ import annotations

import re
import time

import pytest
import trio

from ._client import Answer, ask, ask_data
from ._problems import assert_problem
from ._server import Server, bulkheads, wait_until_answered
from .conftest import StartServer

FREE_LIMIT, FREE_WINDOW = 5, 2
PRO_LIMIT, PRO_WINDOW = 3, 60
POLICY = re.compile(r'"(?P<name>\w+)";q=(?P<q>\d+);w=(?P<w>\d+)')
STATE = re.compile(r'"(?P<name>\w+)";r=(?P<r>\d+);t=(?P<t>\d+)')


@pytest.fixture(scope="module")
def server(start_server: StartServer) -> Server:
    return start_server(
        {
            "BULKHEAD_TIERS__FREE__RATE_LIMIT": str(FREE_LIMIT),
            "BULKHEAD_TIERS__FREE__WINDOW": str(FREE_WINDOW),
            "BULKHEAD_TIERS__PRO__RATE_LIMIT": str(PRO_LIMIT),
            "BULKHEAD_TIERS__PRO__WINDOW": str(PRO_WINDOW),
            "BULKHEAD_TIERS__PRO__FAILURE_THRESHOLD": "1",
        }
    )


def assert_quota(answer: Answer, tier: str, limit: int, window: int) -> int:
    """Both families of headers, which agree; gives back what remains."""
    assert answer.header("x-ratelimit-limit") == str(limit), str(answer)
    remaining = int(answer.header("x-ratelimit-remaining") or "-1")
    assert 0 <= remaining <= limit
    reset = int(answer.header("x-ratelimit-reset") or "0")
    assert time.time() - 1 <= reset <= time.time() + window + 1.5
    policy = POLICY.fullmatch(answer.header("ratelimit-policy") or "")
    assert policy is not None, str(answer)
    assert policy.groupdict() == {"name": tier, "q": str(limit), "w": str(window)}
    state = STATE.fullmatch(answer.header("ratelimit") or "")
    assert state is not None, str(answer)
    assert state["name"] == tier
    assert int(state["r"]) == remaining
    assert 0 <= int(state["t"]) <= window
    return remaining


async def fresh_window(server: Server) -> None:
    """Wait until the free tier has its whole quota again."""

    async def is_whole() -> bool:
        remaining: int = (await bulkheads(server))["free"]["rateLimit"]["remaining"]
        return remaining == FREE_LIMIT

    await wait_until_answered(is_whole, "a new window", timeout=3 * FREE_WINDOW)


async def test_quota_is_counted_down_and_then_refused(server: Server) -> None:
    """As many as the limit are good; the next are 429 with when to come back, and do not count."""
    await fresh_window(server)
    seen = []
    for _ in range(FREE_LIMIT):
        answer = await ask_data(server.address)
        assert answer.status == 200, str(answer)
        seen.append(assert_quota(answer, "free", FREE_LIMIT, FREE_WINDOW))
    assert seen == list(reversed(range(FREE_LIMIT)))
    for _ in range(3 * FREE_LIMIT):
        refused = await ask_data(server.address)
        members = assert_problem(refused, 429, "rate_limited")
        assert assert_quota(refused, "free", FREE_LIMIT, FREE_WINDOW) == 0
        assert 1 <= members["retryAfter"] <= FREE_WINDOW


async def test_quota_comes_back_whole_after_the_window(server: Server) -> None:
    """Who waits as long as `Retry-After` says has the whole quota, however often he was refused."""
    await fresh_window(server)
    statuses = [(await ask_data(server.address)).status for _ in range(4 * FREE_LIMIT)]
    assert statuses.count(200) == FREE_LIMIT
    refused = await ask_data(server.address)
    await trio.sleep(int(refused.header("retry-after") or "0"))
    again = [(await ask_data(server.address)).status for _ in range(FREE_LIMIT)]
    assert again == [200] * FREE_LIMIT


async def test_quota_is_exact_for_many_at_once(server: Server) -> None:
    """Concurrency does not let one more through."""
    await fresh_window(server)
    statuses: list[int] = []

    async def one() -> None:
        statuses.append((await ask_data(server.address)).status)

    async with trio.open_nursery() as nursery:
        for _ in range(6 * FREE_LIMIT):
            nursery.start_soon(one)
    assert sorted(statuses) == [200] * FREE_LIMIT + [429] * (5 * FREE_LIMIT)


async def test_quota_of_one_tier_is_not_anothers(server: Server) -> None:
    """Enterprise has no limit: no refusal, and no headers that would claim one."""
    for _ in range(20):
        answer = await ask_data(server.address, "enterprise")
        assert answer.status == 200
        assert answer.header("x-ratelimit-limit") is None
        assert answer.header("ratelimit") is None
    limits = {tier: members["rateLimit"] for tier, members in (await bulkheads(server)).items()}
    assert limits["free"]["limit"] == FREE_LIMIT
    assert limits["free"]["windowSeconds"] == FREE_WINDOW
    assert limits["pro"]["limit"] == PRO_LIMIT


async def test_quota_is_not_used_by_other_paths(server: Server) -> None:
    """Health, metrics and requests without a tier cost nobody's quota."""
    await fresh_window(server)
    for path in ("/health", "/ready", "/metrics", "/api/data", "/nope"):
        await ask(server.address, path)
    answer = await ask_data(server.address)
    assert assert_quota(answer, "free", FREE_LIMIT, FREE_WINDOW) == FREE_LIMIT - 1


async def test_quota_is_checked_before_the_breaker(server: Server) -> None:
    """An open breaker's refusal carries the quota's headers, and beyond the quota it is 429."""
    failed = await ask_data(server.address, "pro", "?force_error=true")
    assert_problem(failed, 503, "database_unavailable")
    assert assert_quota(failed, "pro", PRO_LIMIT, PRO_WINDOW) == 2
    refused = await ask_data(server.address, "pro")
    assert_problem(refused, 503, "circuit_open")
    assert assert_quota(refused, "pro", PRO_LIMIT, PRO_WINDOW) == 1
    assert_problem(await ask_data(server.address, "pro"), 503, "circuit_open")
    assert_problem(await ask_data(server.address, "pro"), 429, "rate_limited")


async def test_refusals_are_told_in_the_metrics(server: Server) -> None:
    """`rejected.rate_limited` counts exactly the refused ones."""
    await fresh_window(server)
    before = (await bulkheads(server))["free"]["rejected"]["rate_limited"]
    statuses = [(await ask_data(server.address)).status for _ in range(2 * FREE_LIMIT)]
    after = (await bulkheads(server))["free"]["rejected"]["rate_limited"]
    assert after - before == statuses.count(429) == FREE_LIMIT
