"""A database with tenants and endpoints in it, for the tests of what is delivered to them."""

from __future__ import annotations

import datetime
import itertools
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import attrs
import msgspec
import trio

from bulkhead_trio.database import Connection, Pool, PoolSettings, create_pool
from bulkhead_trio.database.deliveries import DeliveryStore
from bulkhead_trio.database.delivery_records import AttemptRecord, NotificationDraft
from bulkhead_trio.database.event_records import Added, EventDraft
from bulkhead_trio.database.events import EventStore
from bulkhead_trio.database.notifications import NotificationStore
from bulkhead_trio.database.pruning import Pruning
from bulkhead_trio.database.webhook_records import EndpointChange, WebhookDraft, WebhookRecord
from bulkhead_trio.database.webhooks import WebhookStore, new_id
from bulkhead_trio.database.work import NotificationWorkStore, WebhookWorkStore
from bulkhead_trio.database.work_records import Finished, NotificationWork, Outcome, WebhookWork

AT = datetime.datetime(2026, 2, 11, 12, 0, tzinfo=datetime.UTC)
LEASE = 60.0
PARALLEL = 1000
"""So many that no cap of a tenant is in the way, where that is not what is tested."""

_numbers = itertools.count(1)


@attrs.frozen
class World:
    """The stores, on one pool, and what tests put into the database."""

    pool: Pool[Connection]
    events: EventStore
    webhooks: WebhookStore
    deliveries: DeliveryStore
    notifications: NotificationStore
    work: WebhookWorkStore
    letters: NotificationWorkStore
    pruning: Pruning
    owner: UUID = attrs.field(factory=uuid.uuid4)

    async def tenant(self, *, weight: int = 1, tier: str = "free") -> UUID:
        rows = await self.sql(
            "INSERT INTO tenants (name, tier, weight) VALUES ('t', %s, %s) RETURNING id",
            (tier, weight),
        )
        tenant_id: UUID = rows[0][0]
        return tenant_id

    async def webhook(
        self, tenant_id: UUID, *types: str, fifo: bool = False, **others: Any
    ) -> WebhookRecord:
        draft = WebhookDraft(
            new_id(), tenant_id, "https://example.com/hook", types or ("*",), b"sealed", fifo=fifo
        )
        return await self.webhooks.create(msgspec.structs.replace(draft, **others))

    async def raised(self, tenant_id: UUID, count: int = 1, type_: str = "order.completed") -> None:
        """So many events, and their deliveries."""
        for _ in range(0, count, 1000):
            drafts = [
                EventDraft(tenant_id, type_, b'{"n":%d}' % next(_numbers))
                for _ in range(min(count, 1000))
            ]
            await self.events.add(drafts)
            count -= 1000
        await self.fanned_out()

    async def fanned_out(self) -> int:
        """Empty the outbox; how many deliveries that made."""
        made = 0
        while (done := await self.events.fan_out(500)).events:
            made += done.deliveries
        return made

    async def filled(
        self, tenant_id: UUID, webhook_id: UUID, count: int, *, lane: int = 0, attempts: int = 0
    ) -> None:
        """So much work for an endpoint, as if it had come in the usual way; quickly."""
        await self.sql(
            """
            WITH event AS (
                INSERT INTO events (tenant_id, type, payload)
                VALUES (%(tenant)s, 'order.completed', '{}') RETURNING id
            ), made AS (
                INSERT INTO deliveries (event_id, webhook_id, tenant_id, state)
                SELECT event.id, %(webhook)s, %(tenant)s, %(state)s
                FROM event, generate_series(1, %(count)s) RETURNING id
            ), added AS (
                INSERT INTO work (item_id, kind, lane, attempts, tenant_id, queue_id, due_at)
                SELECT id, 1, %(lane)s, %(attempts)s, %(tenant)s, %(webhook)s, now() FROM made
            )
            SELECT bulkhead_trio_put_heads(1::smallint, ARRAY[%(webhook)s::uuid],
                ARRAY[%(lane)s::smallint], ARRAY[%(tenant)s::uuid], ARRAY[now()],
                ARRAY['sooner'::text])
            """,
            {
                "tenant": tenant_id,
                "webhook": webhook_id,
                "count": count,
                "lane": lane,
                "attempts": attempts,
                "state": "retrying" if attempts else "pending",
            },
        )

    async def claimed(
        self, limit: int = 100, *, parallel: int = PARALLEL, owner: UUID | None = None
    ) -> list[WebhookWork]:
        return await self.work.claim(owner or self.owner, limit, LEASE, parallel)

    async def finished(
        self,
        works: Iterable[WebhookWork | NotificationWork],
        outcome: Outcome = "delivered",
        *,
        after: float | None = None,
        endpoint: EndpointChange | None = None,
        owner: UUID | None = None,
    ) -> int:
        results = [result(work, outcome, after=after, endpoint=endpoint) for work in works]
        return await self.work.finish(owner or self.owner, results)

    async def letter(self, tenant_id: UUID, channel: str = "smtp") -> UUID:
        return await self.notifications.add(
            NotificationDraft(tenant_id, channel, "a@example.com", "Subject", "Body")
        )

    async def later(self, seconds: float) -> None:
        """Everything that is due at some time is due so much sooner: time has passed."""
        for table, column in (
            ("work", "due_at"),
            ("work", "lease_until"),
            ("work_heads", "due_at"),
            ("webhooks", "slow_until"),
        ):
            await self.sql(
                f"UPDATE {table} SET {column} = {column} - make_interval(secs => %s)", (seconds,)
            )

    async def expired(self) -> None:
        """Every lease has run out."""
        await self.sql("UPDATE work SET lease_until = now() - interval '1 second' "
                       "WHERE lease_owner IS NOT NULL")  # fmt: skip

    async def sql(self, statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        async with self.pool.acquire() as connection:
            found = await connection.execute(statement.encode(), parameters)
            return await found.fetchall() if found.description else []

    async def value(self, statement: str, parameters: Any = None) -> Any:
        rows = await self.sql(statement, parameters)
        return rows[0][0]

    async def check_heads(self) -> None:
        """Whatever waits can be found: nothing is in a queue that has no head."""
        assert await self.sql(
            """
            SELECT kind, queue_id, lane FROM work AS w WHERE lease_owner IS NULL AND NOT EXISTS (
                SELECT FROM work_heads AS h WHERE h.kind = w.kind AND h.queue_id = w.queue_id
                AND h.lane = w.lane)
            """
        ) == []  # fmt: skip


@asynccontextmanager
async def opened(
    conninfo: str, *, connections: int = 5, most_per_endpoint: int = 4, chance: float = 0.0
) -> AsyncIterator[World]:
    pool = create_pool("delivery", PoolSettings(conninfo, max_size=connections))
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        yield World(
            pool,
            EventStore(pool),
            WebhookStore(pool),
            DeliveryStore(pool),
            NotificationStore(pool),
            WebhookWorkStore(pool, most_per_endpoint=most_per_endpoint, uniform=lambda: chance),
            NotificationWorkStore(
                pool, most_per_endpoint=most_per_endpoint, uniform=lambda: chance
            ),
            Pruning(pool),
        )
        nursery.cancel_scope.cancel()


def attempt(status: int | None = 200, error: str | None = None) -> AttemptRecord:
    return AttemptRecord(0, AT, status, error, 12.5, "ok")


def result(
    work: WebhookWork | NotificationWork,
    outcome: Outcome = "delivered",
    *,
    after: float | None = None,
    endpoint: EndpointChange | None = None,
) -> Finished:
    if after is None and outcome in ("retry", "deferred"):
        after = 0.0
    tried = None if outcome == "deferred" else attempt()
    return Finished(work.item_id, work.attempts, tried, outcome, after, endpoint)


def ids(works: Sequence[WebhookWork | NotificationWork]) -> list[UUID]:
    return [work.item_id for work in works]


def added(results: Sequence[Any]) -> list[UUID]:
    assert all(isinstance(each, Added) for each in results)
    return [each.id for each in results]
