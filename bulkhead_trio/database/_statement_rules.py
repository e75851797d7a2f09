"""Which statements a connection has prepared, under what names, and what to do when one is lost.

A prepared statement belongs to a session of the server. It is lost to ``DISCARD ALL``, to
``DEALLOCATE``, and to a pooler between us and the server that gives each transaction another
session (pgbouncer's transaction mode, unless it keeps track of statements itself, as it has since
1.21). A lost one is run unprepared, which works through anything, and prepared anew the next time;
a connection that keeps losing them prepares no more.
"""

from __future__ import annotations

import hashlib
from typing import Final

import attrs

MOST_LOSSES: Final = 3
"""After so many a connection's statements are not prepared any more: a session that was reset now
and then loses fewer, and one behind a pooler has lost as many within a few requests."""

UNKNOWN_STATEMENT: Final = b"26000"
"""SQLSTATE ``invalid_sql_statement_name``."""

KNOWN_STATEMENT: Final = b"42P05"
"""SQLSTATE ``duplicate_prepared_statement``."""

NOT_SUPPORTED: Final = b"0A000"
"""SQLSTATE ``feature_not_supported``, which a plan that has other columns now is told with."""

REPLANNING: Final = b"RevalidateCachedQuery"
"""The function of PostgreSQL that finds that out; the message says it in the server's language."""

_NAME_BYTES: Final = 16


@attrs.frozen(eq=False)
class Statement:
    """One SQL statement with ``$1``, ``$2`` ... for its parameters; made once, used for ever.

    Attributes:
        sql: the text.
        name: what it is prepared as: the same for the same text everywhere, so that a name that
            is taken is taken by this statement.
    """

    sql: bytes
    name: bytes = attrs.field(init=False)

    @name.default
    def _digest(self) -> bytes:
        return b"bulkhead_" + hashlib.sha256(self.sql).hexdigest()[:_NAME_BYTES].encode()


class PreparedStatements:
    """What one connection knows of the statements in its session."""

    __slots__ = ("_losses", "_names")

    def __init__(self) -> None:
        self._names: dict[Statement, bytes] = {}
        self._losses = 0

    def get(self, statement: Statement) -> bytes | None:
        """The name that it is prepared under; ``None`` if it is not."""
        return self._names.get(statement)

    def name_for(self, statement: Statement) -> bytes | None:
        """The name to prepare it under; ``None``: do not, it would be lost again."""
        if self._losses >= MOST_LOSSES:
            return None
        # After a loss another one: the session may have the old name with a plan that is no good.
        return statement.name + b"_%d" % self._losses

    def keep(self, statement: Statement, name: bytes) -> None:
        """It is prepared now."""
        self._names[statement] = name

    def lose(self) -> None:
        """One of them is not there, or of no use, any more; so the others are looked at anew."""
        self._names.clear()
        self._losses += 1


def is_loss(sqlstate: bytes | None, routine: bytes | None) -> bool:
    """Whether an error says that a prepared statement is gone, or answers what it did not before.

    Args:
        sqlstate: the error's code.
        routine: the function of PostgreSQL that raised it.
    """
    return sqlstate == UNKNOWN_STATEMENT or (sqlstate == NOT_SUPPORTED and routine == REPLANNING)
