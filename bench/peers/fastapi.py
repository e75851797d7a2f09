"""``GET /api/data`` in FastAPI on uvicorn, with asyncpg.

The answers are `JSONResponse` made by hand: it is faster than having FastAPI convert the rows.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from bench.peers.tiers import ROWS, SELECT, TierSettings, common_headers, problem, read_tiers
from bench.peers.uvicorn import serve

PROBLEM = "application/problem+json"


async def _decode_json(connection: Any) -> None:
    await connection.set_type_codec(
        "jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog"
    )


class Data:
    """The route, and the pools that it needs."""

    def __init__(self, tiers: dict[str, TierSettings]) -> None:
        self._tiers = tiers
        self._pools: dict[str, Any] = {}

    @asynccontextmanager
    async def open_pools(self, _app: Any) -> AsyncIterator[None]:
        """A pool for each tier, until the block ends."""
        async with AsyncExitStack() as stack:
            for name, tier in self._tiers.items():
                pool = asyncpg.create_pool(
                    min_size=1,
                    max_size=tier.connections,
                    max_inactive_connection_lifetime=0,
                    init=_decode_json,
                )
                self._pools[name] = await stack.enter_async_context(pool)
            yield

    async def get(self, request: Request) -> JSONResponse:
        """The tier's rows."""
        headers = common_headers(request.headers.get("x-request-id"))
        tier = self._tiers.get(request.headers.get("x-tenant-tier", ""))
        if tier is None:
            unknown = problem(400, "tenant_tier_invalid", "Unknown tier")
            return JSONResponse(unknown, 400, headers, PROBLEM)
        allowed, quota = tier.take()
        headers |= quota
        if not allowed:
            refusal = problem(429, "rate_limited", "Rate limit exceeded")
            return JSONResponse(refusal, 429, headers, PROBLEM)
        rows = await self._pools[tier.name].fetch(SELECT, tier.name, ROWS)
        return JSONResponse([_wire_row(row) for row in rows], headers=headers)


async def health() -> dict[str, str]:
    """That it is alive."""
    return {"status": "healthy"}


def _wire_row(row: Any) -> dict[str, Any]:
    moment = row["created_at"].isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"id": row["id"], "tier": row["tier"], "payload": row["payload"], "created_at": moment}


def main() -> None:
    """Serve until told to stop."""
    data = Data(read_tiers())
    app = FastAPI(lifespan=data.open_pools)
    app.add_api_route("/health", health, response_model=None)
    app.add_api_route("/api/data", data.get, response_model=None)
    serve(app)


if __name__ == "__main__":
    main()
