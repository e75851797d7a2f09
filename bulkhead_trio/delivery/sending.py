"""The workers of a pipeline: each takes what was claimed, sends it, and says what became of it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, Generic, TypeVar

import trio

from bulkhead_trio.database.delivery_records import AttemptRecord
from bulkhead_trio.database.work_records import Finished
from bulkhead_trio.delivery._claim_rules import Pace
from bulkhead_trio.delivery._schedule_rules import RetrySchedule
from bulkhead_trio.delivery.finisher import Finisher
from bulkhead_trio.delivery.leases import Held, Run
from bulkhead_trio.delivery.slowness import Slowness
from bulkhead_trio.delivery.statistics import Tally
from bulkhead_trio.delivery.stores import Work

W = TypeVar("W", bound=Work)

MISTAKE: Final = "it could not be sent, by a mistake of this server"
TOO_LONG: Final = "it took too long"

_log = logging.getLogger("bulkhead_trio.delivery")


def utc_now() -> datetime:
    """The time as people are told it."""
    return datetime.now(UTC)


class Sending(Generic[W]):
    """Sends what is held, one at a time for each worker that calls `work`.

    Args:
        run: the pipeline's.
        send: sends one, and says what became of it.
        finisher: is given what became of each.
        schedule: says when something is tried again whose send raised.
        limit_seconds: the longest that one send may take, whatever it does.
        slowness: is told how long each send took.
        on_taken: called whenever a worker has taken something: there is room again.
        wall_clock: the time as people are told it.
    """

    def __init__(
        self,
        run: Run[W],
        send: Callable[[W], Awaitable[Finished]],
        finisher: Finisher[W],
        *,
        schedule: RetrySchedule,
        limit_seconds: float,
        slowness: Slowness[W],
        on_taken: Callable[[], None],
        wall_clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._name = run.name
        self._send = send
        self._holdings = run.holdings
        self._finisher = finisher
        self._schedule = schedule
        self._limit_seconds = limit_seconds
        self._slowness = slowness
        self._on_taken = on_taken
        self._wall_clock = wall_clock
        self._uniform = run.uniform
        self.tally = Tally()
        self._pace = Pace()
        self._active = 0
        self._most_active = 0
        self._mistakes = 0

    @property
    def pace(self) -> Pace:
        """How long sends take lately."""
        return self._pace

    @property
    def active(self) -> int:
        """Sends under way."""
        return self._active

    @property
    def most_active(self) -> int:
        """The most that ever were at once."""
        return self._most_active

    @property
    def mistakes(self) -> int:
        """Sends that raised, or never came to an end."""
        return self._mistakes

    async def work(self, queue: trio.MemoryReceiveChannel[Held[W]]) -> None:
        """One worker, until ``queue`` is closed and empty."""
        async for held in queue:
            self._on_taken()
            await self._deal_with(held)

    async def _deal_with(self, held: Held[W]) -> None:
        """Send it and hand on what became of it, unless it is no longer ours.

        Cancelled from outside, it stays held, and whoever cancels gives it back.
        """
        began = trio.current_time()
        if held.is_lost or began >= held.lease_until:
            self._holdings.lose(held)
            return
        self._active += 1
        held.begun_at = began
        self._most_active = max(self._most_active, self._active)
        try:
            result = await self._try(held, began)
        finally:
            self._active -= 1
            held.begun_at = None
        if result is None or held.is_lost:
            self._holdings.lose(held)
            return
        seconds = trio.current_time() - began
        if result.attempt is not None:  # what was not tried says nothing of how long tries take
            self._pace = self._pace.sent(seconds)
            self._slowness.sent(held.work.queue_id, seconds)
        self.tally.ended(result, seconds)
        held.result = result
        self._finisher.add(held)

    async def _try(self, held: Held[W], began: float) -> Finished | None:
        """What became of it; ``None``: its lease is lost."""
        why = TOO_LONG
        lease = trio.CancelScope(deadline=held.lease_until)
        held.scope = lease
        try:
            with lease, trio.move_on_after(self._limit_seconds):
                return await self._send(held.work)
        except Exception:  # noqa: BLE001  one that cannot be sent must not end the others
            _log.exception("a send of %s raised", self._name)
            why = MISTAKE
        except BaseExceptionGroup as group:  # the same, and the pipeline is being cancelled
            cancelled, others = group.split(trio.Cancelled)
            if cancelled is None or not isinstance(others, ExceptionGroup):
                raise
            _log.error("a send of %s raised", self._name, exc_info=others)
            raise cancelled from None
        finally:
            held.scope = None
        if lease.cancelled_caught:
            return None
        if why == TOO_LONG:
            _log.error("a send of %s was cut off after %.0f s", self._name, self._limit_seconds)
        self._mistakes += 1
        return self._set_back(held.work, why, trio.current_time() - began)

    def _set_back(self, work: W, why: str, seconds: float) -> Finished:
        """An attempt that came to nothing, as its own schedule has it."""
        number = work.attempts + 1
        wait = self._schedule.wait(number, random=self._uniform())
        attempt = AttemptRecord(
            number=number,
            at=self._wall_clock(),
            status=None,
            error=why,
            duration_ms=round(seconds * 1000),
            response=None,
        )
        return Finished(
            item_id=work.item_id,
            attempts_before=work.attempts,
            attempt=attempt,
            outcome="dead" if wait is None else "retry",
            retry_after_seconds=wait,
            endpoint=None,
        )
