"""Writes down what became of sends, many at a time, and keeps it until it is written.

While the database is away results wait here and hold their places, so that nothing new is claimed
meanwhile: memory stays bounded, and what was delivered is not forgotten. Whether a result still
counts when the database is back, the database says: it counts under the same lease only, and where
somebody else has taken the work meanwhile, it is dropped and the delivery happens again.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final, Generic, TypeVar

import msgspec
import trio

from bulkhead_trio.database.work_records import Finished
from bulkhead_trio.delivery._signal import Bell
from bulkhead_trio.delivery.backoff import STORE_SECONDS, Backoff, is_outage
from bulkhead_trio.delivery.leases import Held, Run
from bulkhead_trio.delivery.stores import Work
from bulkhead_trio.policies.deadline import deadline

W = TypeVar("W", bound=Work)

BATCH: Final = 100
"""Results that one transaction writes at most."""

_IDLE_SECONDS: Final = 3600.0

UNWRITABLE: Final = "what came back could not be written down"
"""Instead of an attempt's own words, where the database refuses those."""

_log = logging.getLogger("bulkhead_trio.delivery")


class Finisher(Generic[W]):
    """One pipeline's writer of results.

    Args:
        run: the pipeline's; a result that is written is held no more.
        on_written: called after each batch: an endpoint may have room again.
    """

    def __init__(
        self,
        run: Run[W],
        *,
        on_written: Callable[[], None],
    ) -> None:
        self._name = run.name
        self._store, self._owner, self._holdings = run.store, run.owner, run.holdings
        self._on_written = on_written
        self._backoff = Backoff(f"writing results of {run.name}", uniform=run.uniform)
        self._waiting: deque[Held[W]] = deque()
        self._bell = Bell()
        self._emptied = trio.lowlevel.ParkingLot()
        self._written = 0
        self._outdated = 0
        self._unwritable = 0

    @property
    def waiting(self) -> int:
        """Results that are not written yet."""
        return len(self._waiting)

    @property
    def written(self) -> int:
        """Results that counted."""
        return self._written

    @property
    def outdated(self) -> int:
        """Results that came too late: somebody else had the work by then."""
        return self._outdated

    @property
    def unwritable(self) -> int:
        """Results that the database refused even without their words; their work comes again."""
        return self._unwritable

    def add(self, held: Held[W]) -> None:
        """Have ``held``'s result written; never waits."""
        self._waiting.append(held)
        self._bell.ring()

    async def run(self) -> None:
        """Write until cancelled; what is not written by then stays in `waiting`."""
        while True:
            while self._waiting:
                await self._write_some()
            self._emptied.unpark_all()
            await self._bell.wait(_IDLE_SECONDS)

    async def wait_empty(self) -> None:
        """Wait until everything is written."""
        while self._waiting:
            await self._emptied.park()

    # --- inside ----------------------------------------------------------------------------------

    async def _write_some(self) -> None:
        batch = list(islice(self._waiting, BATCH))
        try:
            counted = await self._write([held.result for held in batch if held.result is not None])
        except Exception as error:  # noqa: BLE001  one result must not hold the others back
            if is_outage(error):
                await self._backoff.wait_after(error)
            else:
                _log.exception("results of %s could not be written together", self._name)
                await self._write_singly(batch)
            return
        self._over(batch, counted)

    async def _write_singly(self, batch: Sequence[Held[W]]) -> None:
        """Find the one that the database refuses; the others are written."""
        for held in batch:
            result = held.result
            assert result is not None  # noqa: S101  it was added with one
            try:
                counted = await self._write_or_strip(result)
            except Exception as error:  # noqa: BLE001
                if is_outage(error):
                    await self._backoff.wait_after(error)
                    return
                # Its lease runs out, and it is tried again: better than to say what is not so.
                _log.exception("a result of %s cannot be written", self._name)
                self._unwritable += 1
                self._take_out([held])
            else:
                self._over([held], counted)

    async def _write_or_strip(self, result: Finished) -> int:
        """Write it; without what the receiver said, if that is what the database refuses."""
        try:
            return await self._write([result])
        except Exception as error:
            if is_outage(error) or result.attempt is None:
                raise
            bare = msgspec.structs.replace(result.attempt, error=UNWRITABLE, response=None)
        return await self._write([msgspec.structs.replace(result, attempt=bare)])

    async def _write(self, results: Sequence[Finished]) -> int:
        with deadline(STORE_SECONDS):
            counted = await self._store.finish(self._owner, results)
        self._backoff.succeeded()
        return counted

    def _over(self, batch: Sequence[Held[W]], counted: int) -> None:
        self._written += counted
        self._outdated += len(batch) - counted
        self._take_out(batch)

    def _take_out(self, batch: Sequence[Held[W]]) -> None:
        # Only this task takes from the left, so these are still the first.
        for held in batch:
            self._waiting.popleft()
            self._holdings.let_go(held)
        self._on_written()
