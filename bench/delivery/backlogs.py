"""Claims while more and more is waiting: of many endpoints, and of one that is dead."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence

import trio

from bench.database import Database
from bench.delivery.claiming import ClaimPoint, ClaimResult
from bench.delivery.claims import _rounds as rounds_of
from bench.delivery.claims import fill, measure
from bulkhead_trio.database import Connection, PoolSettings, create_pool
from bulkhead_trio.database.migrate import migrate
from bulkhead_trio.database.work import WebhookWorkStore

FILL_SECONDS = 600.0
SHAPES = (("100 endpoints", False), ("one dead endpoint, and a few first tries", True))
"""Whose the waiting rows are, and whether they are of one that fails."""


async def measure_claims(
    database: Database, backlogs: Sequence[int], *, on_step: Callable[[str], None]
) -> tuple[ClaimResult, ...]:
    """Fill an empty database with so much work at a time, and claim.

    Raises:
        DatabaseUnavailable: there is none.
    """
    async with await Connection.connect(database.conninfo, autocommit=True) as connection:
        await migrate(connection)
    results = []
    pool = create_pool("claims", PoolSettings(database.conninfo, max_size=2, timeout=FILL_SECONDS))
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        store = WebhookWorkStore(pool)
        for title, is_one_dead in SHAPES:
            points = []
            for waiting in backlogs:
                on_step(title)
                await fill(pool, waiting, is_one_dead=is_one_dead)
                cost = await measure(store, uuid.uuid4(), rounds_of(waiting))
                points.append(
                    ClaimPoint(waiting, cost.given, cost.claim, cost.claim_p99, cost.finish)
                )
            results.append(ClaimResult(title, points))
        nursery.cancel_scope.cancel()
    return tuple(results)
