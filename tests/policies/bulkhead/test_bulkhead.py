"""The semaphore bulkhead: refusals, order, waiting, deadlines, resizing, and what is given back."""

from __future__ import annotations

import math
import random
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from bulkhead_trio.errors import BulkheadFull, DeadlineUnreachable, QueueTimeout, Rejected
from bulkhead_trio.policies.bulkhead import (
    Bulkhead,
    BulkheadEntered,
    BulkheadEvent,
    BulkheadLeft,
    BulkheadRefused,
    BulkheadResized,
)
from bulkhead_trio.policies.policy import Kind
from bulkhead_trio.testing.cancellation import CancellationPoint, sweep_cancellations

Clock = trio.testing.MockClock


class WorkError(Exception):
    """What the tests' work fails with."""


def make(max_concurrent: int = 1, **options: Any) -> Bulkhead:
    return Bulkhead("test", max_concurrent, **options)


def at_rest(bulkhead: Bulkhead) -> bool:
    statistics = bulkhead.statistics()
    return (statistics.active, statistics.queued) == (0, 0) and bulkhead.is_at_rest


async def ok() -> str:
    return "ok"


# --- refusing ------------------------------------------------------------------------------------


async def test_bulkhead_full_refuses_at_once(autojump_clock: Clock) -> None:
    """Without a wait, whoever finds no free permit is refused at once, and nobody else."""
    bulkhead = make(2)
    refused_at: list[float] = []

    async def caller() -> None:
        try:
            await bulkhead.call(trio.sleep, 1)
        except BulkheadFull:
            refused_at.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(caller)
    assert refused_at == [0.0, 0.0, 0.0]
    statistics = bulkhead.statistics()
    assert (statistics.completed, statistics.refused) == (2, 3)
    assert at_rest(bulkhead)


@pytest.mark.parametrize(("waiting", "retry_after"), [(0, 2.0), (1, 4.0), (2, 6.0)])
async def test_bulkhead_retry_after_counts_those_ahead(
    autojump_clock: Clock, waiting: int, retry_after: float
) -> None:
    """A refusal predicts a service time over the permits for each departure that is needed."""
    bulkhead = make(2, max_wait=math.inf, max_queued=waiting)
    await bulkhead.call(trio.sleep, 4)
    async with trio.open_nursery() as nursery:
        for _ in range(2 + waiting):
            nursery.start_soon(bulkhead.call, trio.sleep, 4)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(BulkheadFull) as caught:
            await bulkhead.call(ok)
        assert caught.value.reason == "bulkhead_full"
        assert caught.value.retry_after == pytest.approx(retry_after)
        assert bulkhead.predicted_wait() == pytest.approx(retry_after)


async def test_bulkhead_retry_after_of_a_stalled_one_grows(autojump_clock: Clock) -> None:
    """Before anything has left, and with no line, the stall itself is what is known."""
    bulkhead = make(2)
    first = bulkhead.acquire_nowait()
    await trio.sleep(3)
    assert bulkhead.predicted_wait() == 0.0
    second = bulkhead.acquire_nowait()
    assert bulkhead.predicted_wait() == 0.0
    await trio.sleep(8)
    with pytest.raises(BulkheadFull) as caught:
        bulkhead.acquire_nowait()
    assert caught.value.retry_after == pytest.approx(4.0)
    first.release()
    second.release()


async def test_bulkhead_line_that_is_full_refuses(autojump_clock: Clock) -> None:
    """Exactly ``max_queued`` callers wait, and the next is refused at once."""
    bulkhead = make(1, max_wait=10.0, max_queued=2)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(bulkhead.call, trio.sleep, 1)
        await trio.testing.wait_all_tasks_blocked()
        assert bulkhead.statistics().queued == 2
        with pytest.raises(BulkheadFull):
            await bulkhead.call(ok)
        assert trio.current_time() == 0.0
    assert bulkhead.statistics().completed == 3


async def test_bulkhead_without_places_never_waits(autojump_clock: Clock) -> None:
    """``max_queued=0`` refuses at once whatever the wait would be."""
    bulkhead = make(1, max_wait=10.0, max_queued=0)
    with bulkhead.acquire_nowait(), pytest.raises(BulkheadFull):
        await bulkhead.call(ok)


def test_bulkhead_places_are_bounded_unless_said() -> None:
    """By default at most 10,000 callers wait."""
    assert make(1).statistics().max_queued == 10_000


# --- waiting -------------------------------------------------------------------------------------


async def test_bulkhead_serves_first_come_first_served(autojump_clock: Clock) -> None:
    """Waiting callers get permits in the order in which they came."""
    bulkhead = make(1, max_wait=math.inf)
    order: list[int] = []

    async def caller(number: int) -> None:
        await trio.sleep(number / 100)
        async with bulkhead.acquire():
            order.append(number)
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(caller, number)
    assert order == list(range(20))


async def test_bulkhead_nobody_overtakes_who_waits(autojump_clock: Clock) -> None:
    """A permit that comes back while somebody waits is never free for a newcomer, not even before
    the one who waits has run."""
    bulkhead = make(1, max_wait=10.0)
    permit = bulkhead.acquire_nowait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bulkhead.call, trio.sleep, 1)
        await trio.testing.wait_all_tasks_blocked()
        permit.release()
        assert bulkhead.statistics().queued == 0
        with pytest.raises(BulkheadFull):
            bulkhead.acquire_nowait()


@pytest.mark.parametrize(
    ("max_wait", "timeout", "expected"),
    [(2.0, None, 2.0), (2.0, 0.5, 0.5), (0.0, 3.0, 3.0), (2.0, 5.0, 5.0)],
)
async def test_bulkhead_wait_ends_exactly_when_it_is_over(
    autojump_clock: Clock, max_wait: float, timeout: float | None, expected: float
) -> None:
    """The wait is ``timeout`` where one is given, else ``max_wait``; then comes `QueueTimeout`."""
    bulkhead = make(1, max_wait=max_wait)
    with bulkhead.acquire_nowait():
        with pytest.raises(QueueTimeout) as caught:
            async with bulkhead.acquire(timeout=timeout):
                raise AssertionError("must not run")
        assert trio.current_time() == expected
        assert caught.value.reason == "queue_timeout"
        assert caught.value.retry_after == pytest.approx(expected)  # so long has it stalled
        assert bulkhead.statistics().refused == 1
        assert bulkhead.statistics().queued == 0


async def test_bulkhead_timeout_of_zero_overrides_the_wait(autojump_clock: Clock) -> None:
    """``timeout=0`` does not wait although the bulkhead would."""
    bulkhead = make(1, max_wait=5.0)
    with bulkhead.acquire_nowait():
        with pytest.raises(BulkheadFull):
            await bulkhead.acquire(timeout=0)
        assert trio.current_time() == 0.0


async def test_bulkhead_infinite_wait_waits(autojump_clock: Clock) -> None:
    """``math.inf`` leaves the limit to the caller."""
    bulkhead = make(1, max_wait=math.inf)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bulkhead.call, trio.sleep, 1e6)
        await trio.testing.wait_all_tasks_blocked()
        assert await bulkhead.call(ok) == "ok"
    assert trio.current_time() == 1e6


async def test_bulkhead_permit_back_just_before_the_timeout_is_had(autojump_clock: Clock) -> None:
    """Whoever was handed a permit has it, even if its wait is over before it runs."""
    bulkhead = make(1, max_wait=1.0)
    permit = bulkhead.acquire_nowait()
    got: list[str] = []

    async def waits() -> None:
        got.append(await bulkhead.call(ok))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(waits)
        await trio.testing.wait_all_tasks_blocked()
        permit.release()
        autojump_clock.jump(2.0)
    assert got == ["ok"]
    assert at_rest(bulkhead)


# --- deadlines -----------------------------------------------------------------------------------


async def test_bulkhead_deadline_out_of_reach_refuses_at_once(autojump_clock: Clock) -> None:
    """Whoever would have to wait past its deadline is told now, and how long the wait is."""
    bulkhead = make(1, max_wait=math.inf)
    await bulkhead.call(trio.sleep, 4)
    with bulkhead.acquire_nowait():
        with trio.fail_after(7.9), pytest.raises(DeadlineUnreachable) as caught:
            await bulkhead.call(ok)
        assert trio.current_time() == 4.0
        assert caught.value.retry_after == pytest.approx(4.0)
        assert bulkhead.statistics().refused == 1


async def test_bulkhead_deadline_that_just_fits_waits(autojump_clock: Clock) -> None:
    """Exactly the predicted wait and the service time left is enough."""
    bulkhead = make(1, max_wait=math.inf)
    await bulkhead.call(trio.sleep, 4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bulkhead.call, trio.sleep, 4)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(8.0):
            assert await bulkhead.call(ok) == "ok"
    assert trio.current_time() == 8.0


async def test_bulkhead_short_deadline_with_a_free_permit_runs(autojump_clock: Clock) -> None:
    """A slow past is not held against whoever can start at once."""
    bulkhead = make(1)
    await bulkhead.call(trio.sleep, 100)
    with trio.fail_after(0.1):
        assert await bulkhead.call(ok) == "ok"


async def test_bulkhead_wait_stops_at_the_callers_deadline(autojump_clock: Clock) -> None:
    """A caller cut off while it waits leaves the line, and is no refusal."""
    bulkhead = make(1, max_wait=10.0)
    with bulkhead.acquire_nowait():
        with trio.move_on_after(1) as scope:
            await bulkhead.call(ok)
        assert scope.cancelled_caught
        assert trio.current_time() == 1.0
        statistics = bulkhead.statistics()
        assert (statistics.queued, statistics.refused) == (0, 0)


# --- resizing ------------------------------------------------------------------------------------


async def test_bulkhead_more_permits_are_handed_out_at_once(autojump_clock: Clock) -> None:
    """Two more permits let exactly those two run who have waited the longest."""
    bulkhead = make(1, max_wait=math.inf)
    ran: list[int] = []

    async def caller(number: int) -> None:
        async with bulkhead.acquire():
            ran.append(number)
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(caller, number)
            await trio.testing.wait_all_tasks_blocked()
        bulkhead.resize(3)
        assert bulkhead.statistics().active == 3
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(ran) == [0, 1, 2]
        assert bulkhead.max_concurrent == 3
    assert at_rest(bulkhead)


async def test_bulkhead_more_permits_than_waiters_leaves_the_rest_free() -> None:
    """What nobody waits for stays free."""
    bulkhead = make(1)
    with bulkhead.acquire_nowait():
        bulkhead.resize(3)
        assert bulkhead.statistics().active == 1
        with bulkhead.acquire_nowait(), bulkhead.acquire_nowait(), pytest.raises(BulkheadFull):
            bulkhead.acquire_nowait()


async def test_bulkhead_fewer_permits_drain_lazily(autojump_clock: Clock) -> None:
    """Nobody who runs is stopped; nobody enters before so many have left that there is room."""
    bulkhead = make(3, max_wait=math.inf)
    entered: list[tuple[int, float]] = []

    async def caller(number: int) -> None:
        async with bulkhead.acquire():
            entered.append((number, trio.current_time()))
            await trio.sleep(number + 1)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(caller, number)
            await trio.testing.wait_all_tasks_blocked()
        bulkhead.resize(1)
        assert bulkhead.statistics().active == 3
    # 0, 1 and 2 ran from the start until 1, 2 and 3; 3 came when the last of them left.
    assert entered == [(0, 0.0), (1, 0.0), (2, 0.0), (3, 3.0), (4, 7.0)]
    assert at_rest(bulkhead)


async def test_bulkhead_prediction_after_shrinking_counts_who_must_leave_first(
    autojump_clock: Clock,
) -> None:
    """With two more running than allowed, three have to leave before anybody enters."""
    bulkhead = make(3)
    await bulkhead.call(trio.sleep, 2)
    permits = [bulkhead.acquire_nowait() for _ in range(3)]
    bulkhead.resize(1)
    assert bulkhead.predicted_wait() == pytest.approx(6.0)
    for permit in permits:
        permit.release()
    assert bulkhead.predicted_wait() == 0.0


async def test_bulkhead_prediction_counts_a_stall_from_the_resize(autojump_clock: Clock) -> None:
    """Who entered by a resize has run no longer than since then."""
    bulkhead = make(1, max_wait=math.inf)
    permit = bulkhead.acquire_nowait()
    await trio.sleep(6)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bulkhead.call, trio.sleep, 1)
        await trio.testing.wait_all_tasks_blocked()
        bulkhead.resize(2)
        assert bulkhead.predicted_wait() == 0.0
        await trio.sleep(0.5)
        assert bulkhead.predicted_wait() == pytest.approx(0.25)
    permit.release()


async def test_bulkhead_resize_to_the_same_number_says_nothing() -> None:
    """No change, no record."""
    events: list[BulkheadEvent] = []
    bulkhead = make(2, listeners=[events.append])
    bulkhead.resize(2)
    assert events == []


# --- permits -------------------------------------------------------------------------------------


async def test_bulkhead_permit_released_twice_is_an_error(autojump_clock: Clock) -> None:
    """The second release says so, and gives nothing back that is not held."""
    bulkhead = make(2)
    permit = bulkhead.acquire_nowait()
    other = bulkhead.acquire_nowait()
    permit.release()
    with pytest.raises(RuntimeError, match="not held"):
        permit.release()
    assert bulkhead.statistics().active == 1
    other.release()


async def test_bulkhead_permit_released_early_leaves_its_block_in_peace() -> None:
    """Both kinds of block accept that the permit has gone already."""
    bulkhead = make()
    with bulkhead.acquire_nowait() as permit:
        permit.release()
    async with bulkhead.acquire() as permit:
        permit.release()
        assert at_rest(bulkhead)
    assert bulkhead.statistics().completed == 2


async def test_bulkhead_permit_still_to_be_had_refuses_a_plain_with() -> None:
    """``with bulkhead.acquire():`` would run without a permit, and is an error."""
    bulkhead = make()
    with pytest.raises(RuntimeError, match="async with"):
        with bulkhead.acquire():
            raise AssertionError("must not run")
    with pytest.raises(RuntimeError, match="not held"):
        bulkhead.acquire().release()
    assert at_rest(bulkhead)


async def test_bulkhead_permit_can_be_awaited_and_had_again() -> None:
    """``await`` gives the permit itself; once it is back, it can be waited for anew."""
    bulkhead = make()
    permit = bulkhead.acquire()
    assert await permit is permit
    permit.release()
    async with permit as same:
        assert same is permit
        assert bulkhead.statistics().active == 1
    assert at_rest(bulkhead)


async def test_bulkhead_permit_is_not_had_twice(autojump_clock: Clock) -> None:
    """A permit that is held, or that another task waits for, cannot be taken: one would be lost."""
    bulkhead = make(3, max_wait=math.inf)
    async with bulkhead.acquire() as permit:
        with pytest.raises(RuntimeError, match="already"):
            await permit
    with bulkhead.acquire_nowait() as permit, pytest.raises(RuntimeError, match="already"):
        await permit
    assert at_rest(bulkhead)

    shared = bulkhead.acquire()
    errors: list[RuntimeError] = []

    async def user() -> None:
        try:
            async with shared:
                await trio.sleep(1)
        except RuntimeError as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(user)
        nursery.start_soon(user)
    assert len(errors) == 1
    assert at_rest(bulkhead)


async def test_bulkhead_permit_refused_can_be_tried_again() -> None:
    """A refusal leaves the permit as it was."""
    bulkhead = make()
    permit = bulkhead.acquire()
    with bulkhead.acquire_nowait(), pytest.raises(BulkheadFull):
        await permit
    async with permit:
        assert bulkhead.statistics().active == 1


# --- blocks, calls, decorator --------------------------------------------------------------------


async def test_bulkhead_block_serves_many_tasks_and_nests(autojump_clock: Clock) -> None:
    """One object is entered by many tasks at once, each of which may nest."""
    bulkhead = make(10)
    most = 0

    async def caller(seconds: float) -> None:
        nonlocal most
        async with bulkhead:
            await trio.sleep(seconds)
            async with bulkhead:
                most = max(most, bulkhead.statistics().active)
                await trio.sleep(seconds)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(caller, 1 + number / 10)
    assert 5 < most <= 10
    assert at_rest(bulkhead)
    assert bulkhead.statistics().completed == 10


async def test_bulkhead_nested_blocks_keep_their_own_times(autojump_clock: Clock) -> None:
    """The inner block is left first, and each is measured from when it was entered."""
    events: list[BulkheadEvent] = []
    bulkhead = make(2, listeners=[events.append])
    async with bulkhead:
        await trio.sleep(1)
        async with bulkhead:
            await trio.sleep(2)
        await trio.sleep(4)
    assert [e.seconds for e in events if isinstance(e, BulkheadLeft)] == [2.0, 7.0]


async def test_bulkhead_block_waits_and_refuses_too(autojump_clock: Clock) -> None:
    """``async with bulkhead:`` obeys ``max_wait``, and a refusal keeps nothing."""
    bulkhead = make(1, max_wait=1.0)
    with bulkhead.acquire_nowait():
        with pytest.raises(QueueTimeout):
            async with bulkhead:
                raise AssertionError("must not run")
        assert trio.current_time() == 1.0
    assert at_rest(bulkhead)


@pytest.mark.parametrize("way", ["call", "block", "permit"])
async def test_bulkhead_gives_back_after_an_error(way: str) -> None:
    """What the work raises goes on, and the permit comes back."""
    bulkhead = make()

    async def fail() -> None:
        raise WorkError

    for _ in range(3):
        with pytest.raises(WorkError):
            if way == "call":
                await bulkhead.call(fail)
            elif way == "block":
                async with bulkhead:
                    raise WorkError
            else:
                async with bulkhead.acquire():
                    raise WorkError
    assert at_rest(bulkhead)
    assert bulkhead.statistics().completed == 3


async def test_bulkhead_call_hands_over_arguments_and_result() -> None:
    """``call(work, *args)`` is ``await work(*args)``."""

    async def add(a: int, b: int) -> int:
        return a + b

    assert await make().call(add, 2, 3) == 5


async def test_bulkhead_decorates_async_functions() -> None:
    """A decorated function keeps its name and arguments, and runs with a permit."""
    bulkhead = make(1)

    @bulkhead
    async def greet(name: str, *, loud: bool = False) -> str:
        """Greet."""
        assert bulkhead.statistics().active == 1
        return name.upper() if loud else name

    assert (greet.__name__, greet.__doc__) == ("greet", "Greet.")
    assert await greet("ada", loud=True) == "ADA"
    assert at_rest(bulkhead)


async def test_bulkhead_ways_in_are_checkpoints() -> None:
    """A cancelled caller gets no further than the way in, and takes nothing."""
    bulkhead = make()
    with trio.CancelScope() as scope:
        scope.cancel()
        await bulkhead.call(ok)
    assert scope.cancelled_caught
    for block in (bulkhead, bulkhead.acquire()):
        with trio.CancelScope() as scope:
            scope.cancel()
            async with block:
                raise AssertionError("must not run")
        assert scope.cancelled_caught
    with trio.testing.assert_checkpoints():
        async with bulkhead:
            pass
    with trio.testing.assert_checkpoints():
        async with bulkhead.acquire():
            pass
    assert at_rest(bulkhead)
    assert bulkhead.statistics().completed == 2


# --- statistics and listeners --------------------------------------------------------------------


async def test_bulkhead_statistics_are_a_frozen_snapshot(autojump_clock: Clock) -> None:
    """Every figure is what happened, and a snapshot stays what it was."""
    bulkhead = make(2, max_wait=5.0, max_queued=7)
    before = bulkhead.statistics()
    await bulkhead.call(trio.sleep, 3)
    after = bulkhead.statistics()
    assert attrs.asdict(before) == {
        "name": "test",
        "active": 0,
        "queued": 0,
        "max_concurrent": 2,
        "max_queued": 7,
        "completed": 0,
        "refused": 0,
        "mean_service": None,
    }
    assert after == attrs.evolve(before, completed=1, mean_service=3.0)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        after.active = 5  # type: ignore[misc]


async def test_bulkhead_listener_hears_of_everything_in_order(autojump_clock: Clock) -> None:
    """One record for each entry, departure, refusal and resize, with its figures."""
    events: list[BulkheadEvent] = []
    bulkhead = make(1, max_wait=3.0, listeners=[events.append])
    permit = bulkhead.acquire_nowait()
    with pytest.raises(BulkheadFull):
        bulkhead.acquire_nowait()
    async with trio.open_nursery() as nursery:
        await trio.sleep(0.5)
        nursery.start_soon(bulkhead.call, trio.sleep, 1)
        await trio.sleep(2)
        permit.release()
    bulkhead.resize(4)
    error = WorkError()
    with pytest.raises(WorkError):
        async with bulkhead:
            raise error
    assert events == [
        BulkheadEntered("test", 0.0, 0.0),
        BulkheadRefused("test", "bulkhead_full", 0.0, 0.0),
        BulkheadLeft("test", 2.5, None, 2.5),
        BulkheadEntered("test", 2.0, 2.5),
        BulkheadLeft("test", 1.0, None, 3.5),
        BulkheadResized("test", 1, 4, 3.5),
        BulkheadEntered("test", 0.0, 3.5),
        BulkheadLeft("test", 0.0, error, 3.5),
    ]


async def test_bulkhead_listener_that_raises_harms_nobody(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Calls go on, the other listeners hear, the permit comes back, and the log says so."""
    heard: list[BulkheadEvent] = []

    def broken(_: BulkheadEvent) -> None:
        raise WorkError

    bulkhead = make(1, listeners=[broken, heard.append])
    assert await bulkhead.call(ok) == "ok"
    with bulkhead.acquire_nowait(), pytest.raises(BulkheadFull):
        await bulkhead.call(ok)
    bulkhead.resize(2)
    assert len(heard) == 6
    assert len(caplog.records) == 6
    assert at_rest(bulkhead)


async def test_bulkhead_listener_sees_the_settled_state(autojump_clock: Clock) -> None:
    """When a record comes, the statistics say the same already."""
    seen: list[tuple[str, int, int, int]] = []

    def look(event: BulkheadEvent) -> None:
        now = bulkhead.statistics()
        seen.append((type(event).__name__, now.active, now.completed, now.refused))

    bulkhead = make(1, listeners=[look])
    with bulkhead.acquire_nowait(), pytest.raises(BulkheadFull):
        bulkhead.acquire_nowait()
    assert seen == [
        ("BulkheadEntered", 1, 0, 0),
        ("BulkheadRefused", 1, 0, 1),
        ("BulkheadLeft", 0, 1, 1),
    ]


def test_bulkhead_is_a_policy_of_its_kind() -> None:
    """What a pipeline reads."""
    bulkhead = make(1, max_wait=2.5)
    assert (bulkhead.kind, bulkhead.name, bulkhead.max_wait) == (Kind.BULKHEAD, "test", 2.5)
    assert bulkhead.obeys_cancellation


# --- cancellation --------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["call", "block", "permit"])
async def test_bulkhead_is_at_rest_wherever_the_running_caller_is_cancelled(
    autojump_clock: Clock, way: str
) -> None:
    """Cancelled at any checkpoint, on the way in or inside, a caller gives its permit back."""

    async def scenario(point: CancellationPoint) -> None:
        bulkhead = make(1)
        with point:
            if way == "call":
                await bulkhead.call(trio.sleep, 1)
            else:
                async with bulkhead if way == "block" else bulkhead.acquire():
                    await trio.sleep(1)
        assert at_rest(bulkhead)
        assert await bulkhead.call(ok) == "ok"

    assert await sweep_cancellations(scenario) >= (1 if way == "call" else 2)


@pytest.mark.parametrize("way", ["call", "block", "permit"])
async def test_bulkhead_is_at_rest_wherever_a_waiting_caller_is_cancelled(
    autojump_clock: Clock, way: str
) -> None:
    """A caller in line that is cancelled leaves it, and those behind it move up."""

    async def scenario(point: CancellationPoint) -> None:
        bulkhead = make(1, max_wait=100.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bulkhead.call, trio.sleep, 1)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(bulkhead.call, trio.sleep, 1)
            with point:
                if way == "call":
                    await bulkhead.call(trio.sleep, 1)
                else:
                    async with bulkhead if way == "block" else bulkhead.acquire():
                        await trio.sleep(1)
        assert at_rest(bulkhead)
        assert bulkhead.statistics().completed >= 2
        assert bulkhead.statistics().refused == 0

    assert await sweep_cancellations(scenario) >= 2


async def test_bulkhead_cancelled_right_after_the_hand_over_gives_back(
    autojump_clock: Clock,
) -> None:
    """A permit handed to a caller that is cancelled before it runs is not lost."""
    bulkhead = make(1, max_wait=10.0)
    permit = bulkhead.acquire_nowait()
    ran: list[str] = []

    async def waits(scope: trio.CancelScope) -> None:
        with scope:
            await bulkhead.call(trio.lowlevel.checkpoint)
            ran.append("first")

    async def waits_behind() -> None:
        ran.append(await bulkhead.call(ok))

    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        nursery.start_soon(waits, scope)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(waits_behind)
        await trio.testing.wait_all_tasks_blocked()
        permit.release()
        scope.cancel()
    assert ran == ["ok"]
    assert at_rest(bulkhead)


async def test_bulkhead_is_at_rest_after_a_storm(autojump_clock: Clock) -> None:
    """A thousand tasks, cancelled at random while they wait or run, leave nothing behind, and
    there are never more at once than permits."""
    chance = random.Random(7)
    bulkhead = make(8, max_wait=0.8, max_queued=400)
    running = most = 0
    outcomes: dict[str, int] = {}

    async def work(seconds: float) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await trio.sleep(seconds)
        finally:
            running -= 1

    async def caller(start: float, seconds: float, patience: float) -> None:
        await trio.sleep(start)
        outcome = "cancelled"
        with trio.move_on_after(patience):
            try:
                await bulkhead.call(work, seconds)
                outcome = "done"
            except Rejected as refusal:
                outcome = refusal.reason
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    async with trio.open_nursery() as nursery:
        for _ in range(1000):
            nursery.start_soon(
                caller, chance.random() * 5, chance.random() / 5, chance.random() * 1.5
            )
    assert most == 8
    assert at_rest(bulkhead)
    assert set(outcomes) >= {"done", "cancelled", "queue_timeout", "deadline_unreachable"}
    refused = sum(outcomes.get(r, 0) for r in ("bulkhead_full", "queue_timeout"))
    assert bulkhead.statistics().refused == refused + outcomes["deadline_unreachable"]
    permits = [bulkhead.acquire_nowait() for _ in range(8)]  # none is lost
    for permit in permits:
        permit.release()


# --- misuse --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_concurrent": 0}, "max_concurrent"),
        ({"max_concurrent": -1}, "max_concurrent"),
        ({"max_concurrent": 1.5}, "max_concurrent"),
        ({"max_concurrent": True}, "max_concurrent"),
        ({"max_wait": -0.1}, "max_wait"),
        ({"max_wait": math.nan}, "max_wait"),
        ({"max_queued": -1}, "max_queued"),
        ({"max_queued": 2.5}, "max_queued"),
    ],
)
def test_bulkhead_nonsense_is_refused_by_name(options: dict[str, Any], named: str) -> None:
    """Each parameter that makes no sense is named."""
    with pytest.raises(ValueError, match=rf"^{named} "):
        make(**options)


@pytest.mark.parametrize("timeout", [-1.0, math.nan])
def test_bulkhead_nonsense_timeout_is_refused(timeout: float) -> None:
    """A wait that cannot be is refused when it is asked for."""
    with pytest.raises(ValueError, match=r"^timeout "):
        make().acquire(timeout=timeout)


async def test_bulkhead_nonsense_size_is_refused_and_changes_nothing() -> None:
    """A bulkhead without permits would be a wall."""
    bulkhead = make(2)
    with pytest.raises(ValueError, match=r"^max_concurrent "):
        bulkhead.resize(0)
    assert bulkhead.max_concurrent == 2
    bulkhead.resize(1)
    assert bulkhead.max_concurrent == 1


def test_bulkhead_outside_trio_says_so_and_loses_nothing() -> None:
    """Where there is no clock nothing is taken, nothing given back, nothing resized."""
    bulkhead = make(1)
    with pytest.raises(RuntimeError):
        bulkhead.acquire_nowait()
    with pytest.raises(RuntimeError):
        bulkhead.resize(2)
    assert at_rest(bulkhead)
    assert bulkhead.max_concurrent == 1

    async def take() -> Any:
        return bulkhead.acquire_nowait()

    async def give_back() -> None:
        permit.release()

    permit = trio.run(take)
    with pytest.raises(RuntimeError):
        permit.release()
    assert bulkhead.statistics().active == 1
    trio.run(give_back)
    assert at_rest(bulkhead)
