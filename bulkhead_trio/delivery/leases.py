"""What this instance holds: claimed work, from its claim until its result is written.

A lease says until when nobody else takes the work. Here it ends a little earlier than in the
database, for it is counted from before the claim was sent. While work is held its lease is renewed;
what cannot be renewed is let go: its send is cancelled, since by now somebody else may have it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Generic, TypeVar
from uuid import UUID

import attrs
import trio

from bulkhead_trio.database.work_records import Finished
from bulkhead_trio.delivery.stores import Work, WorkStore

W = TypeVar("W", bound=Work)


@attrs.define(eq=False)
class Held(Generic[W]):
    """One piece of work that is ours.

    Attributes:
        work: as it was claimed.
        lease_until: on Trio's clock.
        scope: round its send, while that runs.
        begun_at: when that began, on Trio's clock; ``None`` while it does not run.
        result: what became of it, until that is written.
        is_lost: whether it is nobody's or another's by now.
    """

    work: W
    lease_until: float
    scope: trio.CancelScope | None = None
    begun_at: float | None = None
    result: Finished | None = None
    is_lost: bool = False

    def prolong(self, until: float) -> None:
        """The lease lasts longer; a send that runs may, too."""
        self.lease_until = max(self.lease_until, until)
        if self.scope is not None:
            self.scope.deadline = self.lease_until


class Holdings(Generic[W]):
    """Everything that one pipeline holds; all of it synchronous."""

    def __init__(self) -> None:
        self._held: dict[UUID, Held[W]] = {}
        self._lost = 0

    def __len__(self) -> int:
        return len(self._held)

    @property
    def lost(self) -> int:
        """How many leases have been lost so far."""
        return self._lost

    def take(self, works: Iterable[W], *, lease_until: float) -> list[Held[W]]:
        """What a claim brought becomes held.

        What is held already was lost without our knowing and has come back to us: it is ours as it
        is, and not begun twice.

        Returns:
            what is to be begun.
        """
        new = []
        for work in works:
            if (present := self._held.get(work.item_id)) is not None:
                present.prolong(lease_until)
                continue
            self._held[work.item_id] = held = Held(work, lease_until)
            new.append(held)
        return new

    def let_go(self, held: Held[W]) -> None:
        """It is over: its result is written, or it is given back."""
        if self._held.get(held.work.item_id) is held:
            del self._held[held.work.item_id]

    def lose(self, held: Held[W]) -> None:
        """Its lease is gone; a send that runs is cancelled, a result is not written any more."""
        if held.is_lost:
            return
        held.is_lost = True
        self._lost += 1
        if held.scope is not None:
            held.scope.cancel()
        self.let_go(held)

    def all(self) -> dict[UUID, Held[W]]:
        """Whatever is held now."""
        return dict(self._held)

    def renewed(
        self, asked: Mapping[UUID, Held[W]], ours: Collection[UUID], *, lease_until: float
    ) -> None:
        """The database has been asked for longer leases, and says which are ours still."""
        for item_id, held in asked.items():
            if self._held.get(item_id) is not held:
                continue  # it was over meanwhile
            if item_id in ours:
                held.prolong(lease_until)
            elif held.result is None:
                # What has a result may just have been written; else the writing will show it.
                self.lose(held)


@attrs.frozen(eq=False)
class Run(Generic[W]):
    """One run of one pipeline: what its stages have in common.

    Attributes:
        name: the pipeline's, for logs.
        store: where the work is.
        owner: in whose name it is leased.
        holdings: what is held.
        uniform: a source of numbers in [0, 1) that keeps instances apart.
    """

    name: str
    store: WorkStore[W]
    owner: UUID
    holdings: Holdings[W]
    uniform: Callable[[], float] = random.random
