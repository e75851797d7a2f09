"""A database that does what a test tells it, for `bulkhead_trio.database.Pool` and all above it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import psycopg
import trio

RECOVERY_SECONDS = 0.01
"""What asking for a query's cancellation takes in this database."""


class ScriptedDatabase:
    """Makes connections, and says what happens on them; everything takes virtual time only.

    Attributes:
        rows: what every query answers.
        query_seconds: how long a query takes.
        connect_seconds: how long connecting takes.
        is_away: connecting fails, and idle connections have gone.
        is_hanging: nothing is ever answered, cancel requests included.
        connections_allowed: as many may be open at once; ``None``: any number.
        open_connections: connections made and not closed.
        most_connections: the most that were ever open at once.
        running_queries: queries that the "server" is working on.
        connecting: attempts to connect under way.
        most_connecting: the most of those at once.
    """

    def __init__(self, rows: Sequence[tuple[Any, ...]] = (), *, query_seconds: float = 0.0) -> None:
        self.rows = list(rows)
        self.query_seconds = query_seconds
        self.connect_seconds = 0.0
        self.is_away = False
        self.is_hanging = False
        self.connections_allowed: int | None = None
        self.open_connections = 0
        self.most_connections = 0
        self.running_queries = 0
        self.connecting = 0
        self.most_connecting = 0
        self.attempts = 0

    async def connect(self) -> ScriptedConnection:
        """A new connection; what a `Pool` is given to connect with.

        Raises:
            psycopg.OperationalError: the database is away.
        """
        self.attempts += 1
        self.connecting += 1
        self.most_connecting = max(self.most_connecting, self.connecting)
        try:
            await self.answer(self.connect_seconds)
        finally:
            self.connecting -= 1
        if self.is_away:
            raise psycopg.OperationalError("scripted: away")
        if self.connections_allowed == self.open_connections:
            raise psycopg.OperationalError("scripted: too many connections")
        self.open_connections += 1
        self.most_connections = max(self.most_connections, self.open_connections)
        return ScriptedConnection(self)

    async def answer(self, seconds: float) -> None:
        """Take ``seconds``, or for ever while hanging."""
        if self.is_hanging:
            await trio.sleep_forever()
        await trio.sleep(seconds)


class ScriptedConnection:
    """Behaves as `bulkhead_trio.database.Connection` does, cancellation included."""

    def __init__(self, database: ScriptedDatabase) -> None:
        self._database = database
        self._is_closed = False
        self._is_interrupted = False
        self.is_doomed = False

    @property
    def is_interrupted(self) -> bool:
        """Whether a cancelled query's answer is still under way."""
        return self._is_interrupted

    @property
    def is_reusable(self) -> bool:
        """Whether it is open and idle."""
        return not (self._is_closed or self._is_interrupted)

    def has_gone(self) -> bool:
        """Whether it is closed, or the database is away."""
        return self._is_closed or self._database.is_away

    async def execute(self, *_query: Any, **_options: Any) -> ScriptedCursor:
        """Run a query.

        Raises:
            psycopg.OperationalError: it is closed, interrupted, or the database went away.
        """
        if not self.is_reusable:
            raise psycopg.OperationalError("scripted: the connection is not usable")
        self._database.running_queries += 1
        try:
            await self._database.answer(self._database.query_seconds)
        except trio.Cancelled:
            self._is_interrupted = True
            raise
        self._database.running_queries -= 1
        if self._database.is_away or self.is_doomed:
            self.abandon()
            raise psycopg.OperationalError("scripted: the connection broke")
        return ScriptedCursor(self._database.rows)

    async def fetch_value(self, *_query: Any) -> bytes:
        """Run a query whose one value is the database's rows, as ``tenant_data``'s are answered.

        Raises:
            psycopg.OperationalError: it is closed, interrupted, or the database went away.
        """
        cursor = await self.execute()
        return _wire_json(await cursor.fetchall())

    async def recover(self, *, timeout: float) -> bool:
        """Cancel the interrupted query, if the database answers within ``timeout``."""
        with trio.move_on_after(timeout):
            await self._database.answer(RECOVERY_SECONDS)
            self._end_query()
            self._is_interrupted = False
            return True
        self.abandon()
        return False

    def _end_query(self) -> None:
        if self._is_interrupted:
            self._database.running_queries -= 1

    def abandon(self) -> None:
        """Close it."""
        if self._is_closed:
            return
        self._is_closed = True
        self._end_query()
        self._is_interrupted = False
        self._database.open_connections -= 1


class ScriptedCursor:
    """What a query answered."""

    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        self._rows = rows

    async def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows."""
        return list(self._rows)


def _wire_json(rows: Sequence[tuple[Any, ...]]) -> bytes:
    names = ("id", "tier", "payload", "created_at")
    return msgspec.json.encode([dict(zip(names, row, strict=True)) for row in rows])


def tenant_rows(tier: str, count: int = 3) -> list[tuple[Any, ...]]:
    """Rows as ``tenant_data`` has them, with the moment as it is answered."""
    created = "2026-02-11T12:00:00.000Z"
    return [
        (number, tier, {"message": f"{tier.title()} tier data point {number}"}, created)
        for number in range(1, count + 1)
    ]
