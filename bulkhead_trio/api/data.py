"""``GET /api/data``: a tier's rows, through everything that protects the tier."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Awaitable, Mapping
from typing import Any

from bulkhead_trio.api._callers import belongs_to
from bulkhead_trio.api._problem import problem_of
from bulkhead_trio.api._wire import rate_limit_headers
from bulkhead_trio.api.messages import Request, Response
from bulkhead_trio.api.routes import Route, finish
from bulkhead_trio.database.tenant_data import Queryable, fetch_rows_json
from bulkhead_trio.errors import CallerError, DatabaseUnavailable, RateLimited
from bulkhead_trio.tenancy import Identity, TierResolver
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
        return (Route("GET", "/api/data", self.get, is_hot=True),)

    def get(self, request: Request) -> Response | Awaitable[Response]:
        """Identify → rate limit → breaker → compartment → database → answer."""
        identity = self._resolver.resolve(
            tier_header=request.headers.get("x-tenant-tier"),
            api_key=request.headers.get("x-api-key"),
        )
        if isinstance(identity, Identity):
            return self._get(identity, request)
        return self._get_when_known(identity, request)

    async def _get_when_known(self, identity: Awaitable[Identity], request: Request) -> Response:
        begun = self._get(await identity, request)
        return begun if isinstance(begun, Response) else await begun

    def _get(self, identity: Identity, request: Request) -> Response | Awaitable[Response]:
        tier = self._tiers[identity.tier]
        request.notes["tier"] = tier.name
        if identity.caller is not None:
            belongs_to(request, identity.caller.tenant.id)
        decision = tier.take_quota()
        if decision is None:
            return self._query(tier, request)
        headers = rate_limit_headers(tier.name, decision, wall_clock=time.time())
        if decision.allowed:
            return self._query_with_quota(tier, request, headers)
        request.notes["code"] = RateLimited.code
        seconds = math.ceil(decision.retry_after)
        refusal = _refusal(tier.name, decision.limit, decision.window, seconds, request.target)
        return refusal.with_headers(headers)

    async def _query_with_quota(
        self, tier: Tier[Any], request: Request, headers: tuple[tuple[bytes, bytes], ...]
    ) -> Response:
        # Errors become answers here already, since the quota's headers belong on those as well.
        return (await finish(self._query(tier, request), request)).with_headers(headers)

    async def _query(self, tier: Tier[Any], request: Request) -> Response:
        timeout = request.timeout()
        limit, force_error = self._parameters(request)

        async def work(connection: Queryable) -> bytes:
            if force_error:
                raise DatabaseUnavailable("The database call failed, as force_error asked.")
            return await fetch_rows_json(connection, tier=tier.name, limit=limit)

        return Response(200, await tier.query(work, timeout=timeout))

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


@functools.lru_cache(maxsize=64)
def _refusal(tier: str, limit: int, window: float, retry_after: int, target: str) -> Response:
    """Remembered: a flood is refused with the same words until the second ends."""
    detail = f"The tier {tier} allows {limit} requests per {window:g} seconds."
    return problem_of(RateLimited(detail, retry_after=retry_after), instance=target)
