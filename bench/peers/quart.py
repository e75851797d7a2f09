"""``GET /api/data`` in Quart-Trio on Hypercorn's Trio worker, with our own connection pool.

There is no other pool for PostgreSQL on Trio.
"""

from __future__ import annotations

import os
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from quart import Response, jsonify, request
from quart_trio import QuartTrio

from bench.peers.tiers import ROWS, SELECT, TierSettings, common_headers, problem, read_tiers
from bulkhead_trio.database import Connection, Pool

PROBLEM = "application/problem+json"
QUERY = SELECT.replace("$1", "%s").replace("$2", "%s")


class Data:
    """The route, and the pools that it needs."""

    def __init__(self, tiers: dict[str, TierSettings]) -> None:
        self._tiers = tiers
        self.pools: dict[str, Pool[Connection]] = {
            name: Pool(name, self._connect, max_size=tier.connections)
            for name, tier in tiers.items()
        }

    async def _connect(self) -> Connection:
        return await Connection.connect("", autocommit=True)  # libpq's variables say where

    async def get(self) -> Response:
        """The tier's rows."""
        headers = common_headers(request.headers.get("x-request-id"))
        tier = self._tiers.get(request.headers.get("x-tenant-tier", ""))
        if tier is None:
            return _refusal(400, "tenant_tier_invalid", "Unknown tier", headers)
        allowed, quota = tier.take()
        headers |= quota
        if not allowed:
            return _refusal(429, "rate_limited", "Rate limit exceeded", headers)
        async with self.pools[tier.name].acquire() as connection:
            cursor = await connection.execute(QUERY, (tier.name, ROWS), prepare=True)
            rows = await cursor.fetchall()
        answer = jsonify([_wire_row(row) for row in rows])
        answer.headers.update(headers)
        return answer


def _refusal(status: int, code: str, title: str, headers: dict[str, str]) -> Response:
    answer = jsonify(problem(status, code, title))
    answer.status_code = status
    answer.headers.update(headers)
    answer.content_type = PROBLEM
    return answer


async def health() -> dict[str, str]:
    """That it is alive."""
    return {"status": "healthy"}


def _wire_row(row: Any) -> dict[str, Any]:
    number, tier, payload, created_at = row
    moment = created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"id": number, "tier": tier, "payload": payload, "created_at": moment}


async def run() -> None:
    """Serve until told to stop."""
    data = Data(read_tiers())
    app = QuartTrio(__name__)
    app.add_url_rule("/health", view_func=health)
    app.add_url_rule("/api/data", view_func=data.get)
    config = Config()
    config.bind = [f"127.0.0.1:{os.environ['PORT']}"]
    config.errorlog = None
    async with trio.open_nursery() as nursery:
        for pool in data.pools.values():
            await nursery.start(pool.run)
        await serve(app, config)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(run)
