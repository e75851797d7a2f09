"""Keeps so many workers running: starts them, replaces them, has them drain, and never loses one.

It knows no processes: `bulkhead_trio.workers.process` does, and tests have workers of their own.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import attrs
import structlog
import trio

from bulkhead_trio.errors import BulkheadTrioError
from bulkhead_trio.workers._restart_rules import Restarts

START_SECONDS = 60.0
"""The longest that a worker may take until it serves; usually it takes one or two."""

LISTEN_SECONDS = 1.0
SILENT_LOOKS = 10
"""A worker that serves says something each second. One that was not heard at ten looks in a row,
a second apart, hangs: its event loop stands still, and so does every request that it has. Looks are
counted rather than seconds, for the main process may have been stopped itself, and what was said
meanwhile is then there to be heard."""

_log = structlog.get_logger("bulkhead_trio.workers")


class WorkersFailed(BulkheadTrioError):
    """The workers do not come up."""


class Worker(Protocol):
    """One process, as its supervisor sees it.

    Attributes:
        pid: its number in the system.
        ready: set when it serves.
        words: how often it has been heard; it goes up as long as it is well.
    """

    @property
    def pid(self) -> int:
        """Its number in the system."""

    @property
    def ready(self) -> trio.Event:
        """Set when it serves."""

    @property
    def words(self) -> int:
        """How often it has been heard."""

    @property
    def exit_code(self) -> int | None:
        """What it ended with, once it is left; minus the signal's number where one ended it."""

    async def wait_ended(self) -> None:
        """Wait until it has ended."""

    def signal(self, number: int) -> None:
        """Send it a signal; to one that has ended, none."""


Launch = Callable[[int], AbstractAsyncContextManager[Worker]]
"""Starts the worker of that number; leaving kills it, if it still runs."""


@attrs.frozen
class _Ended:
    pid: int | None
    exit_code: int | None
    was_ready: bool


class Supervisor:
    """Owns the workers of a server.

    Args:
        launch: starts one.
        workers: how many there are to be.
        patience: seconds from `stop` until those that still run are killed.
    """

    def __init__(self, launch: Launch, *, workers: int, patience: float) -> None:
        self._launch = launch
        self._count = workers
        self._patience = patience
        self._running: dict[int, Worker] = {}
        self._all_ready = trio.Event()
        self._stopping = trio.Event()
        self._kill_at = math.inf
        self._is_given_up = False

    @property
    def pids(self) -> dict[int, int]:
        """The process of each worker that runs."""
        return {number: worker.pid for number, worker in sorted(self._running.items())}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the workers running until `stop` and until the last has ended.

        It counts as started when all of them serve. Cancelled, it kills them.

        Raises:
            WorkersFailed: none of them serves, and one has failed to come up several times.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_ready, task_status)
            async with trio.open_nursery() as keepers:
                for number in range(self._count):
                    keepers.start_soon(self._keep, number)
            nursery.cancel_scope.cancel()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Replace nobody any more, and pass a signal on to all."""
        if not self._stopping.is_set():
            self._kill_at = trio.current_time() + self._patience
            self._stopping.set()
        for worker in self._running.values():
            worker.signal(number)

    async def _tell_ready(self, task_status: trio.TaskStatus[None]) -> None:
        await self._all_ready.wait()
        task_status.started()

    async def _keep(self, number: int) -> None:
        """One worker after the other, each with the number ``number``."""
        restarts = Restarts()
        while not self._stopping.is_set():
            began = trio.current_time()
            ended = await self._run_one(number)
            lived = trio.current_time() - began
            restarts = restarts.ended(lived=lived, was_ready=ended.was_ready)
            if not self._stopping.is_set():
                await self._regret(number, ended, restarts)

    async def _run_one(self, number: int) -> _Ended:
        """From its launch to its end."""
        try:
            async with self._launch(number) as worker:
                self._running[number] = worker
                if self._stopping.is_set():  # it was being started when the others were told
                    worker.signal(signal.SIGTERM)
                try:
                    await self._watch(number, worker)
                finally:
                    del self._running[number]
        except OSError as error:
            # The system may have no process to spare now, which is no reason to end the others.
            _log.error("worker_not_started", worker=number, error=str(error))
            return _Ended(None, None, was_ready=False)
        return _Ended(worker.pid, worker.exit_code, was_ready=worker.ready.is_set())

    async def _watch(self, number: int, worker: Worker) -> None:
        """Wait for its end, and bring that about when it takes too long for what it does."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._await_ready, number, worker)
            nursery.start_soon(self._kill_in_time, number, worker)
            await worker.wait_ended()
            nursery.cancel_scope.cancel()

    async def _await_ready(self, number: int, worker: Worker) -> None:
        with trio.move_on_after(START_SECONDS):
            await worker.ready.wait()
            _log.info("worker_ready", worker=number, pid=worker.pid)
            if self._ready_ones() == self._count:
                self._all_ready.set()
        if worker.ready.is_set():
            await self._listen(number, worker)
            return
        _log.error("worker_not_ready", worker=number, pid=worker.pid, seconds=START_SECONDS)
        worker.signal(signal.SIGKILL)

    async def _listen(self, number: int, worker: Worker) -> None:
        """Kill a worker that is not heard any more. One that is to stop has its own time."""
        heard, silent = worker.words, 0
        while silent < SILENT_LOOKS and not self._stopping.is_set():
            await trio.sleep(LISTEN_SECONDS)
            silent = silent + 1 if worker.words == heard else 0
            heard = worker.words
        if not self._stopping.is_set():
            seconds = LISTEN_SECONDS * SILENT_LOOKS
            _log.error("worker_silent", worker=number, pid=worker.pid, seconds=seconds)
            worker.signal(signal.SIGKILL)

    async def _kill_in_time(self, number: int, worker: Worker) -> None:
        await self._stopping.wait()
        await trio.sleep_until(self._kill_at)
        _log.error("worker_killed", worker=number, pid=worker.pid, seconds=self._patience)
        worker.signal(signal.SIGKILL)

    async def _regret(self, number: int, ended: _Ended, restarts: Restarts) -> None:
        """Say that a worker is gone, and wait as long as the next one should."""
        _log.error(
            "worker_ended",
            worker=number,
            pid=ended.pid,
            exit_code=ended.exit_code,
            restart_in=restarts.delay,
        )
        if restarts.is_hopeless and not self._ready_ones() and not self._is_given_up:
            self._is_given_up = True  # by all of them, and one says so
            raise WorkersFailed(
                f"no worker serves; number {number} has ended {restarts.failed_starts} times "
                f"before it did, the last time with exit code {ended.exit_code}"
            )
        with trio.move_on_after(restarts.delay):
            await self._stopping.wait()

    def _ready_ones(self) -> int:
        return sum(worker.ready.is_set() for worker in self._running.values())
