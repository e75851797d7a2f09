"""The rows of ``tenant_data``, as the JSON that a caller is answered.

PostgreSQL writes it, and the bytes that it sends are the body; ``docs/database.md`` has what that
saves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from bulkhead_trio.database._statement_rules import Statement

MOST_ROWS: Final = 100
"""The most that one query may be asked for; a constant in it, for the sake of its plan."""

# Three forms are for the planner's sake, and change no answer:
# - The inner LIMIT is a constant. Of `LIMIT $2` the planner guesses a tenth of the table, thinks a
#   plan for each value cheaper, and plans anew every time, which takes as long as the query.
#   Rows are only read as far as $2 goes.
# - `= ANY (ARRAY[$1])` with an order by tier and id. Of `tier = $1` the planner infers that order
#   by id is enough, may walk the primary key, and passes over all the older rows of other tiers.
# - The outer order is the inner one, so it is not sorted again; it is said because nothing else
#   guarantees it.
_SELECT: Final = Statement(
    f"""
SELECT '[' || array_to_string(ARRAY(
    SELECT '{{"id":' || id || ',"tier":' || to_json(tier) || ',"payload":' || payload
        || ',"created_at":' || CASE
            WHEN created_at >= '0001-01-01T00:00:00Z' AND created_at < '10000-01-01T00:00:00Z'
            THEN to_char(created_at AT TIME ZONE 'UTC', '\\"YYYY-MM-DD"T"HH24:MI:SS.MS"Z"\\"')
            ELSE 'null' END || '}}'
    FROM (
        SELECT id, tier, payload, created_at FROM tenant_data
        WHERE tier = ANY (ARRAY[$1]) ORDER BY tier, id LIMIT {MOST_ROWS}
    ) AS first_rows
    ORDER BY tier, id LIMIT $2
), ',') || ']'
""".encode()  # noqa: S608  a constant of our own
)


class Queryable(Protocol):
    """What running one query needs of a connection."""

    async def fetch_value(self, statement: Statement, parameters: Sequence[bytes]) -> bytes | None:
        """The one value that ``statement`` answers; `bulkhead_trio.database.Connection` has it."""


async def fetch_rows_json(connection: Queryable, *, tier: str, limit: int) -> bytes:
    """The first ``limit`` rows of ``tier``, oldest id first, as a JSON array in UTF-8.

    ``[{"id":1,"tier":"free","payload":{...},"created_at":"2026-02-11T12:00:00.000Z"}]``, and ``[]``
    where there is none. Numbers in a payload have all their digits. Moments are in UTC and cut to
    milliseconds; one that no such text can say (before the year 1, after 9999, infinite) is null.

    Raises:
        ValueError: ``limit`` is not from 0 to `MOST_ROWS`.
        psycopg.Error: PostgreSQL refuses, or is gone.
    """
    if not 0 <= limit <= MOST_ROWS:
        raise ValueError(f"limit must be from 0 to {MOST_ROWS}, not {limit}")
    value = await connection.fetch_value(_SELECT, (tier.encode(), b"%d" % limit))
    assert value is not None  # noqa: S101  nothing that is joined can be NULL
    return value
