"""The worker pool, where jobs fail while they are cancelled, and lines while they are broken."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from bulkhead_trio.errors import Rejected
from bulkhead_trio.policies._jobs import Job, JobFailed, WorkerPoolEvent
from bulkhead_trio.policies.queue import PriorityQueue
from bulkhead_trio.policies.worker_pool import WorkerPool


async def fails_to_tidy_up() -> None:
    """One of its tasks is cancelled, another raises as it is: a group of both."""

    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("no space left on device")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(child)
        nursery.start_soon(trio.sleep_forever)


async def test_worker_pool_cancelled_keeps_what_its_jobs_raise_from_its_owner(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """What a job raises as the pool is cancelled goes where it belongs, not out of ``run``."""
    told: list[WorkerPoolEvent] = []
    pool = WorkerPool("test", workers=2, queue=0, listeners=[told.append])
    raised: list[BaseException] = []

    async def caller() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            await pool.run_job(fails_to_tidy_up)
        raised.append(caught.value)

    async with trio.open_nursery() as callers:
        async with trio.open_nursery() as owner:
            await owner.start(pool.run)
            callers.start_soon(caller)
            pool.submit_nowait(fails_to_tidy_up)
            await trio.testing.wait_all_tasks_blocked()
            owner.cancel_scope.cancel()
        # Here without an error: the nursery has seen a cancellation and nothing else.
    (event,) = told
    assert isinstance(event, JobFailed)
    for error in (raised[0], event.error):
        assert isinstance(error, ExceptionGroup)
        assert error.subgroup(ValueError) is not None
        assert error.split(ValueError)[1] is None
    statistics = pool.statistics()
    assert (statistics.active, statistics.completed, statistics.failed) == (0, 2, 2)


class BrokenLine(PriorityQueue[Job]):
    """Never knows who is next."""

    broke = 0

    def take_nowait(self) -> Job:
        self.broke += 1
        raise OSError("who is next?")


async def test_worker_pool_broken_line_leaves_others_their_turn(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Whoever comes again at once to a line that breaks each time does not stop the program."""
    line = BrokenLine(1)
    pool = WorkerPool("test", workers=1, queue=line)
    most = 100

    def again(_: Rejected) -> None:
        if line.broke < most:
            pool.submit_nowait(trio.sleep, 0, on_shed=again)

    async with trio.open_nursery() as owner:
        await owner.start(pool.run)
        pool.submit_nowait(trio.sleep, 1)
        pool.submit_nowait(trio.sleep, 0, on_shed=again)
        await trio.sleep(1)
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        assert 0 < line.broke < most
        await trio.sleep(1)
        assert line.broke == most
        assert pool.statistics().queued == 0
        owner.cancel_scope.cancel()
