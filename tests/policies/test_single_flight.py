"""Single flight: one call a key, whoever comes and goes."""

from __future__ import annotations

import gc
import traceback

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bulkhead_trio.errors import DeadlineExceeded, DeadlineUnreachable
from bulkhead_trio.policies.deadline import Timeout
from bulkhead_trio.policies.single_flight import (
    SingleFlight,
)
from bulkhead_trio.testing import CancellationPoint, sweep_cancellations
from tests.policies._single_flight import Caller, Failed, Work, assert_at_rest, two_steps


async def test_flight_callers_of_one_key_share_one_call(autojump_clock: MockClock) -> None:
    """A hundred ask at once, one call is run, and each has its very result."""
    flight, work, result = SingleFlight(name="rows"), Work(), object()
    async with trio.open_nursery() as nursery:
        callers = [Caller(nursery, flight, "key", work, result) for _ in range(100)]
        await trio.sleep(0.5)
        statistics = flight.statistics()
        assert (statistics.name, statistics.in_flight, statistics.waiting) == ("rows", 1, 99)
    assert work.runs == 1
    assert all(caller.result is result for caller in callers)
    assert_at_rest(flight)
    statistics = flight.statistics()
    assert (statistics.led, statistics.shared, statistics.handed_over) == (1, 99, 0)
    assert (statistics.hits, statistics.stale_hits, statistics.entries) == (0, 0, 0)


async def test_flight_keys_and_times_apart_are_calls_apart(autojump_clock: MockClock) -> None:
    """Another key is another call, and so is the same key once the first has landed."""
    flight, work = SingleFlight(), Work()
    other = Work()
    async with trio.open_nursery() as nursery:
        Caller(nursery, flight, "a", work)
        Caller(nursery, flight, "b", other)
    assert (work.runs, other.runs) == (1, 1)
    assert await flight.call("a", work) == 2
    assert_at_rest(flight)


async def test_flight_leader_cancelled_hands_over_in_order(autojump_clock: MockClock) -> None:
    """Who has waited longest runs its own function; the others wait for that one."""
    flight = SingleFlight()
    works = [Work() for _ in range(4)]
    async with trio.open_nursery() as nursery:
        callers = []
        for number, work in enumerate(works):
            callers.append(Caller(nursery, flight, "key", work, f"of {number}"))
            await wait_all_tasks_blocked()
        await trio.sleep(0.5)
        callers[0].scope.cancel()
        await trio.sleep(0.5)
        callers[1].scope.cancel()
    assert [work.runs for work in works] == [1, 1, 1, 0]
    assert [caller.result for caller in callers] == [None, None, "of 2", "of 2"]
    assert_at_rest(flight)
    statistics = flight.statistics()
    assert (statistics.led, statistics.handed_over, statistics.shared) == (3, 2, 1)


async def test_flight_leader_cancelled_alone_leaves_nothing(autojump_clock: MockClock) -> None:
    """With nobody waiting the key is free again."""
    flight = SingleFlight()
    with trio.move_on_after(0.5):
        await flight.call("key", Work())
    assert_at_rest(flight)
    assert await flight.call("key", Work()) == 1


async def test_flight_waiter_cancelled_harms_nobody(autojump_clock: MockClock) -> None:
    """The leader and the others never notice."""
    flight, work = SingleFlight(), Work()
    async with trio.open_nursery() as nursery:
        callers = []
        for _ in range(3):
            callers.append(Caller(nursery, flight, "key", work))
            await wait_all_tasks_blocked()
        callers[1].scope.cancel()
        await wait_all_tasks_blocked()
        assert flight.statistics().waiting == 1
    assert [caller.result for caller in callers] == [1, None, 1]
    assert work.runs == 1
    assert_at_rest(flight)


async def test_flight_new_leader_cancelled_as_it_is_woken_hands_on(
    autojump_clock: MockClock,
) -> None:
    """A hand-over to somebody who is cancelled in the same moment is not lost."""
    flight = SingleFlight()
    works = [Work() for _ in range(3)]
    async with trio.open_nursery() as nursery:
        callers = []
        for work in works:
            callers.append(Caller(nursery, flight, "key", work))
            await wait_all_tasks_blocked()
        callers[0].scope.cancel()
        while flight.statistics().handed_over == 0:
            await trio.lowlevel.cancel_shielded_checkpoint()
        callers[1].scope.cancel()
    assert callers[2].result == 1
    assert_at_rest(flight)


async def test_flight_everybody_cancelled_at_once_leaves_nothing(
    autojump_clock: MockClock,
) -> None:
    """Leader and waiters go together."""
    flight, work = SingleFlight(), Work()
    with trio.move_on_after(0.5):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                Caller(nursery, flight, "key", work)
    assert work.running == 0
    assert_at_rest(flight)


async def test_flight_each_waits_under_its_own_deadline(autojump_clock: MockClock) -> None:
    """A waiter with less time goes earlier, the leader with less time hands over."""
    flight, work = SingleFlight(), Work(seconds=3)
    async with trio.open_nursery() as nursery:
        callers = []
        for seconds in (2.0, 1.0, 10.0):
            callers.append(Caller(nursery, flight, "key", work))
            callers[-1].scope.deadline = trio.current_time() + seconds
            await wait_all_tasks_blocked()
        began = trio.current_time()
    assert [caller.ended_at - began for caller in callers] == [2, 1, 5]
    assert [caller.result for caller in callers] == [None, None, 2]
    assert_at_rest(flight)


async def test_flight_error_is_shared_and_not_kept(autojump_clock: MockClock) -> None:
    """Each has the very exception; the next to ask runs a call again."""
    flight, error = SingleFlight(ttl=60), Failed("no")
    work = Work(error=error)
    async with trio.open_nursery() as nursery:
        callers = [Caller(nursery, flight, "key", work) for _ in range(5)]
    assert all(caller.error is error for caller in callers)
    assert work.runs == 1
    assert flight.statistics().shared == 4
    with pytest.raises(Failed):
        await flight.call("key", work)
    assert work.runs == 2
    assert_at_rest(flight)


async def test_flight_shared_error_has_a_traceback_that_does_not_grow(
    autojump_clock: MockClock,
) -> None:
    """However many raise it, it shows the leader's frames and those of one waiter."""
    flight = SingleFlight()
    work = Work(error=Failed())
    lengths: list[int] = []

    async def ask() -> None:
        try:
            await flight.call("key", work)
        except Failed as error:
            names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
            assert names[0] == "ask"
            assert names[-1] == "__call__"
            lengths.append(len(names))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(ask)
    assert len(lengths) == 50
    # ask, call, _lead and the work; for a waiter its own ask, call and _unpacked, and the last two.
    assert set(lengths) == {4, 5}


async def test_flight_leaves_no_garbage_in_cycles(autojump_clock: MockClock) -> None:
    """A shared error, once it is dropped, takes its frames with it at once."""
    flight = SingleFlight()

    class Told(Exception):
        alive = 0

        def __init__(self) -> None:
            Told.alive += 1

        def __del__(self) -> None:
            Told.alive -= 1

    async def fail() -> None:
        await trio.sleep(1)
        raise Told

    async def ask() -> None:
        try:
            await flight.call("key", fail)
        except Told:
            pass

    gc.disable()
    try:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
        assert Told.alive == 0
    finally:
        gc.enable()


async def test_flight_group_with_a_cancellation_in_it_hands_over(
    autojump_clock: MockClock,
) -> None:
    """Work with a nursery of its own ends in a group when it is cancelled: no error to share."""
    flight = SingleFlight()

    async def with_nursery() -> str:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 2)
            await trio.sleep(2)
        return "done"

    async with trio.open_nursery() as nursery:
        first = Caller(nursery, flight, "key", with_nursery)
        await wait_all_tasks_blocked()
        second = Caller(nursery, flight, "key", with_nursery)
        await trio.sleep(1)
        first.scope.cancel()
    assert (first.error, second.result) == (None, "done")
    assert_at_rest(flight)


async def test_flight_leader_refused_for_its_deadline_hands_over_to_who_has_more(
    autojump_clock: MockClock,
) -> None:
    """Who has no more time than the leader shares the refusal; who has more runs its own call."""
    flight = SingleFlight()

    async def refuse() -> None:
        await trio.sleep(1)
        raise DeadlineUnreachable("too slow for you")

    async def serve() -> str:
        return "served"

    async with trio.open_nursery() as nursery:
        callers = []
        for seconds, work in ((5.0, refuse), (4.0, serve), (9.0, serve), (8.0, serve)):
            callers.append(Caller(nursery, flight, "key", work))
            callers[-1].scope.deadline = seconds
            await wait_all_tasks_blocked()
    assert [type(caller.error) for caller in callers[:2]] == [DeadlineUnreachable] * 2
    assert [caller.result for caller in callers[2:]] == ["served"] * 2
    statistics = flight.statistics()
    assert (statistics.handed_over, statistics.shared) == (1, 2)
    assert_at_rest(flight)


async def test_flight_limit_further_in_is_an_error_for_all(autojump_clock: MockClock) -> None:
    """Were it handed over, those who wait would run into it one after the other."""
    flight = SingleFlight()
    limited = Timeout(1.0)(trio.sleep_forever)
    async with trio.open_nursery() as nursery:
        callers = []
        for seconds in (5.0, 9.0):
            callers.append(Caller(nursery, flight, "key", limited))
            callers[-1].scope.deadline = seconds
            await wait_all_tasks_blocked()
    assert [type(caller.error) for caller in callers] == [DeadlineExceeded] * 2
    assert [caller.ended_at for caller in callers] == [1, 1]
    assert flight.statistics().led == 1


async def test_flight_call_inside_itself_says_so(autojump_clock: MockClock) -> None:
    """It would wait for itself for ever."""
    flight = SingleFlight()

    async def again() -> None:
        await flight.call("key", trio.sleep, 1)

    with pytest.raises(RuntimeError, match="wait for itself"):
        await flight.call("key", again)
    async with trio.open_nursery() as nursery:
        first = Caller(nursery, flight, "key", trio.sleep, 1)
        await wait_all_tasks_blocked()
        second = Caller(nursery, flight, "key", again)
        await wait_all_tasks_blocked()
        first.scope.cancel()
    assert isinstance(second.error, RuntimeError)
    assert_at_rest(flight)


@pytest.mark.parametrize("ttl", [None, 100.0])
async def test_flight_leader_cancelled_anywhere_serves_the_waiters(
    ttl: float | None, autojump_clock: MockClock
) -> None:
    """Whatever checkpoint the leader is cancelled at, everybody else has a result."""

    async def scenario(point: CancellationPoint) -> None:
        flight = SingleFlight(ttl=ttl)
        results: list[str] = []

        async def ask() -> None:
            await trio.sleep(0.5)
            results.append(await flight.call("key", two_steps))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
            with point:
                await flight.call("key", two_steps)
        assert results == ["done"] * 3
        assert_at_rest(flight)

    assert await sweep_cancellations(scenario) >= 2


@pytest.mark.parametrize("leader_stays", [True, False])
async def test_flight_waiter_cancelled_anywhere_harms_nobody(
    leader_stays: bool, autojump_clock: MockClock
) -> None:
    """Whether it waits, is just being served, or has taken over, the others have a result."""

    async def scenario(point: CancellationPoint) -> None:
        flight = SingleFlight()
        async with trio.open_nursery() as nursery:
            leader = Caller(nursery, flight, "key", two_steps)
            await wait_all_tasks_blocked()
            nursery.start_soon(late, nursery, flight, leader)
            with point:
                await flight.call("key", two_steps)
        assert last[-1].result == "done"
        assert leader.result == ("done" if leader_stays else None)
        assert_at_rest(flight)

    last: list[Caller] = []

    async def late(nursery: trio.Nursery, flight: SingleFlight, leader: Caller) -> None:
        await wait_all_tasks_blocked()
        last.append(Caller(nursery, flight, "key", two_steps))
        await trio.sleep(0.5)
        if not leader_stays:
            leader.scope.cancel()

    assert await sweep_cancellations(scenario) >= 1
