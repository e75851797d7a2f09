"""The way into what is a tenant's own: its key, its quota, and the door's own compartment.

Events, webhooks, deliveries and notifications share a pool of database connections that no tier
has a part in. In front of it is a compartment: what a tenant asks there can fill that, and neither
a tier's compartment nor its connections; nor does a full tier reach those who come in here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Final, TypeAlias

import msgspec
import trio

from bulkhead_trio.api._callers import belongs_to
from bulkhead_trio.api._problem import problem_of
from bulkhead_trio.api._wire import event_quota_words, rate_limit_headers
from bulkhead_trio.api.messages import Request, Response
from bulkhead_trio.api.routes import Handler, finish
from bulkhead_trio.database.tenant_records import TenantRecord
from bulkhead_trio.errors import (
    ApiKeyMissing,
    CallerError,
    DatabaseTooSlow,
    DeadlineExceeded,
    RateLimited,
)
from bulkhead_trio.observe.delivery_snapshots import IntakeSnapshot
from bulkhead_trio.observe.snapshots import BreakerSnapshot
from bulkhead_trio.policies.breaker import CircuitBreaker
from bulkhead_trio.policies.compartment import Compartment
from bulkhead_trio.policies.deadline import Deadline
from bulkhead_trio.policies.rate import KeyedRateLimiter
from bulkhead_trio.tenancy import ApiKeyGuard, Caller
from bulkhead_trio.tiers.tier import FAIR_SHARE

TENANT_SECONDS: Final = 10.0
"""The server's own deadline for a request that comes in here; its statements take milliseconds."""

MOST_NAMED: Final = 100
"""Characters of a parameter's name that an answer repeats."""

TenantHandler: TypeAlias = Callable[[Request, TenantRecord], Awaitable[Response]]
"""A handler that is told whose the request is."""


class TenantDoor:
    """Lets in whoever has a tenant's key: into a compartment, behind a breaker, for a while.

    Args:
        guard: knows the keys; one is needed here, whatever the guard lets pass elsewhere.
        compartment: bounds what runs and what waits. It should be no wider than the pool of the
            stores behind it, and its line one that tenants share fairly. Who gives it runs it.
        breaker: in front of the database; should ignore what
            `bulkhead_trio.tiers.says_nothing_of_the_database` says.
        timeout: the longest that a request may take, in seconds.
    """

    def __init__(
        self,
        guard: ApiKeyGuard,
        compartment: Compartment,
        breaker: CircuitBreaker,
        *,
        timeout: float = TENANT_SECONDS,
    ) -> None:
        self.timeout = timeout
        self._guard = guard
        self._compartment = compartment
        self._breaker = breaker

    def around(self, handler: TenantHandler, *parameters: str) -> Handler:
        """The handler, for tenants, with their identity; it knows these fields of the query."""

        async def guarded(request: Request) -> Response:
            tenant = await self.tenant_of(request)
            check_parameters(request, parameters)
            return await self.within(request, tenant, handler)

        return guarded

    def identify(self, request: Request) -> Caller | Awaitable[Caller]:
        """Whose the request is: at once where that is known, otherwise to be awaited.

        Raises, at once or when awaited:
            ApiKeyMissing: it has no key.
            ApiKeyInvalid: its key is nobody's.
            TenantInactive: the key's tenant is switched off.
            DatabaseUnavailable: only the database knows whose the key is, and it is away.
        """
        caller = self._guard.check(request.headers.get("x-api-key"))
        if caller is None:
            raise ApiKeyMissing("Send your API key in the header X-API-Key.")
        return caller

    async def tenant_of(self, request: Request) -> TenantRecord:
        """Whose the request is; from here on its log line and its place in lines say so.

        Raises:
            ApiKeyMissing, ApiKeyInvalid, TenantInactive, DatabaseUnavailable: see `identify`.
        """
        caller = self.identify(request)
        if not isinstance(caller, Caller):
            caller = await caller
        belongs_to(request, caller.tenant.id)
        return caller.tenant

    async def within(
        self, request: Request, tenant: TenantRecord, handler: TenantHandler
    ) -> Response:
        """Run ``handler`` in the compartment, with the breaker's leave, within the deadline.

        Raises:
            CircuitOpen: the database has been failing; nothing was tried.
            BulkheadFull: too many are in here, and too many wait.
            DeadlineUnreachable: the predicted wait is longer than the deadline allows.
            Shed: the place in the line went to a tenant that has fewer.
            DeadlineExceeded: the deadline passed.
            DatabaseUnavailable: the database is away.
        """
        deadline = Deadline.starting_now(limit=self.timeout, asked=request.timeout())
        self._breaker.check()
        # The deadline of the wait ends before the permit begins: too long a line is no failure of
        # the database.
        with deadline.enforced():
            slot = await self._compartment.acquire(key=tenant.id)
        with slot, self._breaker.permit():
            began = math.inf
            try:
                with deadline.enforced():
                    began = trio.current_time()
                    return await handler(request, tenant)
            except DeadlineExceeded as error:
                if trio.current_time() - began >= FAIR_SHARE * self.timeout:
                    raise DatabaseTooSlow(error.message) from error
                raise

    def intake(self, of_events: IntakeSnapshot) -> IntakeSnapshot:
        """What the door holds, beside what is known of the events that have come in."""
        now, breaker = self._compartment.statistics(), self._breaker.statistics()
        return msgspec.structs.replace(
            of_events,
            workers=now.workers,
            active=now.active,
            places=now.places,
            queued=now.queued,
            refused=of_events.refused + now.refused,
            breaker=BreakerSnapshot.of(breaker).state,
            opened=breaker.opened,
        )


class EventQuota:
    """How much tenants may send: events, notifications and test events together.

    Args:
        limiter: a quota for each tenant's id; those that are exempt always pass.
        parts: how many processes have a part of the quota each; ``limiter`` has one of them.
    """

    def __init__(self, limiter: KeyedRateLimiter, *, parts: int = 1) -> None:
        self._limiter = limiter
        self._parts = parts

    def spend(
        self, request: Request, tenant: TenantRecord, handler: TenantHandler
    ) -> Response | Awaitable[Response]:
        """Answer a request that counts; every answer says what is left."""
        decision = self._limiter.acquire_nowait(tenant.id)
        headers = rate_limit_headers("events", decision, wall_clock=time.time())
        if decision.allowed:
            return self._handle(request, tenant, handler, headers)
        refused = RateLimited(
            event_quota_words(decision, self._parts),
            retry_after=decision.retry_after,
        )
        request.notes["code"] = refused.code
        return problem_of(refused, instance=request.target).with_headers(headers)

    async def _handle(
        self,
        request: Request,
        tenant: TenantRecord,
        handler: TenantHandler,
        headers: tuple[tuple[bytes, bytes], ...],
    ) -> Response:
        # Errors become answers here already, since the quota's headers belong on those as well.
        return (await finish(_checked(handler, request, tenant), request)).with_headers(headers)


async def _checked(handler: TenantHandler, request: Request, tenant: TenantRecord) -> Response:
    check_parameters(request, ())
    return await handler(request, tenant)


def check_parameters(request: Request, known: Collection[str]) -> None:
    """A field of the query that is spelled wrongly is not one that was left out.

    Raises:
        CallerError: there is one that is not known, or the query cannot be read.
    """
    if not request.query:
        return
    unknown = [name for name in request.parameters() if name not in known]
    if unknown:
        raise CallerError(f"{unknown[0][:MOST_NAMED]} is no parameter here")


def spending(door: TenantDoor, quota: EventQuota, handler: TenantHandler) -> Handler:
    """The handler, for tenants, of whose quota each request takes one; refusals come at once.

    It knows no fields of the query.
    """

    def guarded(request: Request) -> Response | Awaitable[Response]:
        caller = door.identify(request)
        if isinstance(caller, Caller):
            belongs_to(request, caller.tenant.id)
            return quota.spend(request, caller.tenant, handler)
        return when_known(request, caller)

    async def when_known(request: Request, looking: Awaitable[Caller]) -> Response:
        caller = await looking
        belongs_to(request, caller.tenant.id)
        begun = quota.spend(request, caller.tenant, handler)
        return begun if isinstance(begun, Response) else await begun

    return guarded
