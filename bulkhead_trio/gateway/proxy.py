"""The gateway's way of a request: route, compartment, and what happens inside it (`Journey`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bulkhead_trio.errors import BulkheadFull, RouteNotFound, UpstreamError
from bulkhead_trio.gateway._header_rules import hops_through_us
from bulkhead_trio.gateway.exchange import Inbound
from bulkhead_trio.gateway.journey import Journey
from bulkhead_trio.gateway.place import Place
from bulkhead_trio.gateway.routing import Routing
from bulkhead_trio.gateway.tally import Tally
from bulkhead_trio.gateway.traffic import Traffic
from bulkhead_trio.http.client import HTTPClient
from bulkhead_trio.observe.gateway_snapshots import NO_ROUTE
from bulkhead_trio.policies.deadline import Deadline
from bulkhead_trio.tenancy import Caller
from bulkhead_trio.tiers import Tier

MOST_SECONDS = 120.0
"""From a request's arrival to the head of its answer, all tries and waits together, unless its
caller asks for less. A body may take longer, as long as it gets on."""

MOST_HOPS = 8
"""Through gateways such as this one; a request that has made more goes in a circle."""

LASTING_PER_WORKER = 10
"""WebSockets and event streams that a tier may have open, for each of its workers; one tenant may
have half of them. They last, and do nothing most of the time, so they keep no place in the
compartment: ten of them would otherwise close a tier of ten workers to everybody."""


class Proxy:
    """Passes requests on to the upstreams of their tenants' routes.

    Args:
        routing: finds routes.
        client: asks upstreams; it must refuse forbidden addresses.
        tiers: by name.
        workers: of each tier's compartment.
        random: gives numbers from 0 up to but not including 1: for jitter, and for trace ids.
        max_body_bytes: of a request; ``None`` without a bound.
        traffic: counts requests by route and upstream.
    """

    def __init__(
        self,
        routing: Routing,
        client: HTTPClient,
        tiers: Mapping[str, Tier[Any]],
        *,
        workers: Mapping[str, int],
        random: Callable[[], float],
        max_body_bytes: int | None,
        traffic: Traffic,
    ) -> None:
        self.client = client
        self.random = random
        self.max_body_bytes = max_body_bytes
        self.traffic = traffic
        self._routing = routing
        self._tiers = tiers
        self._most_lasting = {name: LASTING_PER_WORKER * count for name, count in workers.items()}
        self._lasting: Counter[str] = Counter()
        self._lasting_of: Counter[tuple[str, str]] = Counter()

    @property
    def tunnels(self) -> Mapping[str, int]:
        """How many WebSockets and event streams are open, by tier."""
        return dict(self._lasting)

    async def forward(self, inbound: Inbound, caller: Caller) -> None:
        """Pass a request on, and its answer back.

        Raises:
            RouteNotFound: the tenant has no route for it.
            CallerError: its path or header cannot be passed on.
            Rejected: its tier, or its upstreams, have no room for it; or their breakers are open.
            DeadlineExceeded: its deadline has passed.
            UpstreamError: its upstream could not be reached, or gave no answer.
            UpstreamTimeout: not in time.
            AnswerBrokenOff: the client has the beginning of an answer whose rest does not come.
            BodyTooLarge: of the request.
        """
        tenant = caller.tenant
        found = self._routing.match(tenant.id, inbound.method, inbound.raw_path)
        if found is None:
            with Tally(self.traffic, NO_ROUTE, inbound.notes, inbound.began):
                raise RouteNotFound("No route of yours is for this method and path.")
        route = found.route
        inbound.notes["route"] = route.id
        tier = self._tiers[tenant.tier]
        with Tally(self.traffic, route.id, inbound.notes, inbound.began) as tally:
            journey = Journey(
                self,
                route,
                inbound,
                route.paths.path(inbound.raw_path, found.path, found.end),
                route.paths.taken_off(found.path, found.end),
                Deadline.counted_from(inbound.began, limit=MOST_SECONDS, asked=inbound.timeout),
                tally,
            )
            if hops_through_us(inbound.headers) > MOST_HOPS:
                raise UpstreamError("this request goes in a circle", origin="")
            if inbound.has_body:
                await journey.prepare()
            with (
                tier.passage() as passage,
                Place(await tier.admit(journey.deadline, key=tenant.id), passage) as place,
            ):
                if inbound.tunnel is None:
                    await journey.make(place)
                else:
                    with self.lasting(tier.name, tenant.id):
                        await journey.make(place)

    @contextmanager
    def lasting(self, tier: str, tenant_id: str) -> Iterator[None]:
        """Count what lasts and does nothing most of the time: a WebSocket, a stream of events.

        Raises:
            BulkheadFull: the tier has as many open as it may have, or the tenant more than half.
        """
        most = self._most_lasting[tier]
        owner = (tier, tenant_id)
        if self._lasting[tier] >= most or 2 * self._lasting_of[owner] >= most:
            raise BulkheadFull(
                "As many WebSockets and event streams are open as may be.", retry_after=1.0
            )
        self._lasting[tier] += 1
        self._lasting_of[owner] += 1
        try:
            yield
        finally:
            self._lasting[tier] -= 1
            self._lasting_of[owner] -= 1
            if not self._lasting_of[owner]:
                del self._lasting_of[owner]
