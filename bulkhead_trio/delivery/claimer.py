"""Claims what is due, for workers that are free and a little ahead of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final, Generic, TypeVar
from uuid import UUID

import trio

from bulkhead_trio.delivery._signal import Bell
from bulkhead_trio.delivery.backoff import STORE_SECONDS, Backoff, is_outage
from bulkhead_trio.delivery.leases import Held, Run
from bulkhead_trio.delivery.slowness import Slowness
from bulkhead_trio.delivery.stores import Work
from bulkhead_trio.policies.deadline import deadline

W = TypeVar("W", bound=Work)

POLL_SECONDS: Final = 1.0
"""Between two looks for work when nobody says that there is some."""


class Claimer(Generic[W]):
    """One pipeline's claims.

    Args:
        run: the pipeline's.
        parallel: the workers.
        lease_seconds: how long a lease lasts.
        size: how many to claim now; 0: none.
        hand: takes what is to be begun; never waits.
        slowness: knows whose sends take long.
        poll_seconds: between two looks when nobody says anything.
    """

    def __init__(
        self,
        run: Run[W],
        *,
        parallel: int,
        lease_seconds: float,
        size: Callable[[], int],
        hand: Callable[[Sequence[Held[W]]], None],
        slowness: Slowness[W],
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._store, self._owner, self._holdings = run.store, run.owner, run.holdings
        self._parallel = parallel
        self._lease_seconds = lease_seconds
        self._size = size
        self._hand = hand
        self._slowness = slowness
        self._poll_seconds = poll_seconds
        self._uniform = run.uniform
        self._backoff = Backoff(f"claiming for {run.name}", uniform=run.uniform)
        self._bell = Bell()
        self._ask_again_at = float("-inf")
        self._is_stopping = False
        self._claims = 0
        self._claimed = 0

    @property
    def claims(self) -> int:
        """Claims made."""
        return self._claims

    @property
    def claimed(self) -> int:
        """Work that they have brought."""
        return self._claimed

    @property
    def is_away(self) -> bool:
        """Whether the database was away at the last claim."""
        return self._backoff.is_failing

    def work_may_be_there(self) -> None:
        """Somebody says that there is work, or that some is no longer held back: look soon."""
        self._ask_again_at = float("-inf")
        self._bell.ring()

    def there_may_be_room(self) -> None:
        """A worker has taken something."""
        self._bell.ring()

    def resume(self) -> None:
        """Take `stop` back, before `run`."""
        self._is_stopping = False

    def stop(self) -> None:
        """Claim nothing more; `run` returns when a claim that is under way has ended."""
        self._is_stopping = True
        self._bell.ring()

    async def run(self) -> None:
        """Claim until `stop`.

        A mistake in a claim ends this with what was raised; it can be run again.
        """
        while not self._is_stopping:
            now = trio.current_time()
            if now < self._ask_again_at:
                await self._bell.wait(self._ask_again_at - now)
            elif (size := self._size()) > 0:
                await self._claim(size)
            else:
                await self._bell.wait(self._poll_seconds)

    async def _claim(self, size: int) -> None:
        began = trio.current_time()
        # Set before the claim, so that a word which comes while it runs is not lost.
        self._ask_again_at = began + self._poll_seconds * (0.75 + self._uniform() / 2)
        try:
            slow = self._slowness.queues()
            claimed = await self._take(size, leaving_out=slow)
            if slow and (rest := min(size - claimed, self._slowness.room(slow))) > 0:
                await self._take(rest)
        except Exception as error:
            if not is_outage(error):
                raise
            await self._pause(error)
            return
        self._backoff.succeeded()

    async def _take(self, size: int, *, leaving_out: Collection[UUID] = ()) -> int:
        """Claim up to ``size``, and hand them on; how many there were."""
        began = trio.current_time()
        with deadline(STORE_SECONDS):
            works = await self._store.claim(
                self._owner,
                limit=size,
                lease_seconds=self._lease_seconds,
                parallel=self._parallel,
                leaving_out=leaving_out,
            )
        self._claims += 1
        self._claimed += len(works)
        # Even if there is more: there is no room for it before a result is written, which says so.
        self._hand(self._holdings.take(works, lease_until=began + self._lease_seconds))
        return len(works)

    async def _pause(self, error: BaseException) -> None:
        """The database is away: what anybody says meanwhile does not make it come back sooner."""
        until = trio.current_time() + self._backoff.failed(error)
        while not self._is_stopping and (left := until - trio.current_time()) > 0:
            await self._bell.wait(left)
        self._ask_again_at = float("-inf")
