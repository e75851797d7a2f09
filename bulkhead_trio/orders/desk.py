"""The order desk: takes orders in, and sees each through to its end.

In: the user's token bucket → room in the queue → the intake's bulkhead → the breaker → PostgreSQL.
An order is accepted when it is committed, and in the queue from then on.

Through: the priority queue → a worker → the breaker → PostgreSQL. Memory forgets; the database does
not: an order that is displaced from the queue, whose attempt fails, or that a process took down
with it, is still open there, and the desk's feeder brings it back when there is room.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol, TypeVar, TypeVarTuple

import trio

from bulkhead_trio.database.orders import EndedAttempt, OpenOrder, Order, OrderRecord
from bulkhead_trio.errors import (
    BulkheadFull,
    BulkheadTrioError,
    Conflict,
    DatabaseTooSlow,
    DatabaseUnavailable,
    DeadlineExceeded,
    NotFound,
)
from bulkhead_trio.orders.records import (
    Accepted,
    OrderDeskStatistics,
    OrderEnded,
    OrderListener,
)
from bulkhead_trio.orders.settings import OrderLimits
from bulkhead_trio.policies.breaker import CircuitBreaker
from bulkhead_trio.policies.bulkhead import Bulkhead
from bulkhead_trio.policies.deadline import Deadline, deadline
from bulkhead_trio.policies.listeners import tell
from bulkhead_trio.policies.queue import PriorityQueue
from bulkhead_trio.policies.rate import Decision, KeyedRateLimiter, TokenBucket
from bulkhead_trio.policies.worker_pool import Job, WorkerPool

T = TypeVar("T")
Args = TypeVarTuple("Args")

_log = logging.getLogger("bulkhead_trio.orders")

MOST_FAILURES = 5
"""An order whose processing has failed this often, with the database there, is given up."""

FIRST_SETBACK_SECONDS = 0.5
"""The pause after an attempt that failed; twice as long after each further one, up to a sweep's."""

SWEEP_SECONDS = 30.0
"""Between two looks for orders that nobody has in memory."""

ORPHANED_SECONDS = 60.0
"""An open order to which nothing has happened for so long is taken to be nobody's."""


class OrderStore(Protocol):
    """What the desk needs of where orders are kept; see `PostgresOrderStore`."""

    async def insert(self, order: Order) -> OrderRecord | None:
        """Keep a new order; or the one that is there already."""

    async def find(self, order_id: str) -> OrderRecord | None:
        """The order of that id."""

    async def open_orders(
        self, *, limit: int, idle_seconds: float, excluding: Sequence[str]
    ) -> list[OpenOrder]:
        """What is still to be done, most urgent first."""

    async def count_open(self, *, excluding: Sequence[str]) -> int:
        """How many are still to be done, besides some."""

    async def begin(self, order_id: str) -> int | None:
        """Say that an attempt begins; its number, or ``None`` where the order is done already."""

    async def complete(self, order_id: str) -> bool:
        """Do what the order asks for and mark it completed, both or neither."""

    async def end_attempt(self, order_id: str, *, most_failures: int) -> EndedAttempt | None:
        """Put an order whose attempt failed back, or give it up."""


def is_failure_of_the_store(error: BaseException) -> bool:
    """What the breaker counts: the database away, or given its time and too slow."""
    return isinstance(error, DatabaseUnavailable | DatabaseTooSlow)


class OrderDesk:
    """Accepts orders and processes them; `run` must be running for as long as it is used.

    Args:
        store: where orders are kept.
        limits: how much of everything it gets.
        breaker: in front of the store; should count what `is_failure_of_the_store` says.
        listeners: told of every order that ends here; what one raises is logged.
    """

    def __init__(
        self,
        store: OrderStore,
        *,
        limits: OrderLimits,
        breaker: CircuitBreaker,
        listeners: Iterable[OrderListener] = (),
    ) -> None:
        self._store = store
        self._listeners = tuple(listeners)
        self._limits = limits
        self._quota = KeyedRateLimiter(
            TokenBucket(rate=limits.rate, capacity=limits.burst),
            max_keys=limits.users,
            name="orders a user",
        )
        self._intake = Bulkhead(
            "orders in", limits.intake, max_wait=math.inf, max_queued=limits.intake_queue
        )
        self._breaker = breaker
        self._queue = PriorityQueue[Job](limits.queue)
        self._workers = WorkerPool("orders", workers=limits.workers, queue=self._queue)
        self._in_memory: set[str] = set()
        self._arriving: set[str] = set()
        self._elsewhere = 0  # open, and neither in memory nor arriving, as far as we know
        self._forgotten = 0
        self._is_behind = True  # what an earlier process left is not in memory yet
        self._idle_seconds = 0.0
        self._feeder_wakes = trio.Event()
        self._setbacks = 0
        self._refill_at = -math.inf
        self._cooling: dict[str, float] = {}

    # --- in --------------------------------------------------------------------------------------

    def take_quota(self, user_id: str) -> Decision:
        """Take one order from the user's quota; whether it may pass is in the decision."""
        return self._quota.acquire_nowait(user_id)

    async def accept(self, order: Order, *, timeout: float | None = None) -> Accepted:
        """Commit ``order``, and have it processed.

        Cancelled, or cut off by an error, it may have been accepted or not: sent again, it is
        accepted once.

        Args:
            order: all of it.
            timeout: the caller's own limit in seconds, where it is shorter than the desk's.

        Raises:
            BulkheadFull: the queue is full of orders as urgent as this one, or the backlog is.
            Conflict: the id is taken by another user's order, or one with another amount.
            CircuitOpen: the database has been failing.
            DeadlineUnreachable: the wait to get it written would outlast the deadline.
            DeadlineExceeded: the deadline passed.
            DatabaseUnavailable: the database is away.
        """
        if order.order_id not in self._in_memory:
            self._check_room(order.priority)
        is_first = order.order_id not in self._arriving
        self._arriving.add(order.order_id)
        try:
            with Deadline.starting_now(limit=self._limits.timeout, asked=timeout).enforced():
                self._breaker.check()
                async with self._intake.acquire():
                    present = await self._ask(self._store.insert, order)
        except (DeadlineExceeded, DatabaseUnavailable, trio.Cancelled):
            self._fall_behind()  # it may be committed for all that
            raise
        finally:
            if is_first:
                self._arriving.discard(order.order_id)
        if present is None:
            self._enqueue(order.order_id, order.priority)
            return Accepted(is_new=True, waiting=self._waiting())
        if (present.order.amount, present.order.user_id) != (order.amount, order.user_id):
            raise Conflict("There is another order with this id.")
        return Accepted(is_new=False, waiting=self._waiting())

    async def find(self, order_id: str, *, timeout: float | None = None) -> OrderRecord:
        """The order of that id.

        Raises:
            NotFound: there is none.
            CircuitOpen: the database has been failing.
            BulkheadFull: too many ask at once.
            DeadlineUnreachable: the wait would outlast the deadline.
            DeadlineExceeded: the deadline passed.
            DatabaseUnavailable: the database is away.
        """
        with Deadline.starting_now(limit=self._limits.timeout, asked=timeout).enforced():
            self._breaker.check()
            async with self._intake.acquire():
                record = await self._ask(self._store.find, order_id)
        if record is None:
            raise NotFound("There is no order with this id.")
        return record

    def statistics(self) -> OrderDeskStatistics:
        """What the desk holds now."""
        return OrderDeskStatistics(
            waiting=self._waiting(),
            is_full=len(self._queue) >= self._queue.places,
            workers=self._workers.statistics(),
            intake=self._intake.statistics(),
            breaker=self._breaker.statistics(),
        )

    def _check_room(self, priority: int) -> None:
        is_backlog_full = len(self._in_memory) + self._elsewhere >= self._limits.backlog
        if is_backlog_full or not self._queue.has_room(priority=priority):
            wait = self._workers.predicted_wait(priority=priority)
            raise BulkheadFull("Too many orders wait already.", retry_after=wait)

    def _waiting(self) -> int:
        return len(self._queue) + self._elsewhere

    async def _ask(self, work: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
        """Ask the store, through the breaker, within the time that a statement may take.

        A caller's own deadline is a scope outside the permit: when that one ends the call, the
        breaker sees a cancellation, which says nothing of the database.
        """
        with self._breaker.permit():
            try:
                with deadline(self._limits.query_timeout):
                    return await work(*args)
            except DeadlineExceeded as error:
                raise DatabaseTooSlow("the database took too long") from error

    # --- through ---------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the workers and the feeder until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._workers.run)
            nursery.start_soon(self._feed)
            task_status.started()

    def _enqueue(self, order_id: str, priority: int) -> None:
        if order_id in self._in_memory:
            return
        self._in_memory.add(order_id)
        try:
            self._workers.submit_nowait(
                self._process,
                order_id,
                priority=priority,
                on_shed=lambda _: self._forget(order_id),
            )
        except BulkheadFull:
            self._forget(order_id)

    def _forget(self, order_id: str) -> None:
        """It is open still, and no longer in memory."""
        self._in_memory.discard(order_id)
        self._elsewhere += 1
        self._forgotten += 1
        self._fall_behind()

    def _fall_behind(self) -> None:
        self._is_behind = True
        self._idle_seconds = 0.0
        self._feeder_wakes.set()

    async def _process(self, order_id: str) -> None:
        """One attempt. Whatever comes of it, the order is open or ended in the database."""
        is_ended = False
        try:
            attempt = await self._ask(self._store.begin, order_id)
            is_ended = attempt is None or await self._attempt(order_id, attempt)
        except BulkheadTrioError as error:
            self._set_back(error)
        except Exception as error:  # noqa: BLE001  whatever it is, the order stays and the desk too
            _log.exception("processing an order failed")
            self._set_back(error)
        finally:
            if is_ended:
                self._in_memory.discard(order_id)
            else:
                self._forget(order_id)
        if self._is_behind:
            self._feeder_wakes.set()

    async def _attempt(self, order_id: str, number: int) -> bool:
        """Complete the order; whether it has ended, one way or the other."""
        try:
            is_done_here = await self._ask(self._store.complete, order_id)
        except BulkheadTrioError:
            raise  # says nothing of the order
        except Exception:  # noqa: BLE001  one order that cannot be done must not stop the others
            _log.exception("attempt %d of an order failed", number)
            ended = await self._ask(self._end_attempt, order_id)
            if ended is None or ended.is_last:
                if ended is not None:
                    tell(self._listeners, OrderEnded(order_id, "failed", number))
                return True
            pause = FIRST_SETBACK_SECONDS * 2.0**ended.failures
            self._cooling[order_id] = trio.current_time() + pause
            return False
        self._setbacks = 0
        if is_done_here:
            tell(self._listeners, OrderEnded(order_id, "completed", number))
        return True

    async def _end_attempt(self, order_id: str) -> EndedAttempt | None:
        return await self._store.end_attempt(order_id, most_failures=MOST_FAILURES)

    def _set_back(self, error: Exception) -> None:
        """The store is in trouble: bring nothing back for a while, longer each time."""
        told = error.retry_after if isinstance(error, BulkheadTrioError) else None
        pause = max(told or 0.0, FIRST_SETBACK_SECONDS * 2.0 ** min(self._setbacks, 10))
        self._setbacks += 1
        self._refill_at = trio.current_time() + min(pause, SWEEP_SECONDS)

    # --- the feeder ------------------------------------------------------------------------------

    async def _feed(self) -> None:
        """Bring open orders back into the queue: at start, when there is room, and now and then.

        Nothing that the store does ends this: it serves the orders, and the server serves more.
        """
        while True:
            room = self._queue.places - len(self._queue)
            if self._is_behind and room > 0 and trio.current_time() >= self._refill_at:
                try:
                    await self._refill(room)
                except BulkheadTrioError as error:
                    self._set_back(error)
                except Exception as error:  # noqa: BLE001
                    _log.exception("reading the open orders failed")
                    self._set_back(error)
            with trio.move_on_after(self._seconds_to_next_look()) as pause:
                await self._feeder_wakes.wait()
            self._feeder_wakes = trio.Event()
            if pause.cancelled_caught and not self._is_behind:
                self._is_behind = True
                # Orders that cooled down are this desk's own; others may be another's.
                self._idle_seconds = 0.0 if self._cool_down() else ORPHANED_SECONDS

    def _seconds_to_next_look(self) -> float:
        now = trio.current_time()
        moments = [now + SWEEP_SECONDS, *self._cooling.values()]
        if self._is_behind and self._refill_at > now:
            moments.append(self._refill_at)
        return max(0.0, min(moments) - now)

    def _cool_down(self) -> bool:
        """Forget the pauses that are over; whether there were any."""
        now = trio.current_time()
        over = [order_id for order_id, until in self._cooling.items() if until <= now]
        for order_id in over:
            del self._cooling[order_id]
        return bool(over)

    async def _refill(self, room: int) -> None:
        idle_seconds, self._is_behind = self._idle_seconds, False
        try:
            found = await self._ask(self._read_open, room, idle_seconds)
        except BaseException:
            self._is_behind = True
            raise
        # More may be left, and whoever fell behind in the meantime has said so again.
        self._is_behind = self._is_behind or len(found) == room
        for each in found:
            if each.order_id not in self._in_memory:
                self._elsewhere = max(0, self._elsewhere - 1)
                self._enqueue(each.order_id, each.priority)

    async def _read_open(self, room: int, idle_seconds: float) -> list[OpenOrder]:
        self._cool_down()
        excluding = (*self._in_memory, *self._arriving, *self._cooling)
        before = self._forgotten
        counted = await self._store.count_open(excluding=excluding)
        self._elsewhere = counted + self._forgotten - before
        return await self._store.open_orders(
            limit=room, idle_seconds=idle_seconds, excluding=excluding
        )
