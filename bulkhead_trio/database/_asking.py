"""What the stores of tenants, routes and the audit share: whose fault an error is, and moments."""

from __future__ import annotations

import datetime
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import psycopg

from bulkhead_trio.database._cursor_rules import Cursor
from bulkhead_trio.database.connection import Connection
from bulkhead_trio.database.pool import Pool
from bulkhead_trio.errors import CallerError, DatabaseUnavailable

_log = logging.getLogger("bulkhead_trio.database")

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND: Final = datetime.timedelta(microseconds=1)

_OF_THE_VALUE: Final = (psycopg.DataError, psycopg.errors.CheckViolation)


@asynccontextmanager
async def asking(pool: Pool[Connection]) -> AsyncIterator[Connection]:
    """A connection for statements on tenants and what belongs to them.

    Raises:
        DatabaseUnavailable: the database is away, or refuses what does not depend on the values:
            a table that is missing, a right, a server that has become read-only.
        CallerError: a value is one that PostgreSQL cannot keep.
    """
    async with pool.acquire() as connection:
        try:
            yield connection
        except (psycopg.OperationalError, psycopg.InterfaceError):
            raise  # the pool has to see these
        except _OF_THE_VALUE as error:
            _log.info("a value cannot be kept: %s", " ".join(str(error).split()))
            raise CallerError("a value is not one that can be kept") from error
        except psycopg.Error as error:
            _log.warning("the database refuses a statement: %s", " ".join(str(error).split()))
            raise DatabaseUnavailable("the database refuses what tenants need") from error


def place_of(at: datetime.datetime, id_: str) -> Cursor:
    """The place of what was made at ``at``."""
    return Cursor((at - _EPOCH) // _MICROSECOND, id_)


def moment_of(cursor: Cursor) -> datetime.datetime:
    """When what ``cursor`` names was made."""
    return _EPOCH + cursor.at * _MICROSECOND
