"""Connection pools by function: what analytics does to its pool, transactions never feel."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import attrs
import trio
from psycopg.conninfo import conninfo_to_dict

from bulkhead_trio.database.connection import Connection
from bulkhead_trio.database.pool import Pool, PoolStatistics
from bulkhead_trio.errors import BulkheadTrioError, DeadlineExceeded

CONNECT_SECONDS = 5
"""The longest that libpq may try to reach the server."""

STATEMENT_TIMEOUT_MARGIN = 1.0
"""Seconds by which PostgreSQL's own limit is behind ours: it is the second line."""


class UnknownPool(BulkheadTrioError, LookupError):
    """There is no pool of that name; the message says which there are."""


@attrs.frozen
class PoolSettings:
    """One pool.

    Attributes:
        conninfo: PostgreSQL's connection string.
        max_size: connections at most; 1 or more.
        timeout: seconds that one use may take, waiting for a connection included; PostgreSQL's
            ``statement_timeout`` is set a second behind it.
        application_name: what ``pg_stat_activity`` shows.

    Raises:
        ValueError: ``max_size`` is below 1, or ``timeout`` not a positive number.
    """

    conninfo: str = attrs.field(repr=False)
    max_size: int = 5
    timeout: float = 10.0
    application_name: str = "bulkhead-trio"

    def __attrs_post_init__(self) -> None:
        if self.max_size < 1:
            raise ValueError(f"max_size must be 1 or more, not {self.max_size}")
        if not (self.timeout > 0 and math.isfinite(self.timeout)):
            raise ValueError(f"timeout must be a positive number, not {self.timeout}")


def create_pool(name: str, settings: PoolSettings) -> Pool[Connection]:
    """A pool of real connections; whoever takes it runs it."""
    milliseconds = int((settings.timeout + STATEMENT_TIMEOUT_MARGIN) * 1000)
    given = conninfo_to_dict(settings.conninfo).get("options") or ""
    options = f"{given} -c statement_timeout={milliseconds} -c TimeZone=UTC"

    async def connect() -> Connection:
        return await Connection.connect(
            settings.conninfo,
            autocommit=True,
            application_name=f"{settings.application_name}/{name}",
            connect_timeout=CONNECT_SECONDS,
            options=options.strip(),
        )

    return Pool(name, connect, max_size=settings.max_size)


class PoolRegistry:
    """Pools by name, opened and closed together: ``async with PoolRegistry({...}) as pools:``.

    Args:
        pools: what each is like.

    Raises:
        ValueError: there are none.
    """

    def __init__(self, pools: Mapping[str, PoolSettings]) -> None:
        if not pools:
            raise ValueError("pools must be one or more")
        self._settings = dict(pools)
        self._pools = {name: create_pool(name, each) for name, each in self._settings.items()}
        self._manager = trio.open_nursery()

    async def __aenter__(self) -> Self:
        self._nursery = nursery = await self._manager.__aenter__()
        for pool in self._pools.values():
            await nursery.start(pool.run)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._nursery.cancel_scope.cancel()
        # The nursery is not shown how the block ended: it would put that into a group.
        await self._manager.__aexit__(None, None, None)

    @asynccontextmanager
    async def acquire(self, name: str) -> AsyncIterator[Connection]:
        """Borrow a connection of the pool ``name`` for a block, within the pool's timeout.

        Raises:
            UnknownPool: there is none of that name.
            DeadlineExceeded: the timeout passed, waiting or inside the block.
            DatabaseUnavailable: the database is away, or went away.
        """
        pool, settings = self._named(name)
        with trio.CancelScope(deadline=trio.current_time() + settings.timeout) as scope:
            async with pool.acquire() as connection:
                yield connection
        if scope.cancelled_caught:
            raise DeadlineExceeded(f"the pool {name} allows {settings.timeout:g} seconds")

    async def execute(self, name: str, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement on the pool ``name``; its rows, or none where it has no result.

        Args:
            name: of the pool.
            sql: one statement, with ``%s`` for each of ``args``.
            args: the values.

        Raises:
            UnknownPool: there is no pool of that name.
            DeadlineExceeded: the pool's timeout passed, waiting or running.
            DatabaseUnavailable: the database is away, or went away.
            psycopg.Error: PostgreSQL refuses the statement.
        """
        async with self.acquire(name) as connection:
            cursor = await connection.execute(sql.encode(), args or None, prepare=True)
            return [] if cursor.description is None else await cursor.fetchall()

    def statistics(self) -> dict[str, PoolStatistics]:
        """What each pool holds now."""
        return {name: pool.statistics() for name, pool in self._pools.items()}

    def _named(self, name: str) -> tuple[Pool[Connection], PoolSettings]:
        try:
            return self._pools[name], self._settings[name]
        except KeyError:
            known = ", ".join(self._pools)
            raise UnknownPool(f"there is no pool {name!r}; there are: {known}") from None
