"""Takes events in: many at a time into one transaction, each with its own answer.

One commit costs the database about the same for one event as for a hundred. So a single task takes
whatever has gathered while the last transaction ran, writes it, and answers everybody in it: alone,
an event waits for its own commit only, and under load commits stay as few as they can be.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import attrs
import outcome
import trio

from bulkhead_trio.database.event_records import Added, EventDraft
from bulkhead_trio.delivery._signal import Bell
from bulkhead_trio.delivery.backoff import is_outage
from bulkhead_trio.delivery.stores import EventSink
from bulkhead_trio.delivery.supervision import Supervisor
from bulkhead_trio.errors import (
    BulkheadFull,
    Conflict,
    DatabaseUnavailable,
    DeadlineExceeded,
    Shed,
)
from bulkhead_trio.policies._checks import check_whole
from bulkhead_trio.policies.deadline import deadline

PLACES: Final = 1000
"""Events that may wait to be written; at some 10,000 a second, a tenth of a second of them."""

BATCH: Final = 100
"""Events that one transaction takes at most."""

SHARE: Final = 0.5
"""Of the places that one tenant may have: there is always room for another."""

WRITE_SECONDS: Final = 5.0
"""The longest that a transaction may take; a writer that is stopped ends the one under way."""

CONFLICT: Final = "Another event has this Idempotency-Key."

_IDLE_SECONDS: Final = 3600.0

_log = logging.getLogger("bulkhead_trio.delivery")


@attrs.frozen
class EventWriterStatistics:
    """What the writer holds at one moment, and has counted since it was made.

    Attributes:
        active: events in the transaction that is under way.
        queued: events that wait for the next one.
        places: how many may be here in all.
        written: events that were accepted, or were there already.
        accepted: those of them that were not there before.
        batches: transactions that wrote them.
        refused: events that found no place.
        failed: events whose transaction failed.
        crashes: how often the writer's task had to be started again.
    """

    active: int
    queued: int
    places: int
    written: int
    accepted: int
    batches: int
    refused: int
    failed: int
    crashes: int


@attrs.define(eq=False)
class _Waiter:
    draft: EventDraft
    task: trio.lowlevel.Task
    is_answered: bool = False

    def answer(self, result: outcome.Outcome[Added]) -> None:
        """Wake the one who waits, once; whoever has gone is not there to be woken."""
        if not self.is_answered:
            self.is_answered = True
            trio.lowlevel.reschedule(self.task, result)


class EventWriter:
    """Accepts events; `run` must be running for as long as it is used.

    Args:
        sink: where they are kept.
        on_written: called after each batch: there is something to fan out.
        places: events that may be here at once.
        batch: events that one transaction takes at most.

    Raises:
        ValueError: ``places`` or ``batch`` is below 1.
    """

    def __init__(
        self,
        sink: EventSink,
        *,
        on_written: Callable[[], None] = lambda: None,
        places: int = PLACES,
        batch: int = BATCH,
    ) -> None:
        check_whole("places", places, minimum=1)
        check_whole("batch", batch, minimum=1)
        self._sink = sink
        self._on_written = on_written
        self._places = places
        self._batch = batch
        self._share = max(1, int(places * SHARE))
        self._line: deque[_Waiter] = deque()
        self._writing: Sequence[_Waiter] = ()
        self._of_tenant = Counter[object]()
        self._bell = Bell()
        self._supervisor = Supervisor("the writer of events")
        self._is_running = False
        self._seconds = 0.01  # of a batch, lately
        self._written = 0
        self._accepted = 0
        self._batches = 0
        self._refused = 0
        self._failed = 0

    async def add(self, draft: EventDraft) -> Added:
        """Commit ``draft`` with its place in the outbox, and say under which id.

        Cancelled, or cut off by an error, it may have been committed or not; with an idempotency
        key it can be sent again.

        Raises:
            BulkheadFull: too many events wait already, in all or of this tenant.
            Shed: the writer is not running, or was stopped before this one's turn.
            Conflict: its idempotency key belongs to another event.
            DatabaseUnavailable: the database is away.
            DeadlineExceeded: the database took too long.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_room(draft)
        waiter = _Waiter(draft, trio.lowlevel.current_task())
        self._of_tenant[draft.tenant_id] += 1
        self._line.append(waiter)
        self._bell.ring()

        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            waiter.is_answered = True
            if waiter in self._line:
                self._line.remove(waiter)
            return trio.lowlevel.Abort.SUCCEEDED

        try:
            added: Added = await trio.lowlevel.wait_task_rescheduled(abort)
        finally:
            self._of_tenant[draft.tenant_id] -= 1
            if not self._of_tenant[draft.tenant_id]:
                del self._of_tenant[draft.tenant_id]
        return added

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled. A transaction that is under way is ended first."""
        self._is_running = True
        task_status.started()
        try:
            await self._supervisor.run(self._write_all)
        finally:
            self._is_running = False
            self._send_away(self._line)
            self._line.clear()

    def statistics(self) -> EventWriterStatistics:
        """What the writer holds now."""
        return EventWriterStatistics(
            active=len(self._writing),
            queued=len(self._line),
            places=self._places,
            written=self._written,
            accepted=self._accepted,
            batches=self._batches,
            refused=self._refused,
            failed=self._failed,
            crashes=self._supervisor.crashes,
        )

    # --- inside ----------------------------------------------------------------------------------

    def _check_room(self, draft: EventDraft) -> None:
        if not self._is_running:
            self._refused += 1
            raise Shed("events are not taken now", retry_after=1.0)
        here = len(self._line) + len(self._writing)
        if here >= self._places or self._of_tenant[draft.tenant_id] >= self._share:
            self._refused += 1
            batches = 1 + here // self._batch
            raise BulkheadFull("Too many events wait already.", retry_after=batches * self._seconds)

    async def _write_all(self) -> None:
        while True:
            while self._line:
                await trio.lowlevel.checkpoint_if_cancelled()  # within, nothing is
                await self._write_some()
            await self._bell.wait(_IDLE_SECONDS)

    async def _write_some(self) -> None:
        taken = [self._line.popleft() for _ in range(min(self._batch, len(self._line)))]
        self._writing = taken
        began = trio.current_time()
        try:
            with trio.CancelScope(shield=True):  # ends all the same: every statement has its limit
                await self._write(taken)
        finally:
            self._seconds += 0.2 * (trio.current_time() - began - self._seconds)
            self._writing = ()
            self._send_away(taken)  # whoever has no answer yet

    async def _write(self, taken: Sequence[_Waiter]) -> None:
        """One transaction for all of them; where the database objects to it, one for each."""
        try:
            await self._write_together(taken)
        except Exception as error:  # noqa: BLE001  everybody who waits hears of it
            if is_outage(error) or len(taken) == 1:
                self._fail(taken, error)
                return
            _log.warning("%d events could not be written together: %s", len(taken), error)
        else:
            return
        for number, waiter in enumerate(taken):
            try:
                await self._write_together([waiter])
            except Exception as error:  # noqa: BLE001
                if is_outage(error):
                    self._fail(taken[number:], error)
                    return
                self._fail([waiter], error)

    async def _write_together(self, taken: Sequence[_Waiter]) -> None:
        with deadline(WRITE_SECONDS):
            results = await self._sink.add([waiter.draft for waiter in taken])
        self._batches += 1
        for waiter, result in zip(taken, results, strict=True):
            if isinstance(result, Added):
                self._written += 1
                self._accepted += result.is_new
                waiter.answer(outcome.Value(result))
            else:
                waiter.answer(outcome.Error(Conflict(CONFLICT)))
        self._on_written()

    def _fail(self, taken: Sequence[_Waiter], error: Exception) -> None:
        self._failed += len(taken)
        for waiter in taken:
            waiter.answer(outcome.Error(_of_ones_own(error)))

    def _send_away(self, waiters: Iterable[_Waiter]) -> None:
        for waiter in waiters:
            waiter.answer(outcome.Error(Shed("the event was not written", retry_after=1.0)))


def _of_ones_own(error: Exception) -> Exception:
    """The same for somebody else: one exception that several tasks raise grows without end."""
    if not isinstance(error, DatabaseUnavailable | DeadlineExceeded):
        return error
    own = type(error)(error.message, retry_after=error.retry_after)
    own.__cause__ = error
    return own
