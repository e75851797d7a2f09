"""Events in PostgreSQL: accepted together with a row in the outbox, and made deliveries of."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

import msgspec

from bulkhead_trio.database._asking import asking
from bulkhead_trio.database._deadlocks import ask_through_deadlocks
from bulkhead_trio.database._public_id_rules import RANDOM_BYTES, time_ordered_id
from bulkhead_trio.database.connection import Connection
from bulkhead_trio.database.event_records import (
    Added,
    Conflicted,
    EventDraft,
    EventRecord,
    FannedOut,
)
from bulkhead_trio.database.pool import Pool
from bulkhead_trio.errors import CallerError, DatabaseUnavailable, NotFound

MOST_COUNTED: Final = 100_000
"""Of the outbox: counting more would take longer than anybody who asks wants to wait."""

MOST_TRIES: Final = 3
"""Of adding an event whose twin is pruned just between the two looks for it."""

_ADD: Final = b"""
WITH given AS (
    SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[],
                         %s::uuid[]) WITH ORDINALITY
        AS given (id, tenant_id, tier, type, payload, key, webhook_id, place)
), added AS (
    INSERT INTO events (id, tenant_id, tier, type, payload, idempotency_key)
    SELECT id, tenant_id, tier, type, payload::json, key FROM given ORDER BY place
    ON CONFLICT (tenant_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id
), queued AS (
    INSERT INTO event_outbox (event_id, webhook_id)
    SELECT id, webhook_id FROM given JOIN added USING (id) ORDER BY place
), told AS (
    SELECT pg_notify('bulkhead_trio_work', 'events') FROM added LIMIT 1
)
SELECT id FROM added LEFT JOIN told ON true
"""

_PRESENT: Final = b"""
SELECT e.tenant_id, e.idempotency_key, e.id, e.type, e.payload::text
FROM events AS e JOIN unnest(%s::uuid[], %s::text[]) AS given (tenant_id, key)
    ON e.tenant_id = given.tenant_id AND e.idempotency_key = given.key
"""

_GET: Final = b"""
SELECT e.id, e.tenant_id, e.type, e.payload::text, e.created_at, e.tier FROM events AS e
WHERE e.id = %(id)s AND (e.tenant_id = %(tenant)s OR e.tenant_id IS NULL
    AND e.tier = (SELECT t.tier FROM tenants AS t WHERE t.id = %(tenant)s))
"""

_FAN_OUT: Final = b"SELECT events, deliveries FROM bulkhead_trio_fan_out(%s)"

_WAITING: Final = (
    f"SELECT count(*) FROM (SELECT FROM event_outbox LIMIT {MOST_COUNTED}) AS o".encode()  # noqa: S608
)


def new_id() -> UUID:
    """A UUID for something that is made now."""
    return time_ordered_id(time.time_ns() // 1_000_000, os.urandom(RANDOM_BYTES))


class EventStore:
    """Keeps events.

    Every method raises `bulkhead_trio.errors.DatabaseUnavailable` when the database is away.

    Args:
        pool: whose connections it uses, in autocommit mode.
        make_id: makes the id of each event.
    """

    def __init__(self, pool: Pool[Connection], *, make_id: Callable[[], UUID] = new_id) -> None:
        self._pool = pool
        self._make_id = make_id

    async def add(self, drafts: Sequence[EventDraft]) -> list[Added | Conflicted]:
        """Keep events, each with its row in the outbox; all are committed when this returns.

        Where a tenant has an event of the same idempotency key already, in the database or among
        ``drafts``, no other one is added: if type and payload are the same, that one is the answer.

        Returns:
            What has come of each, in their order.

        Raises:
            CallerError: a value cannot be kept; none of them is.
        """
        results: list[Added | Conflicted | None] = [None] * len(drafts)
        for _ in range(MOST_TRIES):
            missing = [place for place, result in enumerate(results) if result is None]
            if not missing:
                break
            found = await self._add([drafts[place] for place in missing])
            for place, result in zip(missing, found, strict=True):
                results[place] = result
        done = [result for result in results if result is not None]
        if len(done) != len(drafts):
            raise DatabaseUnavailable("events come and go too fast to be told apart")
        return done

    async def get(self, tenant_id: UUID, event_id: UUID) -> EventRecord:
        """An event of a tenant, or of its tier.

        Raises:
            NotFound: there is none of that id.
        """
        async with asking(self._pool) as connection:
            found = await connection.execute(_GET, {"id": event_id, "tenant": tenant_id})
            row = await found.fetchone()
        if row is None:
            raise NotFound("There is no event with this id.")
        id_, tenant, type_, payload, *rest = row
        return EventRecord(id_, tenant, type_, payload.encode(), *rest)

    async def fan_out(self, limit: int) -> FannedOut:
        """Make deliveries of up to ``limit`` events, the oldest of the outbox, in one transaction.

        One for each endpoint that wants the event, whether or not it is switched on. The cluster
        does this one at a time: who comes second waits.
        """

        async def ask(connection: Connection) -> FannedOut:
            found = await connection.execute(_FAN_OUT, (limit,), prepare=True)
            row = await found.fetchone()
            assert row is not None  # noqa: S101  a function of one row
            return FannedOut(*row)

        return await ask_through_deadlocks(self._pool, ask)

    async def waiting(self) -> int:
        """How many events are no deliveries yet; more than `MOST_COUNTED` are told as so many."""
        async with asking(self._pool) as connection:
            found = await connection.execute(_WAITING, prepare=True)
            row = await found.fetchone()
        assert row is not None  # noqa: S101  an aggregate
        return int(row[0])

    # --- inside ----------------------------------------------------------------------------------

    async def _add(self, drafts: Sequence[EventDraft]) -> list[Added | Conflicted | None]:
        ids = [self._make_id() for _ in drafts]
        parameters = (
            ids,
            [draft.tenant_id for draft in drafts],
            [draft.tier for draft in drafts],
            [draft.type for draft in drafts],
            [_text(draft.payload) for draft in drafts],
            [draft.idempotency_key for draft in drafts],
            [draft.webhook_id for draft in drafts],
        )
        async with asking(self._pool) as connection:
            rows = await connection.execute(_ADD, parameters, prepare=True)
            new = {row[0] for row in await rows.fetchall()}
            old = [draft for id_, draft in zip(ids, drafts, strict=True) if id_ not in new]
            present = await _present(connection, old) if old else {}
        return [
            Added(id_, is_new=True) if id_ in new else _twin(draft, present)
            for id_, draft in zip(ids, drafts, strict=True)
        ]


_Present = dict[tuple[UUID, str], tuple[UUID, str, str]]


async def _present(connection: Connection, drafts: Sequence[EventDraft]) -> _Present:
    """The events that are there under these drafts' keys, by tenant and key."""
    keys = {(draft.tenant_id, draft.idempotency_key) for draft in drafts}
    parameters = ([tenant for tenant, _ in keys], [key for _, key in keys])
    found = await connection.execute(_PRESENT, parameters)
    return {(tenant, key): (id_, *rest) for tenant, key, id_, *rest in await found.fetchall()}


def _twin(draft: EventDraft, present: _Present) -> Added | Conflicted | None:
    """What ``draft`` is beside the event that has its key; ``None``: there is none by now."""
    if draft.tenant_id is None or draft.idempotency_key is None:
        return None
    twin = present.get((draft.tenant_id, draft.idempotency_key))
    if twin is None:
        return None
    id_, type_, payload = twin
    if type_ == draft.type and _is_same(payload.encode(), draft.payload):
        return Added(id_, is_new=False)
    return Conflicted(id_)


def _is_same(one: bytes, other: bytes) -> bool:
    """Whether two JSON documents say the same, however they are written.

    Compared as they would be written, since to Python ``1`` equals ``true``. A number that no float
    can hold is in neither: such documents are the same where their bytes are.
    """
    if one == other:
        return True
    try:
        return _canonical(one) == _canonical(other)
    except (msgspec.DecodeError, RecursionError):
        return False


def _canonical(document: bytes) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(document), order="sorted")


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise CallerError("an event's payload is not UTF-8") from error
