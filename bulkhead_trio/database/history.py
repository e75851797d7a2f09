"""What became of what was to be sent: found, listed, counted, and done once more.

Deliveries and notifications are in tables of their own, and are asked for in the same ways.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar
from uuid import UUID

import attrs

from bulkhead_trio.database._asking import asking, moment_of, place_of
from bulkhead_trio.database._cursor_rules import Cursor, Page, check_limit, uuid_in
from bulkhead_trio.database._keyset_rules import page_statement
from bulkhead_trio.database.connection import Connection
from bulkhead_trio.database.delivery_records import AttemptRecord, DeliveryState, Replayed
from bulkhead_trio.database.pool import Pool
from bulkhead_trio.errors import Conflict, NotFound

MOST_ATTEMPTS: Final = 200
"""That are shown of one: ten schedules of ten, and as many replays."""

MOST_REPLAYED: Final = 1000
"""In one transaction."""

_ATTEMPTS: Final = f"""
SELECT number, at, status, error, duration_ms, response FROM delivery_attempts
WHERE item_id = %s ORDER BY number DESC LIMIT {MOST_ATTEMPTS}
""".encode()  # noqa: S608  a constant of our own


class Sent(Protocol):
    """What every record has."""

    @property
    def id(self) -> UUID:
        """Its own."""

    @property
    def state(self) -> DeliveryState:
        """What has become of it."""

    @property
    def created_at(self) -> datetime.datetime:
        """When it was accepted."""


R = TypeVar("R", bound=Sent)
F = TypeVar("F")


@attrs.frozen
class Table(Generic[R, F]):
    """Where one kind of it is kept.

    Attributes:
        noun: what it is called.
        make: a record, of the columns of ``columns``.
        columns: selected.
        source: of ``FROM``.
        alias: of the table that has ``id``, ``tenant_id`` and ``created_at``.
        condition: what a filter means: SQL, and its parameters.
        replay: the function that has it done once more.
        owners: the table of whose it is; what has lost its owner cannot be done once more.
        owner: that one's id, of a record.
        ownerless: what is said then.
    """

    noun: str
    make: Callable[..., R]
    columns: str
    source: str
    alias: str
    condition: Callable[[UUID | None, F], tuple[str, Sequence[Any]]]
    replay: str
    owners: str
    owner: Callable[[R], UUID]
    ownerless: str


class History(Generic[R, F]):
    """Reads what became of it, and has it done again.

    Every method raises `bulkhead_trio.errors.DatabaseUnavailable` when the database is away. A
    tenant that is ``None`` stands for all of them: for operators.

    Args:
        pool: whose connections it uses, in autocommit mode.
        table: where it is.
    """

    def __init__(self, pool: Pool[Connection], table: Table[R, F]) -> None:
        self._pool = pool
        self._table = table

    async def get(self, tenant_id: UUID | None, item_id: UUID, /) -> R:
        """A tenant's one of that id.

        Raises:
            NotFound: it has none.
        """
        async with asking(self._pool) as connection:
            return await self._get(connection, tenant_id, item_id)

    async def attempts(self, tenant_id: UUID | None, item_id: UUID, /) -> list[AttemptRecord]:
        """Every try of one, the first one first; of very many the last `MOST_ATTEMPTS`.

        Raises:
            NotFound: the tenant has none of that id.
        """
        async with asking(self._pool) as connection:
            await self._get(connection, tenant_id, item_id)
            found = await connection.execute(_ATTEMPTS, (item_id,))
            return [AttemptRecord(*row) for row in reversed(await found.fetchall())]

    async def page(
        self, tenant_id: UUID | None, wanted: F, /, *, limit: int, cursor: Cursor | None = None
    ) -> Page[R]:
        """A tenant's, newest first; those that are ``dead`` are the dead letters.

        Args:
            tenant_id: whose.
            wanted: which.
            limit: the most to answer with, 1 to 100.
            cursor: where an earlier page ended.

        Raises:
            CallerError: ``cursor`` is of another list.
            ValueError: ``limit`` is out of range.
        """
        check_limit(limit)
        async with asking(self._pool) as connection:
            return await self._page(connection, tenant_id, wanted, limit, cursor)

    async def count(self, tenant_id: UUID | None, wanted: F, /) -> int:
        """How many of a tenant's there are; it looks at each of them."""
        condition, parameters = self._table.condition(tenant_id, wanted)
        statement = f"SELECT count(*) FROM {self._table.source}"  # noqa: S608  our own words
        if condition:
            statement = f"{statement} WHERE {condition}"
        async with asking(self._pool) as connection:
            found = await connection.execute(statement.encode(), parameters)
            row = await found.fetchone()
        assert row is not None  # noqa: S101  count(*) always has a row
        return int(row[0])

    async def replay(self, tenant_id: UUID | None, item_id: UUID, /) -> R:
        """Do one once more, with the schedule of a new one; as it is afterwards.

        What was delivered is delivered again, a webhook under the same ``webhook-id``. One that
        waits to be retried is due at once, and so is one of an endpoint that is being left alone;
        one that was never tried, or is under way, stays as it is. For an endpoint that is switched
        off it waits until that is on.

        Raises:
            NotFound: the tenant has none of that id.
            Conflict: whose it was, an endpoint or a tenant, has been deleted.
        """
        async with asking(self._pool) as connection:
            record = await self._get(connection, tenant_id, item_id)
            owned = f"SELECT 1 FROM {self._table.owners} WHERE id = %s"  # noqa: S608  our own words
            found = await connection.execute(owned.encode(), (self._table.owner(record),))
            if await found.fetchone() is None:
                raise Conflict(self._table.ownerless)
            await self._do_again(connection, [item_id], None)
            return await self._get(connection, tenant_id, item_id)

    async def replay_matching(
        self,
        tenant_id: UUID | None,
        wanted: F,
        /,
        *,
        limit: int = MOST_REPLAYED,
        cursor: Cursor | None = None,
    ) -> Replayed:
        """Do many once more, a part of them in each call, the newest first.

        Each is passed once, whatever becomes of it meanwhile. Those whose endpoint or tenant has
        been deleted stay as they are, and those whose state changes just when they are looked at.
        An endpoint that is being left alone is not tried any sooner for these: they may be many.

        Args:
            tenant_id: whose.
            wanted: which; ``delivered`` ones are among them unless it says otherwise.
            limit: the most to look at, 1 to `MOST_REPLAYED`.
            cursor: where an earlier part ended.

        Raises:
            CallerError: ``cursor`` is of another list.
            ValueError: ``limit`` is out of range.
        """
        if not 1 <= limit <= MOST_REPLAYED:
            raise ValueError(f"limit must be from 1 to {MOST_REPLAYED}, not {limit}")
        async with asking(self._pool) as connection:
            part = await self._page(connection, tenant_id, wanted, limit, cursor)
            ids, states = [each.id for each in part.items], [each.state for each in part.items]
            done = await self._do_again(connection, ids, states)
        return Replayed(done, part.next_cursor)

    async def _do_again(
        self, connection: Connection, ids: list[UUID], states: list[DeliveryState] | None
    ) -> int:
        statement = f"SELECT cardinality({self._table.replay}(%s::uuid[], %s::text[]))"
        found = await connection.execute(statement.encode(), (ids, states))
        row = await found.fetchone()
        assert row is not None  # noqa: S101  a function of one value
        return int(row[0])

    async def _get(self, connection: Connection, tenant_id: UUID | None, item_id: UUID) -> R:
        table = self._table
        statement = (
            f"SELECT {table.columns} FROM {table.source} WHERE {table.alias}.id = %(id)s "  # noqa: S608
            f"AND (%(tenant)s::uuid IS NULL OR {table.alias}.tenant_id = %(tenant)s)"
        )
        parameters = {"id": item_id, "tenant": tenant_id}
        found = await connection.execute(statement.encode(), parameters)
        row = await found.fetchone()
        if row is None:
            raise NotFound(f"There is no {table.noun} with this id.")
        return table.make(*row)

    async def _page(
        self,
        connection: Connection,
        tenant_id: UUID | None,
        wanted: F,
        limit: int,
        cursor: Cursor | None,
    ) -> Page[R]:
        table = self._table
        condition, parameters = table.condition(tenant_id, wanted)
        statement = page_statement(
            f"SELECT {table.columns} FROM {table.source}",  # noqa: S608  our own words
            alias=table.alias,
            continues=cursor is not None,
            newest_first=True,
            condition=condition,
        )
        place: tuple[Any, ...] = () if cursor is None else (moment_of(cursor), uuid_in(cursor))
        found = await connection.execute(statement, (*parameters, *place, limit + 1))
        records = [table.make(*row) for row in await found.fetchall()]
        items = records[:limit]
        if len(records) <= limit:
            return Page(items, None)
        return Page(items, place_of(items[-1].created_at, str(items[-1].id)))
