"""A worker pool: a fixed number of tasks that do what is put into a bounded line."""

from __future__ import annotations

import contextvars
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeVar, TypeVarTuple, cast

import attrs
import outcome
import trio

from bulkhead_trio.errors import BulkheadFull, DeadlineUnreachable, Rejected, Shed
from bulkhead_trio.policies._checks import check_whole
from bulkhead_trio.policies.listeners import tell
from bulkhead_trio.policies.policy import Kind, Policy
from bulkhead_trio.policies.queue._rules import DrainRate
from bulkhead_trio.policies.queue.line import Ticket, TicketLine
from bulkhead_trio.policies.queue.priority import PriorityQueue

T = TypeVar("T")
Args = TypeVarTuple("Args")

_log = logging.getLogger("bulkhead_trio.worker_pool")


@attrs.frozen
class WorkerPoolStatistics:
    """What a pool holds at one moment, and has counted since it was made.

    Attributes:
        active: jobs that run.
        queued: jobs that wait.
        workers: how many may run at once.
        places: how many may wait.
        completed: jobs that ended by themselves, with a result or an error, or were cancelled.
        failed: those of them that ended with an error.
        refused: jobs that were refused a place.
        shed: jobs that lost theirs.
    """

    name: str
    active: int
    queued: int
    workers: int
    places: int
    completed: int
    failed: int
    refused: int
    shed: int


@attrs.frozen
class JobFailed:
    """A job that nobody waits for raised ``error``."""

    pool: str
    error: Exception
    at: float


@attrs.frozen
class JobShed:
    """A job that nobody waits for lost its place in the line."""

    pool: str
    reason: Rejected
    at: float


WorkerPoolEvent: TypeAlias = JobFailed | JobShed


class Job:
    """What a worker does, and who wants to know; used as the pool's line holds it."""

    __slots__ = ("_done", "_result", "_scope", "_ticket", "context", "is_awaited", "work")

    def __init__(self, work: Callable[[], Awaitable[Any]], *, is_awaited: bool) -> None:
        self.work = work
        self.is_awaited = is_awaited
        self.context = contextvars.copy_context()
        self._scope = trio.CancelScope()
        self._done: trio.Event | None = trio.Event() if is_awaited else None
        self._result: outcome.Outcome[Any] | None = None
        self._ticket: Ticket[Job] | None = None


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
        listeners: told of `JobFailed` and `JobShed`, for jobs that nobody waits for.

    Raises:
        ValueError: ``workers`` is below 1, or ``queue`` negative.
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
        self._is_open = False
        self._drain_rate = DrainRate()
        self._completed = 0
        self._failed = 0
        self._refused = 0

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

        Cancelling the caller cancels the job, waiting or running, and returns when it has ended.

        Args:
            work: the job.
            args: its arguments.
            priority: how urgent it is; otherwise as the request says.
            key: whose it is, for lines that care; otherwise the request's tenant.

        Raises:
            BulkheadFull: there is no place for it.
            DeadlineUnreachable: the predicted wait and a job's usual time outlast the deadline.
            Shed: it lost its place, or the pool was closed before its turn.
            trio.ClosedResourceError: the pool is closed.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._refuse_unreachable(priority, key)
        job = Job(lambda: work(*args), is_awaited=True)
        done = cast("trio.Event", job._done)

        def dropped(reason: Rejected) -> None:
            job._result = outcome.Error(reason)
            done.set()

        self._add(job, priority, key, dropped)
        try:
            await done.wait()
        except trio.Cancelled:
            if job._ticket is not None and self._queue.withdraw(job._ticket):
                self._check_empty()
                raise
            job._scope.cancel()
            with trio.CancelScope(shield=True):  # a job obeys its own cancellation
                await done.wait()
            raise
        return cast("T", cast("outcome.Outcome[Any]", job._result).unwrap())

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
            on_shed: told when the job has lost its place, to something more urgent or because the
                pool was closed; must not raise.

        Raises:
            BulkheadFull: there is no place for it.
            trio.ClosedResourceError: the pool is closed.
        """
        job = Job(lambda: work(*args), is_awaited=False)

        def dropped(reason: Rejected) -> None:
            if on_shed is not None:
                on_shed(reason)
            if self._listeners:
                tell(self._listeners, JobShed(self.name, reason, trio.current_time()))

        self._add(job, priority, key, dropped)

    def _add(
        self,
        job: Job,
        priority: int | None,
        key: Hashable,
        dropped: Callable[[Rejected], None],
    ) -> None:
        if not self._is_open:
            raise trio.ClosedResourceError(f"the worker pool {self.name} is closed")
        if self._idle and not len(self._queue):
            self._hand(job)
            return
        wait = self.predicted_wait(priority=priority, key=key)
        try:
            job._ticket = self._queue.put_nowait(
                job, priority=priority, key=key, retry_after=wait, on_dropped=dropped
            )
        except BulkheadFull:
            self._refused += 1
            raise

    def _hand(self, job: Job) -> None:
        """Give ``job`` to an idle worker: it counts as running from now on."""
        self._running.add(job)
        self._handed.append(job)
        self._idle.unpark()

    def _refuse_unreachable(self, priority: int | None, key: Hashable) -> None:
        if self._is_open and (wait := self.predicted_wait(priority=priority, key=key)) > 0:
            needed = wait + (self._drain_rate.mean_service or 0.0)
            if trio.current_time() + needed > trio.current_effective_deadline():
                self._refused += 1
                raise DeadlineUnreachable(
                    f"waiting for {self.name} and running would outlast the deadline",
                    retry_after=wait,
                )

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
        """
        if self._is_open:
            raise RuntimeError(f"the worker pool {self.name} is running already")
        self._is_open = True
        self._empty = trio.Event()
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(self._workers):
                    nursery.start_soon(self._work)
                while len(self._idle) < self._workers:
                    await trio.lowlevel.checkpoint()
                task_status.started()
                await self._empty.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._is_open = False
            self._queue.break_off(down_for=0.0)

    async def aclose(self, *, drain: bool = True) -> None:
        """Take no more jobs, let those that run end, and wait for that.

        Args:
            drain: whether those that wait are done too; otherwise their owners get `Shed`, and
                those that run are cancelled.
        """
        self._is_open = False
        if not drain:
            self._queue.break_off(down_for=0.0)
            for job in list(self._running):
                job._scope.cancel()
        self._check_empty()
        await self._empty.wait()

    def _check_empty(self) -> None:
        if not self._is_open and not self._running and not len(self._queue):
            self._empty.set()

    async def _work(self) -> None:
        while True:
            if len(self._queue):
                job = self._queue.take_nowait()
                self._running.add(job)
            else:
                await self._idle.park()
                job = self._handed.pop(0)
            await self._do(job)

    async def _do(self, job: Job) -> None:
        began = trio.current_time()
        result: outcome.Outcome[Any] | None = None
        try:
            # A checkpoint of our own: jobs without any must not keep the other tasks from running.
            await trio.lowlevel.checkpoint()
            with job._scope:
                result = await self._in_context(job)
        except Exception as error:  # noqa: BLE001  what a job raised beside being cancelled
            result = outcome.Error(error)
        finally:
            now = trio.current_time()
            self._running.discard(job)
            self._completed += 1
            self._drain_rate = self._drain_rate.departed(now - began, now)
            self._settle(job, result, now)
            self._check_empty()

    async def _in_context(self, job: Job) -> outcome.Outcome[Any]:
        """Run the job with its owner's contextvars, in this task, so that scopes reach it."""
        task = trio.lowlevel.current_task()
        own, task.context = task.context, job.context
        try:
            await trio.lowlevel.cancel_shielded_checkpoint()  # the context is that of the next step
            return await _captured(job.work)
        finally:
            task.context = own
            await trio.lowlevel.cancel_shielded_checkpoint()

    def _settle(self, job: Job, result: outcome.Outcome[Any] | None, now: float) -> None:
        if result is None:  # cancelled: by its owner, by closing, or together with the pool
            result = outcome.Error(Shed(f"the worker pool {self.name} was closed"))
        elif isinstance(result, outcome.Error):
            self._failed += 1
            if not job.is_awaited and isinstance(result.error, Exception):
                _log.error("a job of %s failed", self.name, exc_info=result.error)
                if self._listeners:
                    tell(self._listeners, JobFailed(self.name, result.error, now))
        job._result = result
        if job._done is not None:
            job._done.set()

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
            shed=line.shed,
        )


async def _captured(work: Callable[[], Awaitable[Any]]) -> outcome.Outcome[Any]:
    """The job's result or error; a cancellation is neither, and passes."""
    try:
        return outcome.Value(await work())
    except Exception as error:  # noqa: BLE001  it is handed on, to whoever waits or listens
        return outcome.Error(error)


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
