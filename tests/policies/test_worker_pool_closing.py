"""The end of a worker pool: drained or cut off, by itself, by its block or by its nursery."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from bulkhead_trio.errors import Rejected, Shed
from bulkhead_trio.policies.worker_pool import (
    JobShed,
    WorkerPool,
    WorkerPoolEvent,
    open_worker_pool,
)
from bulkhead_trio.testing import CancellationPoint, sweep_cancellations


async def outcome_of(pool: WorkerPool, seconds: float, outcomes: list[str], name: str) -> None:
    """Have a job sleep, and note how that ended for its owner."""
    try:
        await pool.run_job(trio.sleep, seconds)
    except (Rejected, trio.ClosedResourceError) as error:
        outcomes.append(f"{name}: {type(error).__name__}")
    else:
        outcomes.append(f"{name}: done")


async def test_worker_pool_drains(autojump_clock: trio.testing.MockClock) -> None:
    """Closed gracefully, it does what it has accepted, takes nothing new, and `run` returns."""
    outcomes: list[str] = []
    pool = WorkerPool("test", workers=1, queue=5)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        for name in "ab":
            nursery.start_soon(outcome_of, pool, 1, outcomes, name)
            await trio.testing.wait_all_tasks_blocked()
        pool.submit_nowait(trio.sleep, 1)
        nursery.start_soon(pool.aclose)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.ClosedResourceError, match="test is closed"):
            pool.submit_nowait(trio.sleep, 1)
        with pytest.raises(trio.ClosedResourceError, match="test is closed"):
            await pool.run_job(trio.sleep, 1)
        began = trio.current_time()
        await pool.aclose()
        assert trio.current_time() - began == pytest.approx(3)
    assert outcomes == ["a: done", "b: done"]
    assert pool.statistics().completed == 3
    await pool.aclose()  # for a second time it has nothing to do


async def test_worker_pool_closes_without_draining(autojump_clock: trio.testing.MockClock) -> None:
    """Those that wait are shed, those that run are cancelled, and nothing takes time."""
    outcomes: list[str] = []
    events: list[WorkerPoolEvent] = []
    heard: list[Rejected] = []
    pool = WorkerPool("test", workers=1, queue=5, listeners=[events.append])
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        for name in ("running", "waiting"):
            nursery.start_soon(outcome_of, pool, 1, outcomes, name)
            await trio.testing.wait_all_tasks_blocked()
        pool.submit_nowait(trio.sleep, 1, on_shed=heard.append)
        began = trio.current_time()
        await pool.aclose(drain=False)
        assert trio.current_time() == began
    assert sorted(outcomes) == ["running: ClosedResourceError", "waiting: Shed"]
    assert events == [JobShed("test", heard[0], began)]
    assert isinstance(heard[0], Shed)
    assert heard[0].retry_after == 0
    statistics = pool.statistics()
    assert (statistics.completed, statistics.failed, statistics.shed) == (1, 0, 2)


async def test_worker_pool_closed_before_a_job_begins(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A job that was handed to a worker and never began is shed like those that waited."""
    heard: list[Rejected] = []
    begun = False

    async def job() -> None:
        nonlocal begun
        begun = True

    pool = WorkerPool("test", workers=1, queue=5)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        pool.submit_nowait(job, on_shed=heard.append)
        assert pool.statistics().active == 1
        await pool.aclose(drain=False)
    assert [reason.reason for reason in heard] == ["shed"]
    assert not begun
    statistics = pool.statistics()
    assert (statistics.active, statistics.completed, statistics.shed) == (0, 0, 1)


async def test_worker_pool_drain_can_lose_patience(autojump_clock: trio.testing.MockClock) -> None:
    """Drain for so long, then cut off: a cancelled close leaves the pool closed and at work."""
    outcomes: list[str] = []
    pool = WorkerPool("test", workers=1, queue=5)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        for name, seconds in (("short", 1), ("long", 100)):
            nursery.start_soon(outcome_of, pool, seconds, outcomes, name)
            await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        with trio.move_on_after(5):
            await pool.aclose()
        assert pool.statistics().active == 1
        await pool.aclose(drain=False)
        assert trio.current_time() - began == pytest.approx(5)
    assert outcomes == ["short: done", "long: ClosedResourceError"]


async def test_worker_pool_cancelled_while_it_drains(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """When the nursery goes down in the middle of a drain, whoever waits for it is let go."""
    outcomes: list[str] = []
    pool = WorkerPool("test", workers=1, queue=5)
    async with trio.open_nursery() as outside:
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            for name in ("running", "waiting"):
                outside.start_soon(outcome_of, pool, 10, outcomes, name)
                await trio.testing.wait_all_tasks_blocked()
            outside.start_soon(pool.aclose)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert sorted(outcomes) == ["running: ClosedResourceError", "waiting: Shed"]
    assert pool.statistics().queued == 0


async def test_worker_pool_cancelled_sends_everybody_away(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """When its nursery is cancelled no owner is left waiting, wherever its job was."""
    outcomes: list[str] = []
    heard: list[Rejected] = []
    pool = WorkerPool("test", workers=1, queue=5)
    async with trio.open_nursery() as outside:
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            pool.submit_nowait(trio.sleep, 1, on_shed=heard.append)  # has not begun
            pool.submit_nowait(trio.sleep, 1, on_shed=heard.append)  # waits
            outside.start_soon(outcome_of, pool, 10, outcomes, "waiting")
            nursery.cancel_scope.cancel()
            await trio.lowlevel.cancel_shielded_checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        assert outcomes == ["waiting: Shed"]
        assert [reason.retry_after for reason in heard] == [None, 0]
        with pytest.raises(trio.ClosedResourceError, match="test is not running"):
            pool.submit_nowait(trio.sleep, 1)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)  # it was not closed: it can run again
        await pool.run_job(trio.sleep, 1)
        await pool.aclose()


async def test_worker_pool_has_to_run(autojump_clock: trio.testing.MockClock) -> None:
    """A pool that nobody runs takes no jobs; one that runs is not run twice; closed is closed."""
    pool = WorkerPool("test", workers=1, queue=5)
    with pytest.raises(trio.ClosedResourceError, match="test is not running"):
        await pool.run_job(trio.sleep, 1)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        with pytest.raises(RuntimeError, match="running already"):
            await pool.run()
        await pool.run_job(trio.sleep, 1)
        await pool.aclose()
    with pytest.raises(trio.ClosedResourceError, match="test is closed"):
        await pool.run()
    never = WorkerPool("never", workers=1, queue=5)
    await never.aclose()
    with pytest.raises(trio.ClosedResourceError, match="never is closed"):
        await never.run()


async def test_worker_pool_closed_while_it_starts(autojump_clock: trio.testing.MockClock) -> None:
    """Closed before its workers are there, it ends as they have come, and takes nothing."""
    pool = WorkerPool("test", workers=3, queue=5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.run)
        for _ in range(2):  # it has begun by now, and its workers perhaps
            await trio.lowlevel.checkpoint()
        await pool.aclose()
        with pytest.raises(trio.ClosedResourceError, match="test is closed"):
            pool.submit_nowait(trio.sleep, 1)


async def test_open_worker_pool_drains_at_the_end_of_its_block(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What was given in the block is done when the block is left."""
    done: list[int] = []

    async def job(number: int) -> None:
        await trio.sleep(1)
        done.append(number)

    async with open_worker_pool("test", workers=2, queue=5) as pool:
        for number in range(5):
            pool.submit_nowait(job, number)
    assert sorted(done) == list(range(5))


async def test_open_worker_pool_left_by_an_error_cancels(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The error comes out as it is, at once, and not in a group; the jobs are cancelled."""
    began = trio.current_time()
    with pytest.raises(OSError, match="no reason"):
        async with open_worker_pool("test", workers=1, queue=5) as pool:
            pool.submit_nowait(trio.sleep, 10)
            pool.submit_nowait(trio.sleep, 10)
            await trio.testing.wait_all_tasks_blocked()
            raise OSError("no reason")
    assert trio.current_time() == began
    statistics = pool.statistics()
    assert (statistics.active, statistics.queued, statistics.shed) == (0, 0, 1)


async def test_open_worker_pool_cancelled_at_every_checkpoint_is_at_rest(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Cancelled while it starts, works or drains: no task, no job and no place is left."""

    async def scenario(point: CancellationPoint) -> None:
        pools: list[WorkerPool] = []
        with point:
            async with open_worker_pool("test", workers=2, queue=2) as pool:
                pools.append(pool)
                for _ in range(3):
                    pool.submit_nowait(trio.sleep, 1)
                await pool.run_job(trio.sleep, 1)
        for each in pools:
            statistics = each.statistics()
            assert (statistics.active, statistics.queued) == (0, 0)
            assert statistics.completed + statistics.shed <= 4
            if not point.was_cancelled:
                assert statistics.completed == 4

    assert await sweep_cancellations(scenario) >= 3
