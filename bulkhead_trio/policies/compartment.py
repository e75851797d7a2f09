"""A compartment: a bulkhead with a supervisor of its own.

A `trio.CapacityLimiter` of ``workers`` tokens bounds what runs, a bounded line bounds what waits,
and a supervisor task, owned by the nursery that runs `Compartment.run`, hands each token that
becomes free to whoever has waited longest. Work runs in its caller's task: the caller's deadline
and cancellation reach it wherever it is, and a supervisor's crash reaches nobody who already runs.

When nobody waits and a token is free, the caller takes it at once and the supervisor is not asked.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Hashable, Iterable
from types import TracebackType
from typing import TypeVar, TypeVarTuple

import attrs
import trio

from bulkhead_trio.errors import BulkheadFull, DeadlineUnreachable, Shed
from bulkhead_trio.policies._checks import check_whole
from bulkhead_trio.policies._entries import Entries
from bulkhead_trio.policies.listeners import tell
from bulkhead_trio.policies.policy import Kind, Policy
from bulkhead_trio.policies.queue._rules import DrainRate
from bulkhead_trio.policies.queue.bounded import BoundedQueue
from bulkhead_trio.policies.queue.line import WaitingLine

T = TypeVar("T")
Args = TypeVarTuple("Args")

FIRST_RESTART_SECONDS = 0.1
LONGEST_RESTART_SECONDS = 10.0
"""A crashed supervisor is restarted after 0.1 s, then twice as long each time, up to 10 s."""

STEADY_SECONDS = 60.0
"""A supervisor that has lived this long starts again from the shortest restart delay."""


@attrs.frozen
class CompartmentStatistics:
    """What a compartment holds at one moment, and has counted since it was made."""

    active: int
    queued: int
    workers: int
    places: int
    completed: int
    refused: int
    crashes: int


@attrs.frozen
class SupervisorCrashed:
    """What a listener is told after a supervisor has crashed and its callers were sent away."""

    compartment: str
    error: Exception
    restart_in: float


class Slot:
    """The right to run in a compartment; leaving its ``with`` block gives it back."""

    __slots__ = ("_compartment", "_started")

    def __init__(self, compartment: Compartment) -> None:
        self._compartment = compartment
        self._started = 0.0

    def __enter__(self) -> Slot:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._compartment._leave(self)


class Compartment(Policy):
    """Runs at most ``workers`` pieces of work at once, lets ``queue`` more wait, refuses the rest.

    Who waits is first come, first served, unless another line is given: a `PriorityQueue`, or a
    `FairQueue` for tenants that share it.

    Args:
        name: for statistics and logs.
        workers: how many run at the same time; at least 1.
        queue: how many may wait, or the line they wait in, which is this compartment's alone.
        listeners: told after the supervisor has crashed; what one raises is logged.

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
        queue: int | WaitingLine[Slot],
        listeners: Iterable[Callable[[SupervisorCrashed], None]] = (),
    ) -> None:
        check_whole("workers", workers, minimum=1)
        self.name = name
        self._limiter = trio.CapacityLimiter(workers)
        if not isinstance(queue, WaitingLine):
            check_whole("queue", queue, minimum=0)
            queue = BoundedQueue(queue)
        self._queue: WaitingLine[Slot] = queue
        self._entries = Entries[Slot]()
        self._listeners = tuple(listeners)
        self._changes = trio.lowlevel.ParkingLot()
        self._drain_rate = DrainRate()
        # Tasks in `put`: all who wait, and perhaps some that were taken a moment ago. Nought says
        # that nobody waits, at less cost than asking the line.
        self._in_line = 0
        self._is_running = False
        self._is_supervised = False
        self._restart_at = float("-inf")
        self._completed = 0
        self._refused = 0
        self._crashes = 0

    # --- the way in and out ----------------------------------------------------------------------

    async def acquire(self, *, priority: int | None = None, key: Hashable = None) -> Slot:
        """Wait for a worker; use as ``with await compartment.acquire():``.

        Reads the deadline from the cancel scopes round it: where the predicted wait and the time
        that work usually takes are longer than what remains, it refuses at once instead of letting
        the caller queue to die.

        Args:
            priority: for a line that cares how urgent it is; otherwise as the request says.
            key: for a line that cares whose it is; otherwise the request's tenant.

        Raises:
            BulkheadFull: nobody more may wait; ``retry_after`` is the predicted time to drain.
            DeadlineUnreachable: the deadline would pass before the work could be done.
            Shed: the supervisor went down while this waited, or something more urgent took its
                place.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        slot = Slot(self)
        if not self._enter_nowait(slot):
            await self._wait_in_line(slot, priority, key)
        return slot

    def acquire_nowait(self) -> Slot:
        """Take a worker if one is free and nobody waits for it; use as a ``with`` block.

        Raises:
            trio.WouldBlock: there is none.
        """
        slot = Slot(self)
        if not self._enter_nowait(slot):
            raise trio.WouldBlock
        return slot

    async def __aenter__(self) -> Slot:
        await trio.lowlevel.checkpoint()
        slot = Slot(self)
        if not self._enter_nowait(slot):
            await self._wait_in_line(slot, None, None)
        self._entries.push(slot)
        return slot

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(self._entries.pop())

    async def call(self, work: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
        """Run ``await work(*args)`` inside the compartment; raises what `acquire` and it raise."""
        with await self.acquire():
            return await work(*args)

    def _enter_nowait(self, slot: Slot) -> bool:
        """Take a worker, where one is free and nobody waits for it."""
        if (self._in_line and len(self._queue)) or self._limiter.available_tokens <= 0:
            return False
        self._limiter.acquire_on_behalf_of_nowait(slot)
        slot._started = trio.current_time()
        return True

    async def _wait_in_line(self, slot: Slot, priority: int | None, key: Hashable) -> None:
        now = trio.current_time()
        wait = self.predicted_wait(priority=priority, key=key)
        try:
            if not self._is_supervised:
                raise Shed(
                    f"the supervisor of {self.name} is down",
                    retry_after=max(0.0, self._restart_at - now),
                )
            if not self._queue.has_room(priority=priority, key=key):
                raise BulkheadFull(f"{self.name} is full", retry_after=wait)
            # Held against those who must wait only. Were the time that work takes held against
            # whoever finds a worker free, one slow spell would keep everybody out, and nothing
            # would show that it is over.
            needed = wait + (self._drain_rate.mean_service or 0.0)
            if now + needed > trio.current_effective_deadline():
                raise DeadlineUnreachable(
                    f"the predicted wait in {self.name} is longer than the deadline allows",
                    retry_after=wait,
                )
            self._changes.unpark()  # the supervisor runs once this waits
            self._in_line += 1
            try:
                await self._queue.put(slot, priority=priority, key=key, retry_after=wait)
            finally:
                self._in_line -= 1
        except (BulkheadFull, DeadlineUnreachable, Shed):
            self._refused += 1
            raise
        slot._started = trio.current_time()

    def _leave(self, slot: Slot) -> None:
        now = trio.current_time()
        self._drain_rate = self._drain_rate.departed(now - slot._started, now)
        self._completed += 1
        self._limiter.release_on_behalf_of(slot)
        if self._in_line:
            self._changes.unpark()

    def predicted_wait(self, *, priority: int | None = None, key: Hashable = None) -> float:
        """Seconds that somebody who arrived now would wait for a worker."""
        waiting = len(self._queue) if self._in_line else 0
        if not waiting and self._limiter.available_tokens > 0:
            return 0.0
        now = trio.current_time()
        ahead = self._queue.ahead(priority=priority, key=key) if waiting else 0
        return self._drain_rate.wait_for(
            ahead + 1,
            workers=int(self._limiter.total_tokens),
            saturated_since=self._queue.nonempty_since if waiting else now,
            now=now,
        )

    # --- the supervisor --------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Supervise until cancelled; a crash is contained here and followed by a restart.

        Raises:
            RuntimeError: it is running already.
        """
        if self._is_running:
            raise RuntimeError(f"the compartment {self.name} is running already")
        self._is_running = True
        delay = FIRST_RESTART_SECONDS
        try:
            self._is_supervised = True
            task_status.started()
            while True:
                born = trio.current_time()
                try:
                    await self._supervise()
                except Exception as error:  # noqa: BLE001  containing any crash is its purpose
                    if trio.current_time() - born >= STEADY_SECONDS:
                        delay = FIRST_RESTART_SECONDS
                    self._crashed(error, delay)
                await trio.sleep(delay)
                delay = min(2 * delay, LONGEST_RESTART_SECONDS)
                self._is_supervised = True
        finally:
            self._is_running = self._is_supervised = False
            self._queue.break_off(down_for=0.0)

    async def _supervise(self) -> None:
        """Hand free tokens to those who wait, for ever."""
        while True:
            while len(self._queue) and self._limiter.available_tokens > 0:
                slot = self._queue.take_nowait()
                self._limiter.acquire_on_behalf_of_nowait(slot)
            await self._changes.park()

    def _crashed(self, error: Exception, delay: float) -> None:
        self._crashes += 1
        self._is_supervised = False
        self._restart_at = trio.current_time() + delay
        self._queue.break_off(down_for=delay)
        tell(self._listeners, SupervisorCrashed(self.name, error, delay))

    # --- from outside ----------------------------------------------------------------------------

    def resize(self, *, workers: int) -> None:
        """Change how many run at once; fewer take effect as running work ends.

        Raises:
            ValueError: ``workers`` is below 1.
        """
        check_whole("workers", workers, minimum=1)
        self._limiter.total_tokens = workers
        self._changes.unpark()

    def statistics(self) -> CompartmentStatistics:
        """What the compartment holds now."""
        return CompartmentStatistics(
            active=self._limiter.borrowed_tokens,
            queued=len(self._queue),
            workers=int(self._limiter.total_tokens),
            places=self._queue.places,
            completed=self._completed,
            refused=self._refused,
            crashes=self._crashes,
        )
