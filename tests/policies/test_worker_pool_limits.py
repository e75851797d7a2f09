"""The limits of a worker pool's jobs: deadlines and cancellation."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from bulkhead_trio.errors import (
    DeadlineExceeded,
    DeadlineUnreachable,
)
from bulkhead_trio.policies.worker_pool import (
    open_worker_pool,
)
from bulkhead_trio.testing import CancellationPoint, sweep_cancellations


async def double(value: int) -> int:
    await trio.sleep(1)
    return 2 * value


async def test_worker_pool_refuses_unreachable_deadlines(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Who would wait beyond its deadline, or have no time left to work, is refused at once."""
    async with open_worker_pool("test", workers=1, queue=5) as pool:
        await pool.call(trio.sleep, 4)
        pool.submit_nowait(trio.sleep, 4)
        began = trio.current_time()
        for seconds in (3, 7.9):
            with trio.move_on_after(seconds), pytest.raises(DeadlineUnreachable) as caught:
                await pool.run_job(double, 1)
            assert trio.current_time() == began
            assert caught.value.retry_after == pytest.approx(4)
        with trio.fail_after(8):  # just enough
            await pool.run_job(double, 1)
        assert pool.statistics().refused == 2


async def test_worker_pool_refuses_no_deadline_without_a_reason(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """While nothing is known of how long jobs take, even who has little time may wait."""
    async with open_worker_pool("test", workers=1, queue=5) as pool:
        pool.submit_nowait(trio.sleep, 0.1)
        with trio.fail_after(0.5):
            await pool.run_job(trio.sleep, 0.1)


async def test_worker_pool_idle_worker_is_not_kept_from_anybody(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """However long jobs have taken: who finds a worker idle may try, and so it can get better."""
    async with open_worker_pool("test", workers=1, queue=5) as pool:
        await pool.call(trio.sleep, 100)
        with trio.fail_after(2):
            await pool.run_job(double, 1)


async def test_worker_pool_job_has_its_owners_deadline(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Inside a job one can see how long its owner will wait; a job without owner has no limit."""
    deadlines: list[float] = []

    async def job() -> None:
        deadlines.append(trio.current_effective_deadline())

    async with open_worker_pool("test", workers=1, queue=5) as pool:
        with trio.fail_after(7) as scope:
            await pool.run_job(job)
            pool.submit_nowait(job)
        deadline = scope.deadline
    assert deadlines == [deadline, float("inf")]


async def test_worker_pool_deadline_ends_the_job_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The owner's deadline passes in the job: both end at that moment."""
    async with open_worker_pool("test", workers=1, queue=5) as pool:
        with trio.move_on_after(3) as scope:
            await pool.run_job(trio.sleep, 10)
        assert scope.cancelled_caught
        assert trio.current_time() == pytest.approx(scope.deadline)
        assert pool.statistics().active == 0


async def test_worker_pool_deadline_moved_later_is_not_the_jobs(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A job keeps the deadline it was given with; its owner, who has more time now, is told."""
    async with open_worker_pool("test", workers=1, queue=5) as pool:
        with trio.fail_after(3) as scope:
            async with trio.open_nursery() as nursery:

                async def later() -> None:
                    await trio.sleep(1)
                    scope.deadline += 100

                nursery.start_soon(later)
                with pytest.raises(DeadlineExceeded):
                    await pool.run_job(trio.sleep, 10)
        assert pool.statistics().active == 0


# --- cancellation ---------------------------------------------------------------------------------


async def test_worker_pool_cancelled_owner_takes_its_job_along(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Waiting, the job leaves its place; running, it is cancelled, and over when that returns."""
    ended: list[str] = []

    async def job(name: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            ended.append(name)

    async with open_worker_pool("test", workers=1, queue=1) as pool:
        async with trio.open_nursery() as owners:
            owners.start_soon(pool.run_job, job, "running")
            await trio.testing.wait_all_tasks_blocked()
            async with trio.open_nursery() as waiting:
                waiting.start_soon(pool.run_job, job, "waiting")
                await trio.testing.wait_all_tasks_blocked()
                assert pool.statistics().queued == 1
                waiting.cancel_scope.cancel()
            assert pool.statistics().queued == 0
            owners.cancel_scope.cancel()
        assert ended == ["running"]
        statistics = pool.statistics()
        assert (statistics.active, statistics.completed, statistics.failed) == (0, 1, 0)
        assert await pool.call(double, 1) == 2


async def test_worker_pool_cancelled_before_its_job_begins(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Handed to an idle worker and cancelled in the same moment, a job does not begin."""
    begun = False

    async def job() -> None:
        nonlocal begun
        begun = True

    async with open_worker_pool("test", workers=1, queue=1) as pool:
        async with trio.open_nursery() as owners:
            owners.start_soon(pool.run_job, job)
            await trio.lowlevel.cancel_shielded_checkpoint()
            owners.cancel_scope.cancel()
        assert not begun
        assert pool.statistics().completed == pool.statistics().shed == 0


@pytest.mark.parametrize("is_busy", [False, True])
async def test_worker_pool_cancelled_at_every_checkpoint_is_at_rest(
    autojump_clock: trio.testing.MockClock, is_busy: bool
) -> None:
    """Wherever an owner is cancelled nothing of its job is left, and the pool works on."""

    async def scenario(point: CancellationPoint) -> None:
        async with open_worker_pool("test", workers=1, queue=1) as pool:
            if is_busy:
                pool.submit_nowait(trio.sleep, 1)
            with point:
                await pool.run_job(double, 1)
            statistics = pool.statistics()
            assert statistics.queued == 0
            if not point.was_cancelled:
                assert statistics.completed == 1 + is_busy
            assert await pool.call(double, 2) == 4
        assert pool.statistics().active == 0

    assert await sweep_cancellations(scenario) >= 1


async def test_worker_pool_storm_of_cancellations_leaves_no_jobs(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Owners who give up leave no entries, so that the places are there for others."""
    async with open_worker_pool("test", workers=1, queue=100) as pool:
        pool.submit_nowait(trio.sleep, 1)
        for _ in range(5):
            async with trio.open_nursery() as owners:
                for _ in range(100):
                    owners.start_soon(pool.run_job, double, 1)
                await trio.testing.wait_all_tasks_blocked()
                assert pool.statistics().queued == 100
                owners.cancel_scope.cancel()
            assert pool.statistics().queued == 0
