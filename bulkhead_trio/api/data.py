"""``GET /api/data``: a tier's rows, through everything that protects the tier."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Any

from bulkhead_trio.api._problem import problem_of
from bulkhead_trio.api._wire import rate_limit_headers, wire_time
from bulkhead_trio.api.messages import Request, Response
from bulkhead_trio.api.routes import Route, answer
from bulkhead_trio.database.tenant_data import Queryable, TenantRow, fetch_rows
from bulkhead_trio.errors import CallerError, DatabaseUnavailable, RateLimited
from bulkhead_trio.tenancy import TierResolver
from bulkhead_trio.tiers import Tier

DEFAULT_LIMIT = 10
LARGEST_LIMIT = 100


class DataResource:
    """Answers with the caller's tier's data.

    Args:
        tiers: by name.
        resolver: says whose request it is.
        allow_force_error: whether ``?force_error=true`` does anything.
    """

    name = "data"

    def __init__(
        self,
        tiers: Mapping[str, Tier[Any]],
        resolver: TierResolver,
        *,
        allow_force_error: bool,
    ) -> None:
        self._tiers = tiers
        self._resolver = resolver
        self._allow_force_error = allow_force_error

    def routes(self) -> tuple[Route, ...]:
        """The one route."""
        return (Route("GET", "/api/data", self.get),)

    async def get(self, request: Request) -> Response:
        """Identify → rate limit → breaker → compartment → database → answer."""
        tier = self._tiers[
            self._resolver.resolve(
                tier_header=request.headers.get("x-tenant-tier"),
                api_key=request.headers.get("x-api-key"),
            )
        ]
        request.notes["tier"] = tier.name
        decision = tier.take_quota()
        if decision is None:
            return await self._query(tier, request)
        headers = rate_limit_headers(tier.name, decision, wall_clock=time.time())
        if not decision.allowed:
            refused = RateLimited(
                f"The tier {tier.name} allows {decision.limit} requests "
                f"per {decision.window:g} seconds.",
                retry_after=decision.retry_after,
            )
            request.notes["code"] = refused.code
            return problem_of(refused, instance=request.target).with_headers(headers)
        # Errors become answers here already, since the quota's headers belong on those as well.
        answered = await answer(functools.partial(self._query, tier), request)
        return answered.with_headers(headers)

    async def _query(self, tier: Tier[Any], request: Request) -> Response:
        timeout = request.timeout()
        limit, force_error = self._parameters(request)

        async def work(connection: Queryable) -> list[TenantRow]:
            if force_error:
                raise DatabaseUnavailable("The database call failed, as force_error asked.")
            return await fetch_rows(connection, tier=tier.name, limit=limit)

        rows = await tier.query(work, timeout=timeout)
        return Response.json([_wire_row(row) for row in rows])

    def _parameters(self, request: Request) -> tuple[int, bool]:
        parameters = request.parameters()
        text = parameters.get("limit", str(DEFAULT_LIMIT))
        limit = int(text) if text.isascii() and text.isdigit() and len(text) <= 3 else 0
        if not 1 <= limit <= LARGEST_LIMIT:
            raise CallerError(f"limit must be a whole number from 1 to {LARGEST_LIMIT}")
        force_error = parameters.get("force_error", "false")
        if force_error not in ("true", "false"):
            raise CallerError("force_error must be true or false")
        return limit, force_error == "true" and self._allow_force_error


def _wire_row(row: TenantRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "tier": row.tier,
        "payload": row.payload,
        "created_at": wire_time(row.created_at),
    }
