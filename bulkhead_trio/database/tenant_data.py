"""The rows of ``tenant_data``."""

from __future__ import annotations

import datetime
from typing import Any, Protocol

import attrs

_SELECT = (
    "SELECT id, tier, payload, created_at FROM tenant_data WHERE tier = %s ORDER BY id LIMIT %s"
)


@attrs.frozen
class TenantRow:
    """One row of a tier's data."""

    id: int
    tier: str
    payload: Any
    created_at: datetime.datetime


class Queryable(Protocol):
    """What running one query needs of a connection."""

    async def execute(self, query: str, params: tuple[Any, ...], *, prepare: bool) -> Any:
        """Run a query; the answer has ``fetchall``."""


async def fetch_rows(connection: Queryable, *, tier: str, limit: int) -> list[TenantRow]:
    """The first ``limit`` rows of ``tier``, oldest id first."""
    cursor = await connection.execute(_SELECT, (tier, limit), prepare=True)
    return [TenantRow(*row) for row in await cursor.fetchall()]
