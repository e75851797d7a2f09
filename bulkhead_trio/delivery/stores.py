"""What the stages need of where things are kept; `bulkhead_trio.database` has it all.

Every call raises `DatabaseUnavailable` while the database is away, and then has had its effect or
has not: every stage is written so that either will do.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol, TypeVar
from uuid import UUID

from bulkhead_trio.database.delivery_records import Pruned
from bulkhead_trio.database.event_records import Added, Conflicted, EventDraft, FannedOut
from bulkhead_trio.database.work_records import Backlog, Finished

W_co = TypeVar("W_co", bound="Work", covariant=True)


class Work(Protocol):
    """One thing to be sent, as its claim found it."""

    @property
    def item_id(self) -> UUID:
        """The delivery, or the notification."""

    @property
    def queue_id(self) -> UUID:
        """The endpoint, or the tenant's channel."""

    @property
    def attempts(self) -> int:
        """How many there have been before."""


class WorkStore(Protocol[W_co]):
    """The work of one kind: claimed under leases, by any number of instances."""

    async def claim(
        self,
        owner: UUID,
        *,
        limit: int,
        lease_seconds: float,
        parallel: int,
        leaving_out: Collection[UUID] = (),
    ) -> Sequence[W_co]:
        """Lease up to ``limit`` that are due, fairly; ``parallel`` are sent at once here.

        Nothing of the queues that are left out.
        """

    async def renew(self, owner: UUID, item_ids: Sequence[UUID], lease_seconds: float) -> set[UUID]:
        """Prolong leases; those that are the owner's still."""

    async def finish(self, owner: UUID, results: Sequence[Finished]) -> int:
        """Write what became of attempts whose lease is the owner's still; how many were."""

    async def release(self, owner: UUID, item_ids: Sequence[UUID]) -> int:
        """Give back what has not been tried, to whoever claims next."""

    async def sweep(self) -> int:
        """Give back what has outlived its lease, whoever had it; how many."""

    async def backlog(self) -> Backlog:
        """How much there is, over all instances."""


class EventSink(Protocol):
    """Where accepted events are kept, with their place in the outbox."""

    async def add(self, drafts: Sequence[EventDraft]) -> Sequence[Added | Conflicted]:
        """Keep them, all in one transaction; what became of each, in their order."""


class Outbox(Protocol):
    """Events that are not deliveries yet."""

    async def fan_out(self, limit: int) -> FannedOut:
        """Make the deliveries of up to ``limit`` events, in one transaction."""


class Prunable(Protocol):
    """What is kept for a while only."""

    async def end_orphans(self, limit: int) -> int:
        """End up to ``limit`` pieces of work whose endpoint or tenant is gone; how many."""

    async def prune(self, retention_seconds: float, limit: int) -> Pruned:
        """Delete up to ``limit`` of each kind that ended longer ago."""
