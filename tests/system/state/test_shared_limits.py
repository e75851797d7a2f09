"""One limit, several instances, and a Redis that comes and goes."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import partial

import pytest
import trio

from bulkhead_trio.errors import StateUnavailable
from bulkhead_trio.policies.rate import Decision
from bulkhead_trio.state import OnStateError, SharedState, SharedTenantLimits
from bulkhead_trio.state.rate import RATE
from bulkhead_trio.state.redis import CALL_SECONDS, LEAST_SECONDS
from bulkhead_trio.testing.redis import RedisServer

from .conftest import eventually, sharing


async def acquire(
    limits: SharedTenantLimits, tenant_id: str = "t", limit: int = 100, seconds: float = 60.0
) -> Decision:
    decision = limits.acquire(tenant_id, limit, seconds)
    return await decision if inspect.isawaitable(decision) else decision


async def flood(limits: list[SharedTenantLimits], requests: int, limit: int) -> list[Decision]:
    """So many requests to each, ten at a time."""
    found: list[Decision] = []

    async def one(each: SharedTenantLimits) -> None:
        for _ in range(requests // 10):
            found.append(await acquire(each, limit=limit))

    async with trio.open_nursery() as nursery:
        for each in limits:
            for _ in range(10):
                nursery.start_soon(one, each)
    return found


@pytest.mark.parametrize("count", [2, 3])
async def test_limit_is_exact_over_instances(redis_server: RedisServer, count: int) -> None:
    """Not one more, not one fewer; and what is left is told once each."""
    async with sharing(redis_server.url, count) as instances:
        found = await flood([each.limits for each in instances], 200, limit=250)
    allowed = [each for each in found if each.allowed]
    assert len(allowed) == 250
    assert sorted(each.remaining for each in allowed) == list(range(250))
    assert all(0 < each.retry_after <= 60 for each in found if not each.allowed)


async def test_requests_at_the_same_time_go_together(redis_server: RedisServer) -> None:
    """A hundred of ten tenants take two round trips at most, in the order they came."""
    async with sharing(redis_server.url, 1) as (one,):
        decisions: dict[str, list[Decision]] = {f"t{number}": [] for number in range(10)}

        async def ask(tenant_id: str) -> None:
            decisions[tenant_id].append(await acquire(one.limits, tenant_id, limit=7))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                for tenant_id in decisions:
                    nursery.start_soon(ask, tenant_id)
        statistics = one.limits.statistics()
    assert statistics.round_trips <= 2
    assert statistics.waiting == 0
    for found in decisions.values():
        assert sum(each.allowed for each in found) == 7


async def test_redis_counts_as_long_as_a_window(redis_server: RedisServer) -> None:
    """What was refused did not count; what was told as the wait is the wait."""
    async with sharing(redis_server.url, 1) as (one,):
        for _ in range(3):
            assert (await acquire(one.limits, limit=3, seconds=0.3)).allowed
        for _ in range(5):
            refused = await acquire(one.limits, limit=3, seconds=0.3)
            assert not refused.allowed
        assert refused.retry_after <= 0.3
        await trio.sleep(refused.retry_after)
        assert (await acquire(one.limits, limit=3, seconds=0.3)).allowed


async def test_stopped_redis_decides_within_the_limit(redis_server: RedisServer) -> None:
    """Those whose question is under way, and those who asked meanwhile; then nobody waits."""
    async with sharing(redis_server.url, 1, call_seconds=CALL_SECONDS) as (one,):
        redis_server.freeze()
        waits: list[float] = []

        async def ask(pause: float) -> None:
            await trio.sleep(pause)
            began = trio.current_time()
            assert (await acquire(one.limits, limit=1000)).allowed
            waits.append(trio.current_time() - began)

        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(ask, number * 0.002)
        assert max(waits) < 0.15
        assert isinstance(one.limits.acquire("t", 1000, 60.0), Decision), "at once"


async def relay_slowly(path: str, seconds: float, stream: trio.abc.Stream) -> None:
    """Carry everything to the Redis at ``path`` at once, and its answers ``seconds`` late."""
    async with await trio.open_unix_socket(path) as inner, stream:

        async def ask() -> None:
            while data := await stream.receive_some():
                await inner.send_all(data)
            nursery.cancel_scope.cancel()

        async def answer_late(data: bytes | bytearray) -> None:
            await trio.sleep(seconds)
            with suppress(trio.BrokenResourceError):
                await stream.send_all(data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            while data := await inner.receive_some():
                nursery.start_soon(answer_late, data)


async def test_waiting_for_a_round_trip_counts(redis_server: RedisServer) -> None:
    """Whoever has to wait for the one under way has so much less for its own."""
    path, late, limit = redis_server.url.removeprefix("unix://"), 0.4, 0.6
    async with trio.open_nursery() as nursery:
        serve = partial(relay_slowly, path, late)
        (listener,) = await nursery.start(partial(trio.serve_tcp, host="127.0.0.1"), serve, 0)
        url = f"redis://127.0.0.1:{listener.socket.getsockname()[1]}"
        state = SharedState(url, scripts=[RATE], call_seconds=limit, connect_seconds=5.0)
        limits = SharedTenantLimits(state, on_error=OnStateError.LOCAL, instances=lambda: 1)
        await nursery.start(state.run)
        await nursery.start(limits.run)
        nursery.start_soon(acquire, limits)
        await trio.sleep(0.05)
        began = trio.current_time()
        assert (await acquire(limits)).allowed
        assert late - 0.05 < trio.current_time() - began < limit + 0.1
        assert limits.statistics().without_redis == 1, "the second of the two"
        nursery.cancel_scope.cancel()


async def test_without_redis_each_has_its_part(redis_server: RedisServer) -> None:
    """The limit is divided by the instances there were, and is shared again when Redis is back."""
    async with sharing(redis_server.url, 3) as instances:
        limits = [each.limits for each in instances]
        redis_server.kill()
        await eventually(lambda: not any(each.state.is_up for each in instances))
        found = await flood(limits, 50, limit=90)
        assert sum(each.allowed for each in found) == 90
        assert {each.limit for each in found} == {30}
        assert sum([(await acquire(limits[0], "small", limit=2)).allowed for _ in range(3)]) == 1
        redis_server.start()
        await eventually(lambda: all(each.state.is_up for each in instances))
        found = await flood(limits, 50, limit=90)
        assert sum(each.allowed for each in found) == 90
        assert {each.limit for each in found} == {90}


async def test_without_redis_requests_pass_or_are_denied(redis_server: RedisServer) -> None:
    """As it was configured, and at once."""
    async with (
        sharing(redis_server.url, 1, OnStateError.ALLOW, call_seconds=CALL_SECONDS) as (allows,),
        sharing(redis_server.url, 1, OnStateError.DENY, call_seconds=CALL_SECONDS) as (denies,),
    ):
        redis_server.freeze()
        for _ in range(5):
            assert (await acquire(allows.limits, limit=1)).allowed
            with pytest.raises(StateUnavailable) as caught:
                await acquire(denies.limits, limit=1)
            assert caught.value.code == "state_unavailable"
            assert caught.value.retry_after is not None
        assert denies.limits.statistics().denied == 5


async def test_limit_holds_while_redis_comes_and_goes(redis_server: RedisServer) -> None:
    """Under load: nobody waits long or for ever, and outages add one quota, however many."""
    async with sharing(redis_server.url, 2, call_seconds=CALL_SECONDS) as instances:
        allowed, longest = 0, 0.0
        is_over = False

        async def load(limits: SharedTenantLimits) -> None:
            nonlocal allowed, longest
            while not is_over:
                began = trio.current_time()
                passed = (await acquire(limits, limit=100)).allowed
                allowed += passed
                longest = max(longest, trio.current_time() - began)
                await trio.sleep(0.001)

        async with trio.open_nursery() as nursery:
            for each in instances:
                for _ in range(5):
                    nursery.start_soon(load, each.limits)
            for _ in range(3):
                await trio.sleep(0.2)
                redis_server.freeze()
                await trio.sleep(0.2)
                redis_server.thaw()
                await eventually(lambda: all(each.state.is_up for each in instances))
            await trio.sleep(0.2)
            is_over = True
        assert 100 <= allowed <= 200
        assert longest < 0.2
        assert all(each.limits.statistics().waiting == 0 for each in instances)


async def test_loop_that_is_held_up_is_no_outage(redis_server: RedisServer) -> None:
    """Time that was up before anything was sent says nothing of Redis."""
    async with sharing(redis_server.url, 1, call_seconds=CALL_SECONDS) as (one,):
        found = []
        for _ in range(5):  # a machine that is busy may well give Redis no turn in 20 ms
            await eventually(lambda: one.state.is_up)
            before = one.limits.statistics().without_redis
            decision = one.limits.acquire("tenant", 10, 60.0)
            assert inspect.isawaitable(decision)
            redis_server.freeze()
            late = threading.Timer(2 * CALL_SECONDS + LEAST_SECONDS / 4, redis_server.thaw)
            late.start()
            time.sleep(2 * CALL_SECONDS)
            assert (await decision).allowed
            late.join()
            found.append(one.limits.statistics().without_redis - before)
        assert 0 in found


async def test_cancelled_request_is_not_asked_for(redis_server: RedisServer) -> None:
    """It has gone before its turn came, and its unit is somebody else's."""
    async with sharing(redis_server.url, 1) as (one,):
        with trio.CancelScope() as scope:
            scope.cancel()
            await acquire(one.limits, limit=1)
        assert scope.cancelled_caught
        assert (await acquire(one.limits, limit=1)).allowed


async def test_limits_that_end_leave_nobody_waiting(redis_server: RedisServer) -> None:
    """Whoever waits then is answered as without Redis."""
    async with sharing(redis_server.url, 1, call_seconds=CALL_SECONDS) as (one,):
        redis_server.freeze()
        found: list[Decision] = []

        async def ask() -> None:
            found.append(await acquire(one.limits))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
        assert all(each.allowed for each in found)


_INSTANCE = """
import inspect, sys, trio
from bulkhead_trio.state import OnStateError, Shared

async def main():
    shared = Shared(sys.argv[1], on_error=OnStateError.DENY, call_seconds=5.0)
    allowed = 0
    async def load():
        nonlocal allowed
        for _ in range(40):
            decision = shared.limits.acquire("t", 500, 60.0)
            assert inspect.isawaitable(decision)
            passed = (await decision).allowed
            allowed += passed
    async with trio.open_nursery() as ground:
        await ground.start(shared.run)
        print("ready", flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(load)
        print(allowed, flush=True)
        ground.cancel_scope.cancel()

trio.run(main)
"""


def test_limit_is_exact_over_processes(redis_server: RedisServer) -> None:
    """Three of them, all at the same time, with four hundred requests each."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _INSTANCE, redis_server.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(3)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            while "ready" not in process.stdout.readline():
                assert process.poll() is None
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        words = [process.communicate(timeout=30)[0].split() for process in processes]
        allowed = [int(word) for each in words for word in each if word.isdecimal()]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert len(allowed) == 3
    assert sum(allowed) == 500
