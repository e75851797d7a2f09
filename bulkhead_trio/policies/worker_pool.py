"""A worker pool: a fixed number of tasks that do what is put into a bounded line."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, TypeVarTuple, cast

import outcome
import trio

from bulkhead_trio.errors import (
    BulkheadFull,
    DeadlineExceeded,
    DeadlineUnreachable,
    Rejected,
    Shed,
)
from bulkhead_trio.policies._checks import check_whole
from bulkhead_trio.policies._jobs import (
    Job,
    JobFailed,
    JobShed,
    LineBroken,
    WorkerPoolEvent,
    WorkerPoolStatistics,
)
from bulkhead_trio.policies.listeners import tell
from bulkhead_trio.policies.policy import Kind, Policy
from bulkhead_trio.policies.queue._rules import DrainRate
from bulkhead_trio.policies.queue.line import TicketLine, WaitingLine
from bulkhead_trio.policies.queue.priority import PriorityQueue

__all__ = [
    "Job",
    "JobFailed",
    "JobShed",
    "LineBroken",
    "WorkerPool",
    "WorkerPoolEvent",
    "WorkerPoolStatistics",
    "open_worker_pool",
]

T = TypeVar("T")
Args = TypeVarTuple("Args")

_log = logging.getLogger("bulkhead_trio.worker_pool")


class WorkerPool(Policy):
    """``workers`` tasks do jobs; ``queue`` more jobs wait; the rest are refused.

    `run` owns the workers and must be running: ``await nursery.start(pool.run)``, or
    `open_worker_pool`. A job runs with the contextvars of whoever gave it, and what it raises never
    ends a worker.

    Args:
        name: for statistics, listeners and messages.
        workers: jobs at once; 1 or more.
        queue: jobs that may wait, most urgent first; or the line they wait in, which is this
            pool's alone.
        listeners: told of `JobFailed` and `JobShed`, for jobs that nobody waits for, and of
            `LineBroken`.

    Raises:
        ValueError: ``workers`` is below 1, or ``queue`` negative or a line of tasks.
    """

    kind = Kind.BULKHEAD
    max_wait = math.inf

    def __init__(
        self,
        name: str,
        *,
        workers: int,
        queue: int | TicketLine[Job],
        listeners: Iterable[Callable[[WorkerPoolEvent], None]] = (),
    ) -> None:
        check_whole("workers", workers, minimum=1)
        if isinstance(queue, WaitingLine) and not isinstance(queue, TicketLine):
            raise ValueError(  # noqa: TRY004  as every parameter that makes no sense
                f"queue must be able to hold jobs, and in a {type(queue).__name__} tasks stand "
                "themselves: say a number of places, or give a PriorityQueue or a FairQueue"
            )
        if not isinstance(queue, TicketLine):
            check_whole("queue", queue, minimum=0)
            queue = PriorityQueue(queue)
        self.name = name
        self._workers = workers
        self._queue: TicketLine[Job] = queue
        self._listeners = tuple(listeners)
        self._idle = trio.lowlevel.ParkingLot()
        self._handed: list[Job] = []
        self._empty = trio.Event()
        self._running: set[Job] = set()
        self._is_owned = False
        self._is_open = False
        self._is_closed = False
        self._drain_rate = DrainRate()
        self._completed = 0
        self._failed = 0
        self._refused = 0
        self._shed = 0

    # --- giving jobs -----------------------------------------------------------------------------

    async def call(self, work: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
        """Have a worker run ``await work(*args)`` and wait for its result; see `run_job`."""
        return await self.run_job(work, *args)

    async def run_job(
        self,
        work: Callable[[*Args], Awaitable[T]],
        *args: *Args,
        priority: int | None = None,
        key: Hashable = None,
    ) -> T:
        """Have a worker run ``await work(*args)`` and wait for its result.

        The job has the caller's deadline. Cancelling the caller cancels the job, waiting or
        running, and returns when it has ended.

        Args:
            work: the job.
            args: its arguments.
            priority: how urgent it is; otherwise as the request says.
            key: whose it is, for lines that care; otherwise the request's tenant.

        Raises:
            BulkheadFull: there is no place for it.
            DeadlineUnreachable: the predicted wait and a job's usual time outlast the deadline.
            Shed: it lost its place, or the pool was closed before its turn.
            DeadlineExceeded: the deadline that the caller had when it gave the job passed, and it
                has another one now.
            trio.ClosedResourceError: the pool is closed, or was while the job ran.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        deadline = trio.current_effective_deadline()
        job = Job(lambda: work(*args), deadline=deadline)
        self._add(job, priority, key)
        done = cast("trio.Event", job.done)
        try:
            await done.wait()
        except trio.Cancelled:
            await self._withdraw(job, done)
            raise
        return cast("T", job.take_result().unwrap())

    def submit_nowait(
        self,
        work: Callable[[*Args], Awaitable[object]],
        *args: *Args,
        priority: int | None = None,
        key: Hashable = None,
        on_shed: Callable[[Rejected], None] | None = None,
    ) -> None:
        """Have ``await work(*args)`` run some time, and wait for nothing.

        Args:
            work: the job. What it raises is told to the listeners, and logged.
            args: its arguments.
            priority: how urgent it is; otherwise as the request says.
            key: whose it is, for lines that care; otherwise the request's tenant.
            on_shed: told when the job will not run, because something more urgent took its place
                or the pool was closed before its turn; what it raises is logged.

        Raises:
            BulkheadFull: there is no place for it.
            trio.ClosedResourceError: the pool is closed, or not running yet.
        """

        def shed(reason: Rejected) -> None:
            if on_shed is not None:
                tell((on_shed,), reason)
            if self._listeners:
                tell(self._listeners, JobShed(self.name, reason, trio.current_time()))

        self._add(Job(lambda: work(*args), on_shed=shed), priority, key)

    def _add(self, job: Job, priority: int | None, key: Hashable) -> None:
        if not self._is_open:
            state = "closed" if self._is_closed else "not running"
            raise trio.ClosedResourceError(f"the worker pool {self.name} is {state}")
        if self._idle:  # so nothing waits: no worker rests while there is something
            self._running.add(job)
            self._handed.append(job)
            self._idle.unpark()
            return
        wait = self.predicted_wait(priority=priority, key=key)
        try:
            if not self._queue.has_room(priority=priority, key=key):
                raise BulkheadFull(f"{self.name} is full", retry_after=wait)
            # Held against those who must wait only; see `Compartment`.
            needed = wait + (self._drain_rate.mean_service or 0.0)
            if trio.current_time() + needed > job.scope.deadline:
                raise DeadlineUnreachable(
                    f"waiting for {self.name} and running would outlast the deadline",
                    retry_after=wait,
                )
            job.ticket = self._queue.put_nowait(
                job, priority=priority, key=key, retry_after=wait, on_dropped=job.shed
            )
        except (BulkheadFull, DeadlineUnreachable):
            self._refused += 1
            raise

    async def _withdraw(self, job: Job, done: trio.Event) -> None:
        """Its owner was cancelled: the job leaves the line, or ends."""
        if job.ticket is not None and self._queue.withdraw(job.ticket):
            self._check_empty()
            return
        job.is_unwanted = True
        job.scope.cancel()
        with trio.CancelScope(shield=True):  # the job obeys its own cancellation
            await done.wait()

    def predicted_wait(self, *, priority: int | None = None, key: Hashable = None) -> float:
        """Seconds that a job that came now would wait for a worker."""
        waiting = len(self._queue)
        if not waiting and len(self._running) < self._workers:
            return 0.0
        now = trio.current_time()
        ahead = self._queue.ahead(priority=priority, key=key) if waiting else 0
        return self._drain_rate.wait_for(
            ahead + 1,
            workers=self._workers,
            saturated_since=self._queue.nonempty_since if waiting else now,
            now=now,
        )

    # --- doing them ------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the workers until cancelled, or until `aclose` has let the last job end.

        Raises:
            RuntimeError: it is running already.
            trio.ClosedResourceError: the pool is closed.
        """
        if self._is_owned:
            raise RuntimeError(f"the worker pool {self.name} is running already")
        if self._is_closed:
            raise trio.ClosedResourceError(f"the worker pool {self.name} is closed")
        self._is_owned = True
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(self._workers):
                    nursery.start_soon(self._work)
                while len(self._idle) < self._workers:
                    await trio.lowlevel.checkpoint()
                self._is_open = not self._is_closed
                task_status.started()
                await self._empty.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._is_owned = self._is_open = False
            self._queue.break_off(down_for=0.0)
            self._check_empty()

    async def aclose(self, *, drain: bool = True) -> None:
        """Take no more jobs, for good, and wait until the last one has ended.

        Cancelled while it waits, it leaves the pool as it is, closed and at work; it can be called
        again, with ``drain=False`` if that takes too long.

        Args:
            drain: whether those that wait are done too; otherwise their owners get `Shed`, and
                those that run are cancelled.
        """
        self._is_open = False
        self._is_closed = True
        if not drain:
            self._queue.break_off(down_for=0.0)
            for job in self._running:
                job.scope.cancel()
        self._check_empty()
        await self._empty.wait()

    def _check_empty(self) -> None:
        if self._is_closed and not self._running and not len(self._queue):
            self._empty.set()

    async def _work(self) -> None:
        while True:
            if len(self._queue):
                try:
                    job = self._queue.take_nowait()
                except Exception as error:  # noqa: BLE001  a line's mistake ends no worker
                    self._broke(error)
                    await trio.lowlevel.checkpoint()  # who was shed may have come again
                    continue
                job.ticket = None
                self._running.add(job)
            else:
                await self._idle.park()
                job = self._handed.pop(0)
            await self._do(job)
            del job  # an idle worker keeps nothing alive

    def _broke(self, error: Exception) -> None:
        _log.error("the line of %s broke", self.name, exc_info=error)
        self._queue.break_off(down_for=0.0)
        self._check_empty()
        if self._listeners:
            tell(self._listeners, LineBroken(self.name, error, trio.current_time()))

    async def _do(self, job: Job) -> None:
        began = trio.current_time()
        result: outcome.Outcome[Any] | None = None
        try:
            with job.scope:
                result = await _in_context(job)
        except Exception as error:  # noqa: BLE001  what a job raised beside being cancelled
            result = outcome.Error(error)
        except BaseExceptionGroup as group:  # the same, and the pool is being cancelled
            cancelled, others = group.split(trio.Cancelled)
            if cancelled is None or not isinstance(others, ExceptionGroup):
                raise
            result = outcome.Error(others)
            raise cancelled from None
        finally:
            now = trio.current_time()
            self._running.discard(job)
            if job.has_begun:
                self._completed += 1
                self._drain_rate = self._drain_rate.departed(now - began, now)
            if result is None:
                self._cut_off(job, now)
            else:
                self._ended(job, result, now)
            self._check_empty()

    def _ended(self, job: Job, result: outcome.Outcome[Any], now: float) -> None:
        if isinstance(result, outcome.Error):
            self._failed += 1
            if job.done is None and isinstance(result.error, Exception):
                _log.error("a job of %s failed", self.name, exc_info=result.error)
                if self._listeners:
                    tell(self._listeners, JobFailed(self.name, result.error, now))
        job.settle(result)

    def _cut_off(self, job: Job, now: float) -> None:
        """It was cancelled: by its owner, by its deadline, by closing, or with the whole pool."""
        if now >= job.scope.deadline:
            job.settle(outcome.Error(DeadlineExceeded("the deadline passed while the job ran")))
        elif job.has_begun or job.is_unwanted:
            closed = f"the worker pool {self.name} was closed while the job ran"
            job.settle(outcome.Error(trio.ClosedResourceError(closed)))
        else:
            self._shed += 1
            job.shed(Shed(f"the worker pool {self.name} was closed before the job's turn"))

    def statistics(self) -> WorkerPoolStatistics:
        """What the pool holds now."""
        line = self._queue.statistics()
        return WorkerPoolStatistics(
            name=self.name,
            active=len(self._running),
            queued=line.waiting,
            workers=self._workers,
            places=line.places,
            completed=self._completed,
            failed=self._failed,
            refused=self._refused,
            shed=line.shed + self._shed,
        )


async def _in_context(job: Job) -> outcome.Outcome[Any]:
    """Run the job with its owner's contextvars, in this task, so that scopes reach it.

    Returns:
        its result or error; a cancellation is neither, and passes.
    """
    task = trio.lowlevel.current_task()
    own, task.context = task.context, job.context
    try:
        # A task has its context from its next step on. So the job has a checkpoint before it too:
        # cancelled in time it does not begin, and jobs without any leave room for others.
        await trio.lowlevel.checkpoint()
        job.has_begun = True
        return outcome.Value(await job.work())
    except Exception as error:  # noqa: BLE001  it is handed on, to whoever waits or listens
        return outcome.Error(error)
    finally:
        task.context = own


@asynccontextmanager
async def open_worker_pool(
    name: str,
    *,
    workers: int,
    queue: int | TicketLine[Job],
    listeners: Iterable[Callable[[WorkerPoolEvent], None]] = (),
) -> AsyncIterator[WorkerPool]:
    """A running pool for a block; leaving it drains, leaving it by an exception cancels.

    Takes what `WorkerPool` takes.
    """
    pool = WorkerPool(name, workers=workers, queue=queue, listeners=listeners)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        try:
            yield pool
        except Exception as error:  # noqa: BLE001  raised below, where no nursery makes a group of it
            failure = error
            nursery.cancel_scope.cancel()
        else:
            await pool.aclose()
    if failure is not None:
        raise failure
