"""Keeps leases: renews ours in time, and gives back everybody's that have run out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Generic, TypeVar
from uuid import UUID

import trio

from bulkhead_trio.delivery.backoff import STORE_SECONDS, Backoff, is_outage
from bulkhead_trio.delivery.leases import Held, Run
from bulkhead_trio.delivery.stores import Work
from bulkhead_trio.policies.deadline import deadline

W = TypeVar("W", bound=Work)

RENEWALS: Final = 3
"""A lease is renewed each third of its length: two renewals may fail before it is lost."""

SWEEP_SECONDS: Final = 5.0
"""Between two looks for leases that have run out, by one instance; each time a little different."""

_log = logging.getLogger("bulkhead_trio.delivery")


class Renewing(Generic[W]):
    """One pipeline's care for leases.

    Args:
        run: the pipeline's.
        lease_seconds: how long a lease lasts.
        on_swept: called when leases of others were given back: there is work.
        sweep_seconds: between two looks for such.
    """

    def __init__(
        self,
        run: Run[W],
        *,
        lease_seconds: float,
        on_swept: Callable[[], None],
        sweep_seconds: float = SWEEP_SECONDS,
    ) -> None:
        self._name = run.name
        self._store, self._owner, self._holdings = run.store, run.owner, run.holdings
        self._lease_seconds = lease_seconds
        self._on_swept = on_swept
        self._sweep_seconds = sweep_seconds
        self._uniform = run.uniform
        self._renewal_backoff = Backoff(f"renewing leases of {run.name}", uniform=run.uniform)
        self._sweep_backoff = Backoff(f"sweeping leases of {run.name}", uniform=run.uniform)
        self._renewals = 0
        self._swept = 0

    @property
    def renewals(self) -> int:
        """How often leases were renewed."""
        return self._renewals

    @property
    def swept(self) -> int:
        """Leases that had run out, of whichever instance, and that this one gave back."""
        return self._swept

    async def renew(self) -> None:
        """Renew what is held, until cancelled. Nothing is asked while nothing is held."""
        while True:
            await trio.sleep(self._lease_seconds / RENEWALS)
            while (held := self._holdings.all()) and not await self._renew_once(held):
                pass

    async def _renew_once(self, held: dict[UUID, Held[W]]) -> bool:
        """Whether the database answered."""
        began = trio.current_time()
        try:
            with deadline(min(STORE_SECONDS, self._lease_seconds / RENEWALS)):
                ours = await self._store.renew(self._owner, list(held), self._lease_seconds)
        except Exception as error:
            if not is_outage(error):
                raise
            await self._renewal_backoff.wait_after(error)
            return False
        self._renewal_backoff.succeeded()
        self._renewals += 1
        self._holdings.renewed(held, ours, lease_until=began + self._lease_seconds)
        return True

    async def sweep(self) -> None:
        """Give back what has run out, of whichever instance, until cancelled."""
        while True:
            await trio.sleep(self._sweep_seconds * (0.75 + self._uniform() / 2))
            try:
                with deadline(STORE_SECONDS):
                    swept = await self._store.sweep()
            except Exception as error:
                if not is_outage(error):
                    raise
                await self._sweep_backoff.wait_after(error)
                continue
            self._sweep_backoff.succeeded()
            if swept:
                self._swept += swept
                _log.warning(
                    "%d leases of %s had run out; their work is done again", swept, self._name
                )
                self._on_swept()
