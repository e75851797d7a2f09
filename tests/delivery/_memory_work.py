"""Work in memory: claimed, renewed, finished and given back as the SQL does it."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar
from uuid import UUID

import msgspec
import trio

from bulkhead_trio.database.work_records import (
    Backlog,
    Finished,
    Lane,
    NotificationWork,
    Outcome,
    WebhookWork,
)

from ._rows import EPOCH, Item, moment

if TYPE_CHECKING:
    from ._memory_store import MemoryDatabase

W = TypeVar("W", bound=WebhookWork | NotificationWork)


class MemoryWork(Generic[W]):
    """Behaves as a work store: fair among tenants, capped, in two lanes, under leases.

    Attributes:
        most_per_endpoint: leases that one endpoint may have.
        refused_responses: parts of attempts that ``finish`` cannot write.
        claimed: every item that was claimed, in order.
        finished: every result that counted.
    """

    def __init__(self, database: MemoryDatabase, kind: type[W]) -> None:
        self._database = database
        self._kind: type[W] = kind
        self.most_per_endpoint = 4
        self.refused_responses: set[str | None] = set()
        self.claimed: list[UUID] = []
        self.claim_limits: list[int] = []
        self.finished: list[Finished] = []
        self._virtual = 0.0
        self._left_out: frozenset[UUID] = frozenset()

    # --- claiming --------------------------------------------------------------------------------

    async def claim(
        self,
        owner: UUID,
        *,
        limit: int,
        lease_seconds: float,
        parallel: int,
        leaving_out: Collection[UUID] = (),
    ) -> list[W]:
        self._left_out = frozenset(leaving_out)
        try:
            await self._database.answer("claim")
        except trio.Cancelled:
            if self._database.commits_when_cancelled:
                self._claim(owner, limit, lease_seconds, parallel)
            raise
        self._left_out = frozenset(leaving_out)  # another claim may have been made meanwhile
        return self._claim(owner, limit, lease_seconds, parallel)

    def _claim(self, owner: UUID, limit: int, lease_seconds: float, parallel: int) -> list[W]:
        self.claim_limits.append(limit)
        until = trio.current_time() + lease_seconds
        found: list[Item] = []
        # A quarter for retries; of claims too small to be divided, each fourth.
        share = limit // 4 or int(len(self.claim_limits) % 4 == 0)
        most_retries = share if self._ready(Lane.FIRST, parallel) else limit
        for lane, most in ((Lane.RETRY, most_retries), (Lane.FIRST, limit)):
            taken = 0
            while len(found) < limit and taken < most:
                if (item := self._next(lane, parallel)) is None:
                    break
                item.owner, item.lease_until = owner, until
                found.append(item)
                taken += 1
        self.claimed += [item.draft.item_id for item in found]
        return [self._as_work(item) for item in found]

    def _next(self, lane: Lane, parallel: int) -> Item | None:
        """The oldest of the tenant whose turn it is; its turn moves on."""
        tenants = self._database.tenants
        ready = list(self._ready(lane, parallel))
        if not ready:
            return None
        item = min(ready, key=lambda each: (tenants[each.draft.tenant_id].turn, each.draft.seq))
        tenant = tenants[item.draft.tenant_id]
        # Start-time fair queueing: who was idle does not save up turns.
        start = max(tenant.turn, self._virtual)
        self._virtual = start
        tenant.turn = start + 1 / tenant.weight
        return item

    def _ready(self, lane: Lane, parallel: int) -> list[Item]:
        now = trio.current_time()
        of_tenant, of_queue = Counter[UUID](), Counter[UUID]()
        for item in self._mine():
            if item.owner is not None:
                of_tenant[item.draft.tenant_id] += 1
                of_queue[item.draft.queue_id] += 1
        ready, blocked = [], set[UUID]()
        for item in sorted(self._mine(), key=lambda each: each.draft.seq):
            queue = item.draft.queue_id
            endpoint = self._database.endpoints.get(queue)
            is_fifo = endpoint is not None and endpoint.fifo
            if is_fifo:
                if queue in blocked:
                    continue
                blocked.add(queue)  # whatever it is, the head holds the others back
            if item.owner is not None or item.due_at > now or queue in self._left_out:
                continue
            if item.lane is not lane and not (is_fifo and lane is Lane.FIRST):
                continue
            if endpoint is not None and not (endpoint.active and endpoint.slow_until <= now):
                continue
            if of_queue[queue] >= (1 if is_fifo else self.most_per_endpoint):
                continue
            if of_tenant[item.draft.tenant_id] >= max(1, parallel // 2):
                continue
            ready.append(item)
        return ready

    def _mine(self) -> list[Item]:
        return [
            item
            for item in self._database.items.values()
            if item.is_work and isinstance(item.draft, self._kind)
        ]

    def _as_work(self, item: Item) -> W:
        draft = item.draft
        assert isinstance(draft, self._kind)
        endpoint = self._database.endpoints.get(draft.queue_id)
        changes: dict[str, object] = {
            "attempts": item.attempts,
            "lane": item.lane,
            "lease_until": EPOCH + datetime.timedelta(seconds=item.lease_until),
        }
        if endpoint is not None:
            changes |= {
                "url": endpoint.url,
                "secrets": endpoint.secrets,
                "fifo": endpoint.fifo,
                "failing_since": endpoint.failing_since,
            }
        return msgspec.structs.replace(draft, **changes)

    # --- leases ----------------------------------------------------------------------------------

    async def renew(self, owner: UUID, item_ids: Sequence[UUID], lease_seconds: float) -> set[UUID]:
        await self._database.answer("renew")
        ours = {item_id for item_id in item_ids if self._is_ours(item_id, owner)}
        for item_id in ours:
            self._database.items[item_id].lease_until = trio.current_time() + lease_seconds
        return ours

    async def release(self, owner: UUID, item_ids: Sequence[UUID]) -> int:
        await self._database.answer("release")
        ours = [item_id for item_id in item_ids if self._is_ours(item_id, owner)]
        for item_id in ours:
            self._database.items[item_id].owner = None
        return len(ours)

    async def sweep(self) -> int:
        await self._database.answer("sweep")
        now = trio.current_time()
        over = [item for item in self._mine() if item.owner is not None and item.lease_until <= now]
        for item in over:
            item.owner = None
        return len(over)

    def _is_ours(self, item_id: UUID, owner: UUID) -> bool:
        item = self._database.items.get(item_id)
        return item is not None and item.is_work and item.owner == owner

    # --- results ---------------------------------------------------------------------------------

    async def finish(self, owner: UUID, results: Sequence[Finished]) -> int:
        try:
            await self._database.answer("finish")
        except trio.Cancelled:
            if self._database.commits_when_cancelled:
                self._finish(owner, results)
            raise
        return self._finish(owner, results)

    def _finish(self, owner: UUID, results: Sequence[Finished]) -> int:
        for result in results:
            if result.attempt is not None and result.attempt.response in self.refused_responses:
                raise ValueError("scripted: this cannot be written")
        return sum(self._finish_one(owner, result) for result in results)

    def _finish_one(self, owner: UUID, result: Finished) -> bool:
        if not self._is_ours(result.item_id, owner):
            return False
        item = self._database.items[result.item_id]
        if item.attempts != result.attempts_before:
            return False
        item.owner = None
        if result.outcome == "deferred":
            assert result.retry_after_seconds is not None
            item.due_at = trio.current_time() + result.retry_after_seconds
        else:
            assert result.attempt is not None
            item.attempts += 1
            item.tries.append(result.attempt)
            self._apply(item, result.outcome, result.retry_after_seconds)
        self._change_endpoint(item, result)
        self.finished.append(result)
        return True

    def _apply(self, item: Item, outcome: Outcome, seconds: float | None) -> None:
        if outcome == "retry":
            assert seconds is not None
            item.state, item.lane = "retrying", Lane.RETRY
            item.due_at = trio.current_time() + seconds
        else:
            item.state, item.is_work, item.ended_at = outcome, False, trio.current_time()

    def _change_endpoint(self, item: Item, result: Finished) -> None:
        change = result.endpoint
        endpoint = self._database.endpoints.get(item.draft.queue_id)
        if endpoint is None:
            return
        if result.outcome == "delivered":  # whatever its claim has seen
            endpoint.failing_since = None
        if change is None:
            return
        if change.is_failing:
            endpoint.failing_since = endpoint.failing_since or moment()
        else:
            endpoint.failing_since = None
        if change.disable_reason is not None:
            endpoint.active, endpoint.disabled_reason = False, change.disable_reason
        if change.slow_seconds is not None:
            endpoint.slow_until = max(
                endpoint.slow_until, trio.current_time() + change.slow_seconds
            )

    async def backlog(self) -> Backlog:
        await self._database.answer("backlog")
        all_of_them = [
            item for item in self._database.items.values() if isinstance(item.draft, self._kind)
        ]
        states = Counter(item.state for item in all_of_them)
        return Backlog(
            pending=states["pending"],
            retrying=states["retrying"],
            dead=states["dead"],
            leased=sum(item.owner is not None for item in all_of_them),
        )
