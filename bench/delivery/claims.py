"""What one claim costs, from a thousand to a million deliveries waiting.

``python -m bench.delivery.claims``: fills an embedded PostgreSQL of its own, and times claims of 20
and what finishing them takes. The waiting rows belong to 100 endpoints of 10 tenants, or all to one
endpoint that fails: then a claim finds what few first tries there are beside a mass of retries.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import uuid
from pathlib import Path
from typing import Final

import attrs
import trio

from bulkhead_trio.database import Connection, Pool, PoolSettings, create_pool
from bulkhead_trio.database.delivery_records import AttemptRecord
from bulkhead_trio.database.embedded import open_embedded_server
from bulkhead_trio.database.migrate import migrate
from bulkhead_trio.database.work import WebhookWorkStore
from bulkhead_trio.database.work_records import Finished, WebhookWork

SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)
CLAIM: Final = 20
PARALLEL: Final = 60
ROUNDS: Final = 200
WARM_UP: Final = 10

_RESET: Final = b"""
TRUNCATE events, deliveries, delivery_attempts, work, work_heads, work_shares, work_counts,
    tenants CASCADE;
UPDATE work_clocks SET turn = 0
"""

_ENDPOINTS: Final = b"""
WITH owners AS (
    INSERT INTO tenants (name, tier) SELECT 'tenant ' || n, 'pro' FROM generate_series(1, 10) AS n
    RETURNING id
)
INSERT INTO webhooks (id, tenant_id, url, event_types, secrets, secrets_until)
SELECT bulkhead_trio_new_id(), owners.id, 'https://example.com/' || n, ARRAY['*'],
    ARRAY['x'::bytea], ARRAY[NULL::timestamptz]
FROM owners, generate_series(1, 10) AS n
"""

_FILL: Final = b"""
WITH endpoints AS MATERIALIZED (
    SELECT id, tenant_id, row_number() OVER (ORDER BY id) - 1 AS place FROM webhooks
), event AS (
    INSERT INTO events (tenant_id, type, payload)
    SELECT tenant_id, 'order.completed', '{"orderId":"order-1"}' FROM endpoints LIMIT 1
    RETURNING id
), made AS (
    INSERT INTO deliveries (event_id, webhook_id, tenant_id, state)
    SELECT event.id, e.id, e.tenant_id, %(state)s
    FROM event, generate_series(1, %(count)s) AS n
    JOIN endpoints AS e ON e.place = CASE WHEN %(one)s THEN 0 ELSE n %% 100 END
    RETURNING id, webhook_id, tenant_id
), added AS (
    INSERT INTO work (item_id, kind, lane, attempts, tenant_id, queue_id, due_at)
    SELECT id, 1, %(lane)s, %(lane)s, tenant_id, webhook_id, now() FROM made
)
SELECT bulkhead_trio_put_heads(1::smallint, array_agg(id), array_agg(%(lane)s::smallint),
    array_agg(tenant_id), array_agg(now()), array_agg('sooner'::text))
FROM endpoints WHERE NOT %(one)s OR place = 0
"""


@attrs.frozen
class Cost:
    """Medians and 99th percentiles in milliseconds, and how many a claim gave on average."""

    claim: float
    claim_p99: float
    finish: float
    given: float


async def measure(store: WebhookWorkStore, owner: uuid.UUID, rounds: int) -> Cost:
    """Claims and finishes, one after the other, as one busy instance does."""
    claims, finishes, given = [], [], 0
    for number in range(WARM_UP + rounds):
        began = time.perf_counter()
        works = await store.claim(owner, CLAIM, 60, PARALLEL)
        claimed = time.perf_counter()
        await store.finish(owner, [_delivered(work) for work in works])
        ended = time.perf_counter()
        if number >= WARM_UP:
            claims.append(claimed - began)
            finishes.append(ended - claimed)
            given += len(works)
    return Cost(
        1000 * statistics.median(claims),
        1000 * sorted(claims)[int(len(claims) * 0.99)],
        1000 * statistics.median(finishes),
        given / rounds,
    )


def _rounds(waiting: int) -> int:
    """So many that there is still enough to claim at the last."""
    return min(ROUNDS, waiting // CLAIM * 9 // 10 - WARM_UP)


def _delivered(work: WebhookWork) -> Finished:
    attempt = AttemptRecord(0, work.created_at, 200, None, 1.0, "ok")
    return Finished(work.item_id, work.attempts, attempt, "delivered")


async def fill(pool: Pool[Connection], count: int, *, is_one_dead: bool) -> None:
    """``count`` rows that wait, and nothing else."""
    async with pool.acquire() as connection:
        await connection.execute(_RESET)
        await connection.execute(_ENDPOINTS)
        mass = {"count": count, "one": is_one_dead, "lane": int(is_one_dead),
                "state": "retrying" if is_one_dead else "pending"}  # fmt: skip
        await connection.execute(_FILL, mass)
        if is_one_dead:
            first = {"count": CLAIM * (ROUNDS + WARM_UP), "one": False, "lane": 0,
                     "state": "pending"}  # fmt: skip
            await connection.execute(_FILL, first)
        await connection.execute(b"VACUUM ANALYZE work, work_heads, deliveries")


async def main(sizes: tuple[int, ...]) -> None:
    """Fill, measure and print, size by size."""
    with tempfile.TemporaryDirectory(prefix="bulkhead-claims-") as directory:
        async with open_embedded_server(Path(directory) / "postgres", max_connections=20) as server:
            async with await Connection.connect(server.conninfo, autocommit=True) as connection:
                await migrate(connection)
            pool = create_pool("claims", PoolSettings(server.conninfo, max_size=2, timeout=600))
            async with trio.open_nursery() as nursery:
                await nursery.start(pool.run)
                store = WebhookWorkStore(pool)
                print("| waiting | of | claim ms | p99 | finish ms | given |")
                print("|---|---|---|---|---|---|")
                for is_one_dead, words in ((False, "100 endpoints"), (True, "1 dead endpoint")):
                    for size in sizes:
                        await fill(pool, size, is_one_dead=is_one_dead)
                        cost = await measure(store, uuid.uuid4(), _rounds(size))
                        print(
                            f"| {size:,} | {words} | {cost.claim:.2f} | {cost.claim_p99:.2f} | "
                            f"{cost.finish:.2f} | {cost.given:.1f} |",
                            flush=True,
                        )
                nursery.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, default=list(SIZES))
    trio.run(main, tuple(parser.parse_args().sizes))
