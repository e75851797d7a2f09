"""Single flight with a time to live: fresh, stale and forgotten results."""

from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bulkhead_trio.policies.single_flight import (
    SingleFlight,
)
from bulkhead_trio.testing import CancellationPoint, sweep_cancellations
from tests.policies._single_flight import Caller, Failed, Work, assert_at_rest, two_steps


async def test_flight_fresh_result_is_returned_without_a_call(autojump_clock: MockClock) -> None:
    """Until the ttl has passed since it was had; each hit is a checkpoint."""
    flight, work = SingleFlight(ttl=10), Work()
    assert await flight.call("key", work) == 1
    await trio.sleep(9.9)
    with trio.testing.assert_checkpoints():
        assert await flight.call("key", work) == 1
    await trio.sleep(0.2)
    assert await flight.call("key", work) == 2
    statistics = flight.statistics()
    assert (statistics.hits, statistics.led, statistics.entries) == (1, 2, 1)


async def test_flight_result_of_none_is_kept_too(autojump_clock: MockClock) -> None:
    """Nothing is a result like others."""
    flight, runs = SingleFlight(ttl=10), []

    async def nothing() -> None:
        runs.append(1)

    for _ in range(3):
        await flight.call("key", nothing)
    assert len(runs) == 1


async def test_flight_stale_result_is_returned_while_one_gets_a_new_one(
    autojump_clock: MockClock,
) -> None:
    """The first who finds it stale waits for the new one; the others have the old one at once."""
    flight, work = SingleFlight(ttl=10, stale=5), Work()
    await flight.call("key", work)
    await trio.sleep(10)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        first = Caller(nursery, flight, "key", work)
        await wait_all_tasks_blocked()
        others = [Caller(nursery, flight, "key", work) for _ in range(9)]
    assert (first.result, first.ended_at - began) == (2, 1)
    assert [(other.result, other.ended_at - began) for other in others] == [(1, 0)] * 9
    statistics = flight.statistics()
    assert (statistics.led, statistics.stale_hits, statistics.hits) == (2, 9, 0)
    assert await flight.call("key", work) == 2
    assert flight.statistics().hits == 1


async def test_flight_result_gone_while_it_is_renewed_is_waited_for(
    autojump_clock: MockClock,
) -> None:
    """The stale time ends during a slow refresh: from then on callers wait with it."""
    flight, work = SingleFlight(ttl=10, stale=5), Work()
    await flight.call("key", work)
    work.seconds = 4
    await trio.sleep(13)
    async with trio.open_nursery() as nursery:
        Caller(nursery, flight, "key", work)
        await trio.sleep(1)
        stale = Caller(nursery, flight, "key", work)
        await trio.sleep(1)
        waiting = Caller(nursery, flight, "key", work)
    assert (stale.result, waiting.result) == (1, 2)
    assert work.runs == 2


async def test_flight_failed_refresh_is_an_error_of_its_caller_alone(
    autojump_clock: MockClock,
) -> None:
    """The others have the old result; the next to ask tries again."""
    flight, work = SingleFlight(ttl=10, stale=5), Work()
    await flight.call("key", work)
    await trio.sleep(10)
    work.error = Failed()
    async with trio.open_nursery() as nursery:
        first = Caller(nursery, flight, "key", work)
        await wait_all_tasks_blocked()
        other = Caller(nursery, flight, "key", work)
    assert (first.error, other.result) == (work.error, 1)
    work.error = None
    assert await flight.call("key", work) == 3


async def test_flight_keeps_at_most_so_many_results(autojump_clock: MockClock) -> None:
    """The one kept longest ago makes room; what is under way is not touched."""
    flight, work = SingleFlight(ttl=1000, max_keys=3), Work()
    async with trio.open_nursery() as nursery:
        slow = Work(seconds=50)
        callers = [Caller(nursery, flight, "slow", slow) for _ in range(2)]
        for key in range(10):
            await flight.call(key, work)
            assert flight.statistics().entries == min(key + 1, 3)
    assert [caller.result for caller in callers] == [1, 1]
    assert slow.runs == 1
    runs = work.runs
    await flight.call(9, work)
    assert work.runs == runs
    await flight.call(7, work)
    assert work.runs == runs + 1


async def test_flight_forgotten_key_is_asked_for_anew(autojump_clock: MockClock) -> None:
    """A call under way serves those who wait, and is not kept: it may be out of date."""
    flight, old, new = SingleFlight(ttl=100), Work(seconds=5), Work()
    async with trio.open_nursery() as nursery:
        before = [Caller(nursery, flight, "key", old, "old") for _ in range(2)]
        await trio.sleep(1)
        flight.forget("key")
        after = Caller(nursery, flight, "key", new, "new")
        await trio.sleep(0.5)
        assert flight.statistics().in_flight == 2
    assert [caller.result for caller in before] == ["old", "old"]
    assert after.result == "new"
    assert await flight.call("key", new) == "new"
    flight.forget("key")
    flight.forget("nothing")
    assert flight.statistics().entries == 0
    assert_at_rest(flight)


async def test_flight_refresh_cancelled_anywhere_keeps_the_old_result(
    autojump_clock: MockClock,
) -> None:
    """Who gets a new one may go at any point: the old one stays, and the key is free."""

    async def scenario(point: CancellationPoint) -> None:
        flight = SingleFlight(ttl=10, stale=100)
        await flight.call("key", Work(), "old")
        await trio.sleep(10)
        with point:
            await flight.call("key", two_steps)
        assert_at_rest(flight)
        assert flight.statistics().entries == 1

    assert await sweep_cancellations(scenario) >= 2
