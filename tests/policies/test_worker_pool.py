"""The worker pool: results, errors, places, deadlines and cancellation."""

from __future__ import annotations

import contextvars
import gc
import weakref
from collections.abc import Callable

import pytest
import trio
import trio.testing

from bulkhead_trio.errors import (
    BulkheadFull,
    Rejected,
    Shed,
)
from bulkhead_trio.policies.context import request_context
from bulkhead_trio.policies.policy import Kind
from bulkhead_trio.policies.queue import BoundedQueue, FairQueue, Priority, PriorityQueue
from bulkhead_trio.policies.worker_pool import (
    Job,
    JobFailed,
    JobShed,
    LineBroken,
    WorkerPool,
    WorkerPoolEvent,
    WorkerPoolStatistics,
    open_worker_pool,
)

number = contextvars.ContextVar("number", default=0)


async def double(value: int) -> int:
    await trio.sleep(1)
    return 2 * value


async def test_worker_pool_hands_results_back(autojump_clock: trio.testing.MockClock) -> None:
    """Each caller gets its own result; no more run at once than there are workers."""
    results: dict[int, int] = {}
    began = trio.current_time()

    async def caller(value: int) -> None:
        results[value] = await pool.call(double, value)

    async with open_worker_pool("test", workers=2, queue=4) as pool:
        assert (pool.name, pool.kind) == ("test", Kind.BULKHEAD)
        async with trio.open_nursery() as nursery:
            for value in range(6):
                nursery.start_soon(caller, value)
            await trio.testing.wait_all_tasks_blocked()
            statistics = pool.statistics()
            assert (statistics.active, statistics.queued) == (2, 4)
    assert results == {value: 2 * value for value in range(6)}
    assert trio.current_time() - began == pytest.approx(3)
    assert pool.statistics() == WorkerPoolStatistics(
        name="test",
        active=0,
        queued=0,
        workers=2,
        places=4,
        completed=6,
        failed=0,
        refused=0,
        shed=0,
    )


async def test_worker_pool_decorates(autojump_clock: trio.testing.MockClock) -> None:
    """As every policy it can stand before a function."""
    async with open_worker_pool("test", workers=1, queue=0) as pool:
        assert await pool(double)(4) == 8


async def test_worker_pool_error_goes_to_who_waits(autojump_clock: trio.testing.MockClock) -> None:
    """What a job raises is raised where its result is awaited; its worker goes on."""

    async def fails() -> None:
        await trio.sleep(1)
        raise OSError("no")

    async def fails_at_once() -> None:
        raise OSError("at once")

    def cannot_be_called() -> trio.Event:
        raise OSError("not even called")

    events: list[WorkerPoolEvent] = []
    async with open_worker_pool("test", workers=1, queue=1, listeners=[events.append]) as pool:
        for work in (fails, fails_at_once, cannot_be_called):
            with pytest.raises(OSError, match=r"no|at once"):
                await pool.call(work)  # type: ignore[arg-type]
        assert await pool.call(double, 1) == 2
        statistics = pool.statistics()
        assert (statistics.completed, statistics.failed) == (4, 3)
    assert events == []  # somebody heard it


async def test_worker_pool_error_nobody_waits_for_is_told_and_logged(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Fire and forget does not mean that an error is lost."""
    events: list[WorkerPoolEvent] = []
    error = OSError("nobody home")

    async def fails() -> None:
        await trio.sleep(2)
        raise error

    async with open_worker_pool("test", workers=1, queue=1, listeners=[events.append]) as pool:
        began = trio.current_time()
        pool.submit_nowait(fails)
        pool.submit_nowait(double, 1)
    assert events == [JobFailed("test", error, began + 2)]
    assert "nobody home" in caplog.text
    assert pool.statistics().completed == 2


async def test_worker_pool_refuses_beyond_its_places(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The last place can be had; beyond it both ways in refuse at once, with when to come again."""
    async with open_worker_pool("test", workers=1, queue=2) as pool:
        await trio.sleep(1_000)
        await pool.call(double, 1)  # takes a second
        for _ in range(3):
            pool.submit_nowait(double, 1)
        began = trio.current_time()
        for attempt in range(2):
            with pytest.raises(BulkheadFull) as caught:
                if attempt:
                    pool.submit_nowait(double, 1)
                else:
                    await pool.run_job(double, 1)
            assert caught.value.retry_after == pytest.approx(3.0)
        assert trio.current_time() == began
        statistics = pool.statistics()
        assert (statistics.active, statistics.queued, statistics.refused) == (1, 2, 2)


async def test_worker_pool_without_places_uses_its_idle_workers(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Idle workers take as many jobs as they are, in one go; the next is refused."""
    async with open_worker_pool("test", workers=3, queue=0) as pool:
        for _ in range(3):
            assert pool.predicted_wait() == 0
            pool.submit_nowait(double, 1)
        assert pool.statistics().active == 3
        with pytest.raises(BulkheadFull):
            pool.submit_nowait(double, 1)
        await trio.sleep(2)
        assert pool.predicted_wait() == 0  # also when it is known how long jobs take


async def test_worker_pool_displaced_owner_gets_shed_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Who is displaced hears it once: by an exception, or by its callback and the listeners."""
    events: list[WorkerPoolEvent] = []
    heard: list[Rejected] = []
    outcomes: list[str] = []

    async def caller() -> None:
        with pytest.raises(Shed) as caught:
            await pool.run_job(double, 1, priority=Priority.NORMAL)
        assert caught.value.retry_after is not None
        outcomes.append("shed")

    async with (
        open_worker_pool("test", workers=1, queue=2, listeners=[events.append]) as pool,
        trio.open_nursery() as nursery,
    ):
        pool.submit_nowait(double, 1)
        nursery.start_soon(caller)
        await trio.testing.wait_all_tasks_blocked()
        pool.submit_nowait(double, 1, priority=Priority.LOW, on_shed=heard.append)
        pool.submit_nowait(double, 1, priority=Priority.HIGH)
        at = trio.current_time()
        assert len(heard) == 1
        assert events == [JobShed("test", heard[0], at)]
        assert outcomes == []
        pool.submit_nowait(double, 1, priority=Priority.HIGH)
        await trio.testing.wait_all_tasks_blocked()
        assert outcomes == ["shed"]
    assert (len(heard), len(events), len(outcomes)) == (1, 1, 1)
    statistics = pool.statistics()
    assert (statistics.shed, statistics.completed, statistics.refused) == (2, 3, 0)


async def test_worker_pool_owner_that_raises_when_shed_harms_nobody(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A callback's own error is logged; the job that displaced has its place all the same."""

    def broken(_: object) -> None:
        raise OSError("no space left on device")

    async with open_worker_pool("test", workers=1, queue=1, listeners=[broken]) as pool:
        pool.submit_nowait(double, 1)
        pool.submit_nowait(double, 1, priority=Priority.LOW, on_shed=broken)
        pool.submit_nowait(double, 1, priority=Priority.HIGH)
        assert pool.statistics().queued == 1
    assert pool.statistics().completed == 2
    assert caplog.text.count("no space left on device") >= 2


async def test_worker_pool_serves_the_line_it_is_given(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """By the turns of tenants in a fair line, whose names come from the request or the caller."""
    order: list[str] = []

    async def job(name: str) -> None:
        order.append(name)

    line = FairQueue[Job](100)
    async with open_worker_pool("test", workers=1, queue=line) as pool:
        pool.submit_nowait(trio.sleep, 1)
        with request_context(tenant="greedy"):
            for each in range(3):
                pool.submit_nowait(job, f"greedy {each}")
        pool.submit_nowait(job, "modest", key="modest")
        assert line.waiting("greedy") == 3
    assert order == ["greedy 0", "modest", "greedy 1", "greedy 2"]


async def test_worker_pool_priority_of_the_request(autojump_clock: trio.testing.MockClock) -> None:
    """An urgent request's jobs go first without anybody saying so."""
    order: list[str] = []

    async def job(name: str) -> None:
        order.append(name)

    async with open_worker_pool("test", workers=1, queue=10) as pool:
        pool.submit_nowait(trio.sleep, 1)
        pool.submit_nowait(job, "ordinary")
        with request_context(priority=Priority.HIGH):
            pool.submit_nowait(job, "urgent")
    assert order == ["urgent", "ordinary"]


async def test_worker_pool_job_has_its_owners_context(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A job sees the contextvars of who gave it; what it sets there stays its own."""
    seen: list[int] = []

    async def job() -> None:
        seen.append(number.get())
        number.set(99)
        await trio.lowlevel.checkpoint()
        seen.append(number.get())

    async with open_worker_pool("test", workers=1, queue=10) as pool:
        for value in (1, 2):
            number.set(value)
            pool.submit_nowait(job)
        number.set(3)
        await pool.call(job)
        assert number.get() == 3
    assert seen == [1, 99, 2, 99, 3, 99]


# --- bombs ----------------------------------------------------------------------------------------


class ExplodingLine(PriorityQueue[Job]):
    """Breaks whoever asks it for the next job, the first ``bombs`` times."""

    bombs = 1

    def take_nowait(self) -> Job:
        if self.bombs:
            self.bombs -= 1
            raise RuntimeError("a mistake in the line")
        return super().take_nowait()


async def test_worker_pool_broken_line_is_contained(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The waiting are shed, the running are left alone, and the workers live on."""
    events: list[WorkerPoolEvent] = []
    heard: list[Rejected] = []
    line = ExplodingLine(5)
    async with open_worker_pool("test", workers=2, queue=line, listeners=[events.append]) as pool:
        pool.submit_nowait(trio.sleep, 1)
        pool.submit_nowait(trio.sleep, 3)
        for _ in range(3):
            pool.submit_nowait(double, 1, on_shed=heard.append)
        await trio.sleep(2)
        assert [reason.retry_after for reason in heard] == [0, 0, 0]
        assert [type(event) for event in events] == [JobShed] * 3 + [LineBroken]
        assert pool.statistics().active == 1
        assert await pool.call(double, 1) == 2
    assert pool.statistics().completed == 3
    assert "a mistake in the line" in caplog.text


async def test_worker_pool_survives_every_error_of_its_jobs(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Groups of errors, errors in a nursery, a cancellation of the job's own: all are just jobs."""

    async def group() -> None:
        raise ExceptionGroup("many", [OSError("a"), ValueError("b")])

    async def nursery() -> None:
        async with trio.open_nursery() as inner:
            inner.start_soon(trio.sleep_forever)
            raise OSError("beside a task")

    async def cancels_itself() -> str:
        with trio.CancelScope() as scope:
            scope.cancel()
            await trio.sleep(1)
        return "fine"

    async def refuses() -> None:
        raise BulkheadFull("another bulkhead's")

    async with open_worker_pool("test", workers=1, queue=10) as pool:
        for work in (group, nursery, refuses):
            pool.submit_nowait(work)
            with pytest.raises((ExceptionGroup, BulkheadFull)):
                await pool.call(work)
        assert await pool.call(cancels_itself) == "fine"
        statistics = pool.statistics()
        assert (statistics.completed, statistics.failed, statistics.refused) == (7, 6, 0)


async def test_worker_pool_cancelled_job_that_raises_tells_its_error(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A job that fails while it is being cancelled has failed."""
    events: list[WorkerPoolEvent] = []

    async def job() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("while cleaning up")

    pool = WorkerPool("test", workers=1, queue=1, listeners=[events.append])
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        pool.submit_nowait(job)
        await trio.testing.wait_all_tasks_blocked()
        await pool.aclose(drain=False)
    assert [type(event) for event in events] == [JobFailed]
    assert pool.statistics().failed == 1


async def test_worker_pool_keeps_nothing_of_a_job(autojump_clock: trio.testing.MockClock) -> None:
    """Once it has ended, its arguments, result and error are gone, without a garbage collection."""

    class Thing(Exception):
        pass

    async def back(thing: Thing) -> Thing:
        return thing

    async def fails(_: Thing) -> None:
        raise Thing

    references: list[weakref.ref[Thing]] = []
    async with open_worker_pool("test", workers=1, queue=1) as pool:
        gc.disable()
        try:
            for work in (back, fails):
                thing = Thing()
                references.append(weakref.ref(thing))
                try:
                    await pool.call(work, thing)
                except Thing as error:
                    references.append(weakref.ref(error))
                del thing
                await trio.testing.wait_all_tasks_blocked()
            assert [reference() for reference in references] == [None] * 3
        finally:
            gc.enable()


# --- nonsense -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: WorkerPool("test", workers=0, queue=1), "workers"),
        (lambda: WorkerPool("test", workers=1, queue=-1), "queue"),
        (lambda: WorkerPool("test", workers=1, queue=1.5), "queue"),  # type: ignore[arg-type]
        (lambda: WorkerPool("test", workers=1, queue=BoundedQueue(1)), "BoundedQueue"),  # type: ignore[arg-type]
    ],
)
def test_worker_pool_refuses_nonsense(make: Callable[[], WorkerPool], name: str) -> None:
    """A size or a line that means nothing is refused by name."""
    with pytest.raises(ValueError, match=name):
        make()
