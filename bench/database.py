"""The PostgreSQL of a benchmark: embedded, its own, and slow on demand for chosen tiers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote, urlencode

import attrs
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bulkhead_trio.database.connection import Connection
from bulkhead_trio.database.embedded import open_embedded_server

MAX_CONNECTIONS = 120
"""The three default tiers need 75; the rest is for the benchmark's own and for administration."""

APPLICATION_NAME = "bulkhead-trio/{tier}"
"""How the server names the connections of a tier."""

_LIBPQ_VARIABLES = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
}

_SLOW_VIEW = """
ALTER TABLE tenant_data RENAME TO tenant_data_rows;
CREATE TABLE bench_delays (application_name text PRIMARY KEY, seconds float8 NOT NULL);
CREATE FUNCTION bench_delay() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_sleep(seconds) FROM bench_delays
        WHERE application_name = current_setting('application_name');
    RETURN true;
END $$;
CREATE VIEW tenant_data AS SELECT * FROM tenant_data_rows WHERE (SELECT bench_delay());
"""
"""In the place of the table, a view that first sleeps as long as ``bench_delays`` says for the
connection that asks. The subquery makes it once a query, not once a row; the server's own SQL is
none the wiser, and connections that ``bench_delays`` does not list are not delayed."""


@attrs.frozen
class Database:
    """One database for one server process, so that scenarios do not meet."""

    conninfo: str

    @property
    def url(self) -> str:
        """The same as a URL, for ``DATABASE_URL``."""
        params = {k: str(v) for k, v in conninfo_to_dict(self.conninfo).items() if v is not None}
        name = params.pop("dbname", "")
        return f"postgresql:///{quote(name, safe='')}?{urlencode(params)}"

    @property
    def environment(self) -> dict[str, str]:
        """The same as libpq's variables, which other drivers read too."""
        params = conninfo_to_dict(self.conninfo)
        return {
            variable: str(params[name])
            for name, variable in _LIBPQ_VARIABLES.items()
            if params.get(name) is not None
        }

    async def slow_down(self, seconds: Mapping[str, float]) -> None:
        """Make every query of some tiers take so many ``seconds`` (tier to seconds) longer.

        Call it once, when the server has applied its migrations; then `set_delays`.

        Raises:
            psycopg.Error: the database refuses.
        """
        async with _connect(self.conninfo) as connection:
            await connection.execute(_SLOW_VIEW)
        await self.set_delays(seconds)

    async def set_delays(self, seconds: Mapping[str, float]) -> None:
        """From now on, slow these tiers down instead of those before.

        Raises:
            psycopg.Error: the database refuses, or `slow_down` was never called.
        """
        async with _connect(self.conninfo) as connection, connection.transaction():
            await connection.execute("DELETE FROM bench_delays")
            for tier, delay in seconds.items():
                await connection.execute(
                    "INSERT INTO bench_delays VALUES (%s, %s)",
                    (APPLICATION_NAME.format(tier=tier), delay),
                )

    async def running_queries(self) -> int:
        """How many connections of the server's tiers are amid a query or a transaction.

        Raises:
            psycopg.Error: the database refuses.
        """
        async with _connect(self.conninfo) as connection:
            cursor = await connection.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE application_name LIKE %s AND state <> 'idle'",
                (APPLICATION_NAME.format(tier="%"),),
            )
            row = await cursor.fetchone()
            assert row is not None, "count(*) always has a row"
            return int(row[0])


@attrs.frozen
class DatabaseServer:
    """A PostgreSQL server. Open one with `open_database_server`."""

    conninfo: str

    async def create(self, name: str) -> Database:
        """A new, empty database.

        Raises:
            psycopg.Error: there is one of that name.
        """
        async with _connect(self.conninfo) as connection:
            await connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return Database(make_conninfo(self.conninfo, dbname=name))

    async def version(self) -> str:
        """PostgreSQL's version.

        Raises:
            psycopg.Error: the database refuses.
        """
        async with _connect(self.conninfo) as connection:
            row = await (await connection.execute("SHOW server_version")).fetchone()
            assert row is not None, "SHOW always has a row"
            return str(row[0])


@asynccontextmanager
async def _connect(conninfo: str) -> AsyncIterator[Connection]:
    connection = await Connection.connect(conninfo, autocommit=True)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def open_database_server(
    directory: Path, *, max_connections: int = MAX_CONNECTIONS
) -> AsyncIterator[DatabaseServer]:
    """Start an embedded PostgreSQL in ``directory``; it is stopped when the block ends."""
    async with open_embedded_server(directory, max_connections=max_connections) as server:
        yield DatabaseServer(server.conninfo)
