"""PostgreSQL on Trio: connection, pool, embedded server, migrations."""

from bulkhead_trio.database.connection import Connection, open_connection
from bulkhead_trio.database.pool import Pool, PooledConnection, PoolStatistics

__all__ = ["Connection", "Pool", "PoolStatistics", "PooledConnection", "open_connection"]
