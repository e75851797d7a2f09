"""Deadlines: what is left, what is refused, and who ends whom."""

from __future__ import annotations

import math

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from bulkhead_trio.errors import DeadlineExceeded, DeadlineUnreachable
from bulkhead_trio.policies.deadline import (
    Deadline,
    TimedOut,
    Timeout,
    TimeoutStatistics,
    check_reachable,
    deadline,
    remaining,
)
from bulkhead_trio.policies.policy import Kind
from bulkhead_trio.testing import CancellationPoint, sweep_cancellations


async def slow(seconds: float, result: str = "done") -> str:
    await trio.sleep(seconds)
    return result


async def broken() -> None:
    raise KeyError


# --- what remains --------------------------------------------------------------------------------


async def test_remaining_is_that_of_the_nearest_deadline(autojump_clock: MockClock) -> None:
    """Infinite without one; the nearest of several; counts down; never below 0."""
    assert remaining() == math.inf
    with deadline(10):
        assert remaining() == 10
        with deadline(20):
            assert remaining() == 10
        with pytest.raises(DeadlineExceeded), deadline(4):
            await trio.sleep(1)
            assert remaining() == 3
            with trio.CancelScope(shield=True):
                await trio.sleep(5)
                assert remaining() == math.inf
            assert remaining() == 0
            await trio.lowlevel.checkpoint()


async def test_remaining_is_nothing_when_cancelled() -> None:
    """Who is cancelled has no time, whatever its deadlines were."""
    with trio.CancelScope() as scope, deadline(10):
        scope.cancel()
        assert remaining() == 0
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    ("wait", "service", "refused"),
    [
        (0, 0, False),
        (5, 0, False),
        (3, 2, False),
        (0, 5, False),
        (5.5, 0, True),
        (3, 2.5, True),
        (math.inf, 0, True),
    ],
)
async def test_check_reachable_refuses_what_cannot_fit(
    autojump_clock: MockClock, wait: float, service: float, refused: bool
) -> None:
    """Wait and service together may take all that remains and no more."""
    with deadline(5):
        if not refused:
            check_reachable(wait, service, what="a worker")
            return
        with pytest.raises(DeadlineUnreachable, match=r"5.000 s away, a worker needs") as caught:
            check_reachable(wait, service, what="a worker")
    assert caught.value.retry_after == wait
    assert caught.value.reason == "deadline_unreachable"


async def test_check_reachable_says_how_long_it_would_take() -> None:
    """Both parts are in the message; without a deadline everything is reachable."""
    check_reachable(math.inf, what="a worker")
    with trio.CancelScope() as scope:
        scope.cancel()
        check_reachable(0.0, what="a worker")
        with pytest.raises(DeadlineUnreachable, match=r"is 0\.000 s away, a worker needs 1\.750 s"):
            check_reachable(1.5, 0.25, what="a worker")
        await trio.lowlevel.checkpoint()


# --- Timeout -------------------------------------------------------------------------------------


async def test_timeout_ends_a_call_at_its_limit(autojump_clock: MockClock) -> None:
    """Exactly then, in every way of using it, with an error that says which limit it was."""
    limit = deadline(2, name="rows")
    assert limit.kind is Kind.TIMEOUT

    @limit
    async def decorated() -> None:
        await trio.sleep(3)

    async def asynchronous() -> None:
        async with limit:
            await trio.sleep(3)

    async def synchronous() -> None:
        with limit:
            await trio.sleep(3)

    async def called() -> None:
        await limit.call(trio.sleep, 3)

    for way in (decorated, asynchronous, synchronous, called):
        begun = trio.current_time()
        with pytest.raises(DeadlineExceeded, match="the limit of rows of 2 s has passed") as caught:
            await way()
        assert trio.current_time() == begun + 2
        assert caught.value.retry_after is None
    assert limit.statistics() == TimeoutStatistics(
        name="rows", seconds=2, active=0, completed=0, timed_out=4
    )


async def test_timeout_lets_pass_what_is_quick(autojump_clock: MockClock) -> None:
    """Results and errors come out unchanged, also at the very limit if it is not hit."""
    limit = Timeout(2)
    assert await limit.call(slow, 1.5, "a result") == "a result"
    async with limit as entered:
        assert entered is limit
        assert await slow(1) == "done"
    with pytest.raises(KeyError), limit:
        raise KeyError
    with pytest.raises(KeyError):
        await limit.call(broken)
    assert limit.statistics() == TimeoutStatistics(
        name="", seconds=2, active=0, completed=4, timed_out=0
    )


async def test_timeout_keeps_a_result_that_came_too_late(autojump_clock: MockClock) -> None:
    """What came to its end without a checkpoint has what it came for."""

    async def stubborn() -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(5)
        return "late"

    limit = Timeout(2)
    assert await limit.call(stubborn) == "late"
    assert limit.statistics().timed_out == 0


async def test_timeout_of_nothing_ends_at_the_first_checkpoint() -> None:
    """0 seconds are a limit too."""
    with pytest.raises(DeadlineExceeded, match="the limit of 0 s has passed"):
        await Timeout(0).call(trio.lowlevel.checkpoint)


async def test_timeout_leaves_a_wider_deadline_to_its_owner(autojump_clock: MockClock) -> None:
    """An outer limit that ends the call is the outer one's error, also at the same moment."""
    outer, inner = Timeout(2, name="outer"), Timeout(3, name="inner")
    with pytest.raises(DeadlineExceeded, match="outer"):
        await outer.call(inner.call, trio.sleep, 5)
    same = Timeout(2, name="same")
    with pytest.raises(DeadlineExceeded, match="outer"), outer, same:
        await trio.sleep(5)
    with trio.move_on_after(1) as scope:
        await inner.call(trio.sleep, 5)
    assert scope.cancelled_caught
    assert inner.statistics().timed_out == same.statistics().timed_out == 0
    assert inner.statistics().completed == 2
    assert outer.statistics().timed_out == 2


async def test_timeout_shared_by_many_tasks_gives_each_the_whole_time(
    autojump_clock: MockClock,
) -> None:
    """Blocks of several tasks overlap and nest, each with its own limit."""
    limit = Timeout(4)
    ended: list[tuple[str, float]] = []

    async def task(name: str, starts: float, takes: float) -> None:
        await trio.sleep(starts)
        try:
            async with limit, limit:
                await trio.sleep(takes)
        except DeadlineExceeded:
            name += " too late"
        ended.append((name, trio.current_time()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(task, "a", 0, 3)
        nursery.start_soon(task, "b", 1, 9)
        nursery.start_soon(task, "c", 2, 1.5)
        await trio.sleep(2.5)
        assert limit.statistics().active == 6
    assert ended == [("a", 3), ("c", 3.5), ("b too late", 5)]
    statistics = limit.statistics()
    assert (statistics.active, statistics.completed, statistics.timed_out) == (0, 5, 1)


async def test_timeout_lets_an_error_of_its_nursery_be_seen(autojump_clock: MockClock) -> None:
    """When ending it fails, that error comes out: it says more than the limit does."""

    async def fails_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("clean-up")

    async def two() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails_when_cancelled)
            nursery.start_soon(trio.sleep_forever)

    limit = Timeout(1)
    with pytest.raises(ExceptionGroup) as from_call:
        await limit.call(two)
    with pytest.raises(ExceptionGroup) as from_block:
        async with limit:
            await two()
    for caught in (from_call, from_block):
        assert caught.group_contains(KeyError)
    assert (limit.statistics().timed_out, limit.statistics().active) == (2, 0)


async def test_timeout_tells_its_listeners(autojump_clock: MockClock) -> None:
    """Of what it ended, after it has been counted; of nothing else."""
    told: list[TimedOut] = []
    counted: list[int] = []

    def note(record: TimedOut) -> None:
        told.append(record)
        counted.append(limit.statistics().timed_out)

    limit = Timeout(1, name="rows", listeners=[note])
    await limit.call(slow, 0.5)
    with pytest.raises(DeadlineExceeded):
        await limit.call(slow, 5)
    assert told == [TimedOut("rows", 1, 1.5)]
    assert counted == [1]


@pytest.mark.parametrize("nonsense", [-1, math.nan, math.inf])
def test_timeout_of_nonsense_is_refused(nonsense: float) -> None:
    """A limit is a number of seconds that comes to an end."""
    for make in (Timeout, deadline):
        with pytest.raises(ValueError, match="seconds must be 0 or more seconds"):
            make(nonsense)


async def test_timeout_cancelled_anywhere_is_at_rest(autojump_clock: MockClock) -> None:
    """Whatever checkpoint it is cancelled at, nothing is under way afterwards."""

    async def scenario(point: CancellationPoint) -> None:
        limit = Timeout(5)
        with point:
            await limit.call(slow, 1)
            async with limit:
                await slow(1)
            with limit:
                await slow(1)
        assert limit.statistics().active == 0
        assert limit.statistics().timed_out == 0
        assert limit._entries._stacks == {}

    assert await sweep_cancellations(scenario) >= 4


@given(steps=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=6))
def test_timeout_ends_exactly_what_takes_longer(steps: list[tuple[int, int]]) -> None:
    """For any limits and durations: the shorter of both passes, and the counts say which."""

    async def main() -> None:
        for limit_quarters, work_quarters in steps:
            limit, takes = Timeout(limit_quarters / 4), work_quarters / 4
            begun = trio.current_time()
            try:
                await limit.call(trio.sleep, takes)
                timed_out = False
            except DeadlineExceeded:
                timed_out = True
            assert trio.current_time() == begun + min(limit.seconds, takes)
            if limit.seconds != takes:
                assert timed_out == (takes > limit.seconds)
            assert limit.statistics().timed_out == timed_out
            assert limit.statistics().completed == (not timed_out)

    trio.run(main, clock=MockClock(autojump_threshold=0))


# --- Deadline ------------------------------------------------------------------------------------


async def test_deadline_point_is_the_smaller_of_limit_and_wish(autojump_clock: MockClock) -> None:
    """A caller may ask for less than the server's limit, not for more."""
    await trio.sleep(3)
    assert Deadline.starting_now(limit=5, asked=None) == Deadline(at=8)
    assert Deadline.starting_now(limit=5, asked=2) == Deadline(at=5)
    assert Deadline.starting_now(limit=5, asked=9) == Deadline(at=8)


async def test_deadline_point_is_enforced_and_checked(autojump_clock: MockClock) -> None:
    """Enforced it cuts off at a checkpoint; checked it is too late from the very moment on."""
    point = Deadline.starting_now(limit=2, asked=None)
    with point.enforced():
        await trio.sleep(1.5)
    point.check()
    with pytest.raises(DeadlineExceeded), point.enforced():
        await trio.sleep(1)
    assert trio.current_time() == 2
    with pytest.raises(DeadlineExceeded):
        point.check()
