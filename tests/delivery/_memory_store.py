"""The database of deliveries in memory: behaves as the SQL does, and fails and dawdles as told.

It outlives whoever uses it: give it to a second instance to see what a crash leaves behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from uuid import UUID

import msgspec
import trio

from bulkhead_trio.database.delivery_records import Pruned
from bulkhead_trio.database.event_records import Added, Conflicted, EventDraft, FannedOut
from bulkhead_trio.database.webhook_records import SigningSecret
from bulkhead_trio.database.work_records import Lane, NotificationWork, WebhookWork
from bulkhead_trio.errors import DatabaseUnavailable

from ._memory_work import MemoryWork
from ._patterns import patterns_for
from ._rows import EPOCH, Endpoint, Item, Tenant, moment, seconds_since_1970

__all__ = [
    "EPOCH",
    "Endpoint",
    "Item",
    "MemoryDatabase",
    "Tenant",
    "moment",
    "seconds_since_1970",
]


class MemoryDatabase:
    """All tables, and what happens to whoever asks.

    Attributes:
        is_away: whether every call fails.
        seconds: what each call takes.
        commits_when_cancelled: whether a call that is cut off has had its effect.
        bug: raised by every call, in place of an answer.
        calls: how often each was made.
    """

    def __init__(self) -> None:
        self.is_away = False
        self.seconds = 0.0
        self.commits_when_cancelled = False
        self.bug: Exception | None = None
        self.calls = Counter[str]()
        self.tenants: dict[UUID, Tenant] = {}
        self.endpoints: dict[UUID, Endpoint] = {}
        self.items: dict[UUID, Item] = {}
        self.events = MemoryEvents(self)
        self.webhooks = MemoryWork[WebhookWork](self, WebhookWork)
        self.notifications = MemoryWork[NotificationWork](self, NotificationWork)
        self.history = MemoryHistory(self)
        self._numbers = 0

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    async def answer(self, call: str) -> None:
        """Let the time pass that a call takes, and fail if that is the order of the day."""
        self.calls[call] += 1
        await trio.sleep(self.seconds)
        if self.bug is not None:
            raise self.bug
        if self.is_away:
            raise DatabaseUnavailable("scripted: away")

    # --- what tests put there --------------------------------------------------------------------

    def tenant(self, *, tier: str = "free", weight: float = 1.0) -> Tenant:
        made = Tenant(UUID(int=self.number()), tier, weight)
        self.tenants[made.id] = made
        return made

    def endpoint(
        self,
        tenant: Tenant,
        *,
        url: str = "http://hooks.example/",
        event_types: tuple[str, ...] = ("*",),
        fifo: bool = False,
        id: UUID | None = None,
        secrets: tuple[SigningSecret, ...] = (),
    ) -> Endpoint:
        made = Endpoint(
            id or UUID(int=self.number()), tenant.id, url, event_types, fifo, secrets=secrets
        )
        self.endpoints[made.id] = made
        return made

    def delivery(self, endpoint: Endpoint, *, event: UUID | None = None) -> Item:
        """A delivery to ``endpoint`` that nobody has tried yet."""
        number = self.number()
        item = Item(
            WebhookWork(
                item_id=UUID(int=number),
                seq=number,
                attempts=0,
                tenant_id=endpoint.tenant_id,
                queue_id=endpoint.id,
                lane=Lane.FIRST,
                lease_until=moment(),
                created_at=moment(),
                scheduled_since=moment(),
                event_id=event or UUID(int=self.number()),
                event_type="order.completed",
                payload=b"{}",
                event_created_at=moment(),
                url=endpoint.url,
                secrets=endpoint.secrets,
                fifo=endpoint.fifo,
                failing_since=None,
            )
        )
        self.items[item.draft.item_id] = item
        return item

    def notification(self, tenant: Tenant, *, channel: str = "smtp") -> Item:
        """A notification that nobody has tried yet."""
        number = self.number()
        item = Item(
            NotificationWork(
                item_id=UUID(int=number),
                seq=number,
                attempts=0,
                tenant_id=tenant.id,
                queue_id=UUID(int=tenant.id.int * 1000 + len(channel)),
                lane=Lane.FIRST,
                lease_until=moment(),
                created_at=moment(),
                scheduled_since=moment(),
                channel=channel,
                recipient="a@example.com",
                subject="",
                body="",
            )
        )
        self.items[item.draft.item_id] = item
        return item

    def replay(self, item: Item) -> None:
        """As ``POST /api/deliveries/{id}/replay`` does."""
        item.draft = msgspec.structs.replace(item.draft, scheduled_since=moment())
        item.state, item.attempts, item.lane = "pending", 0, Lane.FIRST
        item.due_at, item.is_work, item.ended_at = trio.current_time(), True, None

    def leased(self) -> list[Item]:
        return [item for item in self.items.values() if item.owner is not None]


class MemoryEvents:
    """Behaves as `bulkhead_trio.database.events.EventStore`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database
        self.kept: dict[UUID, EventDraft] = {}
        self.keys: dict[tuple[UUID | None, str], UUID] = {}
        self.outbox: list[UUID] = []
        self.refused_payloads: set[bytes] = set()
        self.batches: list[int] = []

    async def add(self, drafts: Sequence[EventDraft]) -> list[Added | Conflicted]:
        try:
            await self._database.answer("add")
        except trio.Cancelled:
            if self._database.commits_when_cancelled:
                self._add(drafts)
            raise
        return self._add(drafts)

    def _add(self, drafts: Sequence[EventDraft]) -> list[Added | Conflicted]:
        for draft in drafts:
            if draft.payload in self.refused_payloads:
                raise ValueError("scripted: this cannot be kept")
        self.batches.append(len(drafts))
        return [self._add_one(draft) for draft in drafts]

    def _add_one(self, draft: EventDraft) -> Added | Conflicted:
        if draft.idempotency_key is not None:
            key = (draft.tenant_id, draft.idempotency_key)
            if (present := self.keys.get(key)) is not None:
                kept = self.kept[present]
                if (kept.type, kept.payload) != (draft.type, draft.payload):
                    return Conflicted(present)
                return Added(present, is_new=False)
        new = UUID(int=self._database.number())
        if draft.idempotency_key is not None:
            self.keys[draft.tenant_id, draft.idempotency_key] = new
        self.kept[new] = draft
        self.outbox.append(new)
        return Added(new, is_new=True)

    async def fan_out(self, limit: int) -> FannedOut:
        await self._database.answer("fan_out")
        taken, self.outbox = self.outbox[:limit], self.outbox[limit:]
        made = 0
        for event_id in taken:
            for endpoint in self._wanting(self.kept[event_id]):
                self._database.delivery(endpoint, event=event_id)
                made += 1
        return FannedOut(len(taken), made)

    async def waiting(self) -> int:
        await self._database.answer("waiting")
        return len(self.outbox)

    def _wanting(self, draft: EventDraft) -> list[Endpoint]:
        patterns = set(patterns_for(draft.type))
        return [
            endpoint
            for endpoint in self._database.endpoints.values()
            if patterns & set(endpoint.event_types)
            and (
                endpoint.tenant_id == draft.tenant_id
                if draft.tenant_id is not None
                else self._database.tenants[endpoint.tenant_id].tier == draft.tier
            )
        ]


class MemoryHistory:
    """Behaves as `bulkhead_trio.database.pruning.Pruning`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def end_orphans(self, limit: int) -> int:
        await self._database.answer("end_orphans")
        database = self._database
        orphans = [
            item
            for item in database.items.values()
            if item.is_work
            and isinstance(item.draft, WebhookWork)
            and item.draft.queue_id not in database.endpoints
        ][:limit]
        for item in orphans:
            item.is_work, item.state, item.ended_at = False, "dead", trio.current_time()
        return len(orphans)

    async def prune(self, retention_seconds: float, limit: int) -> Pruned:
        await self._database.answer("prune")
        before = trio.current_time() - retention_seconds
        old = [
            key
            for key, item in self._database.items.items()
            if item.ended_at is not None and item.ended_at < before
        ][:limit]
        for key in old:
            del self._database.items[key]
        return Pruned(len(old), 0, 0, 0, has_more=len(old) == limit)
