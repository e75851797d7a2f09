"""PostgreSQL on Trio: connection, pools, embedded server, migrations."""

from bulkhead_trio.database.connection import Connection, open_connection
from bulkhead_trio.database.pool import Pool, PooledConnection, PoolStatistics
from bulkhead_trio.database.registry import PoolRegistry, PoolSettings, UnknownPool, create_pool

__all__ = [
    "Connection",
    "Pool",
    "PoolRegistry",
    "PoolSettings",
    "PoolStatistics",
    "PooledConnection",
    "UnknownPool",
    "create_pool",
    "open_connection",
]
