"""The process bulkhead: functions and commands in processes of their own, under limits.

What runs there can use up its memory, spin, or crash: it is an error of that one call. A call that
is cancelled has its process killed. Idle processes are kept for the next call, and only while the
bulkhead is open; each has a task in its nursery that sees its end.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final, Self, TypeAlias, TypeVar, TypeVarTuple

import attrs
import trio

from bulkhead_trio.errors import WorkerCrashed
from bulkhead_trio.policies._checks import check_duration, check_whole
from bulkhead_trio.policies.bulkhead._children import Child, Finished, converse
from bulkhead_trio.policies.bulkhead._process_channel import (
    Limits,
    Reply,
    Worker,
    describe_end,
    pack_request,
    start_limited,
)
from bulkhead_trio.policies.bulkhead._sync_policy import SyncPolicy
from bulkhead_trio.policies.bulkhead.bulkhead import (
    Bulkhead,
    BulkheadEvent,
    BulkheadStatistics,
)
from bulkhead_trio.policies.listeners import tell

T = TypeVar("T")
Args = TypeVarTuple("Args")

CLOSE_SECONDS: Final = 10.0
"""For the calls that run when it closes: each kills its process, which is bounded by itself."""

_MIB: Final = 2**20


@attrs.frozen
class ProcessBulkheadStatistics(BulkheadStatistics):
    """What a process bulkhead holds at one moment, and has counted since it was made.

    Attributes:
        idle: worker processes that wait for a call.
        started: worker processes and commands that were ever started.
        crashed: calls whose process ended before it had answered.
    """

    idle: int
    started: int
    crashed: int


@attrs.frozen
class WorkerStarted:
    """A worker process, or a command, was started."""

    bulkhead: str
    pid: int
    at: float


@attrs.frozen
class WorkerEnded:
    """It has ended: by its exit code, or minus the number of the signal that ended it."""

    bulkhead: str
    pid: int
    exit_code: int | None
    at: float


ProcessBulkheadEvent: TypeAlias = BulkheadEvent | WorkerStarted | WorkerEnded


@attrs.frozen
class CommandResult:
    """What a command has left.

    Attributes:
        exit_code: what it exited with.
        stdout: the first bytes that it wrote.
        stderr: the last bytes that it wrote.
        is_truncated: whether it wrote more than is kept, to either.
    """

    exit_code: int
    stdout: bytes
    stderr: bytes
    is_truncated: bool


class ProcessBulkhead(SyncPolicy):
    """At most ``max_concurrent`` processes at once, each of which runs one call.

    Use as ``async with ProcessBulkhead(...) as bulkhead:`` to keep processes from call to call;
    leaving the block kills them, and ends calls that still run with `trio.ClosedResourceError`.
    Never entered, it starts a process for each call.

    The limits guard against accidents. They are no sandbox: a process has its user's rights.

    Args:
        name: for statistics, listeners and messages.
        max_concurrent: processes; 1 or more.
        memory_bytes: address space of each process, the interpreter's own (about 30 MB) included.
        cpu_seconds: CPU time of each call, rounded up by the system: less than a second more.
        max_wait: seconds a caller waits for a place; 0 refuses at once, ``math.inf`` leaves the
            limit to the caller's own deadline.
        max_queued: callers that may wait; by default 10,000.
        calls_per_worker: calls after which a process is replaced; by default never.
        max_message_bytes: the longest pickled call or answer.
        listeners: told of what a `Bulkhead` tells, of `WorkerStarted` and `WorkerEnded`.

    Raises:
        ValueError: a number makes no sense; it is named.
    """

    def __init__(
        self,
        name: str,
        max_concurrent: int,
        *,
        memory_bytes: int | None = None,
        cpu_seconds: float | None = None,
        max_wait: float = 0.0,
        max_queued: int | None = None,
        calls_per_worker: int | None = None,
        max_message_bytes: int = 64 * _MIB,
        listeners: Iterable[Callable[[ProcessBulkheadEvent], None]] = (),
    ) -> None:
        if memory_bytes is not None:
            check_whole("memory_bytes", memory_bytes, minimum=1)
        if cpu_seconds is not None:
            check_duration("cpu_seconds", cpu_seconds)
        if calls_per_worker is not None:
            check_whole("calls_per_worker", calls_per_worker, minimum=1)
        check_whole("max_message_bytes", max_message_bytes, minimum=1)
        self._listeners = tuple(listeners)
        self._bulkhead = Bulkhead(
            name,
            max_concurrent,
            max_wait=max_wait,
            max_queued=max_queued,
            listeners=self._listeners,
        )
        self.name = name
        self.max_wait = max_wait
        self._limits = Limits(memory_bytes, cpu_seconds, max_message_bytes)
        self._calls_per_worker = calls_per_worker
        self._opened: AbstractAsyncContextManager[trio.Nursery] | None = None
        self._nursery: trio.Nursery | None = None
        self._is_closed = False
        self._idle: list[Worker] = []
        self._running: set[trio.CancelScope] = set()
        self._at_rest = trio.Event()
        self._started = 0
        self._crashed = 0

    # --- open and closed -------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Keep processes from now on. It may be opened again after it was closed.

        Raises:
            RuntimeError: it is open already.
        """
        if self._opened is not None:
            raise RuntimeError(f"{self.name} is open already")
        await trio.lowlevel.checkpoint()
        self._opened = trio.open_nursery()
        self._nursery = await self._opened.__aenter__()
        self._is_closed = False
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        opened, nursery = self._opened, self._nursery
        if opened is None or nursery is None:
            raise RuntimeError(f"{self.name} is not open")
        self._is_closed = True
        for scope in self._running:
            scope.cancel()
        with trio.move_on_after(CLOSE_SECONDS, shield=True):
            for worker in self._idle.copy():
                await self._end(worker)
            while self._running:
                self._at_rest = trio.Event()
                await self._at_rest.wait()
        self._opened = self._nursery = None
        nursery.cancel_scope.shield = True
        nursery.cancel_scope.cancel()
        await opened.__aexit__(None, None, None)

    # --- calls -----------------------------------------------------------------------------------

    async def call(self, work: Callable[[*Args], T], *args: *Args) -> T:
        """Run ``work(*args)`` in a worker process.

        ``work`` is found there by its module and name, arguments and result are pickled. It may be
        a function that this bulkhead decorates.

        Raises:
            BulkheadFull: no place is free, and nobody (more) may wait.
            QueueTimeout: the wait was too long.
            DeadlineUnreachable: the wait and the call would outlast the caller's deadline.
            WorkerCrashed: the process ended in the middle of it.
            RemoteError: what it returned or raised cannot be carried over.
            ValueError: it, or an argument, cannot be pickled or is too long.
            TypeError: ``work`` is an async function.
            OSError: no process can be started.
            trio.ClosedResourceError: the bulkhead is closed.
            Exception: what ``work`` raised, with a note that shows where.
        """
        self._refuse_closed()
        request = pack_request(work, args, self._limits.most_bytes)
        async with self._bulkhead.acquire():
            with self._until_closed():
                pid, reply = await self._ask(request)
                result: T = reply.unwrap(pid)
                return result
        raise AssertionError("left without a result")  # pragma: no cover  for the type checker

    async def run_command(
        self,
        command: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        max_output_bytes: int = _MIB,
    ) -> CommandResult:
        """Run a program, without a shell, and wait for its end.

        Args:
            command: the program, looked for in ``PATH``, and its arguments.
            stdin: what it is given to read.
            env: its environment instead of this process's.
            cwd: its working directory instead of this process's.
            max_output_bytes: how much of stdout (its beginning) and of stderr (its end) is kept.

        Raises:
            BulkheadFull, QueueTimeout, DeadlineUnreachable: as for `call`.
            WorkerCrashed: a signal ended it.
            ValueError: the command is empty or has a null character.
            OSError: it cannot be started, `FileNotFoundError` for one.
            trio.ClosedResourceError: the bulkhead is closed.
        """
        self._refuse_closed()
        if not command or any("\0" in word for word in command):
            raise ValueError("command must be a program and its arguments, without null characters")
        check_whole("max_output_bytes", max_output_bytes, minimum=0)
        async with self._bulkhead.acquire():
            with self._until_closed():
                finished = await self._run(command, stdin, env, cwd, max_output_bytes)
                code = finished.exit_code
                if code is None or code < 0:
                    self._crashed += 1
                    raise describe_end(code, self._limits, subject=f"the command {command[0]}")
                return CommandResult(code, finished.stdout, finished.stderr, finished.is_truncated)
        raise AssertionError("left without a result")  # pragma: no cover  for the type checker

    def resize(self, max_concurrent: int) -> None:
        """Change the number of processes; see `Bulkhead.resize`. Idle ones too many end in time.

        Raises:
            ValueError: ``max_concurrent`` is below 1.
        """
        self._bulkhead.resize(max_concurrent)

    def statistics(self) -> ProcessBulkheadStatistics:
        """What the bulkhead holds now."""
        return ProcessBulkheadStatistics(
            **attrs.asdict(self._bulkhead.statistics()),
            idle=len(self._idle),
            started=self._started,
            crashed=self._crashed,
        )

    # --- inside ----------------------------------------------------------------------------------

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError(f"{self.name} is closed")

    @contextlib.contextmanager
    def _until_closed(self) -> Iterator[None]:
        """A running call: closing the bulkhead ends it, and waits for it."""
        self._refuse_closed()  # which may have happened while it waited
        with trio.CancelScope() as scope:
            self._running.add(scope)
            try:
                yield
            finally:
                self._running.remove(scope)
                if not self._running:
                    self._at_rest.set()
        if scope.cancelled_caught:
            self._refuse_closed()

    async def _ask(self, request: bytes) -> tuple[int, Reply]:
        if self._nursery is not None:
            return await self._ask_worker(self._nursery, request)
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            try:
                answered = await self._ask_worker(nursery, request)
            except (WorkerCrashed, OSError) as error:
                failure = error  # raised outside, or the nursery would wrap it
        if failure is not None:
            raise failure
        return answered

    async def _ask_worker(self, nursery: trio.Nursery, request: bytes) -> tuple[int, Reply]:
        await self._make_room(reused=1)
        worker = self._idle.pop() if self._idle else await self._start_worker(nursery)
        is_sound = False
        try:
            reply = await worker.ask(request)
            is_sound = not reply.is_out_of_memory and worker.calls != self._calls_per_worker
        except WorkerCrashed:
            self._crashed += 1
            raise
        finally:
            if is_sound and nursery is self._nursery and not self._is_closed:
                self._idle.append(worker)
            else:
                await self._end(worker)
        return worker.child.pid, reply

    async def _start_worker(self, nursery: trio.Nursery) -> Worker:
        worker = await Worker.start(self._limits)
        nursery.start_soon(self._watch, worker)
        self._tell_started(worker.child)
        return worker

    async def _watch(self, worker: Worker) -> None:
        """See the worker's end: what is asked of it is over, and an idle one is reaped."""
        await worker.wait_ended()
        if worker in self._idle:
            await self._end(worker)

    async def _end(self, worker: Worker) -> None:
        if worker in self._idle:
            self._idle.remove(worker)
        exit_code = await worker.end()
        self._tell_ended(worker.child, exit_code)

    async def _make_room(self, *, reused: int) -> None:
        """End idle workers while there are too many processes, those used longest ago first.

        The calls that run are counted with the one that asks, and so is the worker it will reuse.
        """
        most = self._bulkhead.max_concurrent + reused
        while self._idle and len(self._idle) + len(self._running) > most:
            await self._end(self._idle[0])

    async def _run(
        self,
        command: Sequence[str],
        stdin: bytes,
        env: Mapping[str, str] | None,
        cwd: str | os.PathLike[str] | None,
        most_bytes: int,
    ) -> Finished:
        await self._make_room(reused=0)
        async with start_limited(command, self._limits, env=env, cwd=cwd) as child:
            self._tell_started(child)
            try:
                return await converse(child, stdin, most_bytes=most_bytes)
            finally:
                self._tell_ended(child, child.process.returncode)

    def _tell_started(self, child: Child) -> None:
        self._started += 1
        if self._listeners:
            now = trio.current_time()
            tell(self._listeners, WorkerStarted(self.name, child.pid, now))

    def _tell_ended(self, child: Child, exit_code: int | None) -> None:
        if self._listeners:
            now = trio.current_time()
            tell(self._listeners, WorkerEnded(self.name, child.pid, exit_code, now))
