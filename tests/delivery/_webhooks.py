"""An endpoint, work for it, and the sender that sends it: all real but the database."""

from __future__ import annotations

import datetime
import ipaddress
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import attrs
import msgspec

from bulkhead_trio.database.webhook_records import SigningSecret
from bulkhead_trio.database.work_records import Finished, Lane, WebhookWork
from bulkhead_trio.delivery._schedule_rules import RetrySchedule
from bulkhead_trio.delivery._signing_rules import WebhookSecret, make_secret
from bulkhead_trio.delivery.endpoint_breakers import EndpointBreakers
from bulkhead_trio.delivery.sealing import Sealer
from bulkhead_trio.delivery.webhook_sender import WebhookSender, endpoint_breakers
from bulkhead_trio.http.client import ClientLimits, HTTPClient, NetworkPolicy, guarded_resolve
from bulkhead_trio.http.client._network_rules import Network
from bulkhead_trio.http.client.dialling import Resolve
from bulkhead_trio.policies.breaker import BreakerStatistics
from bulkhead_trio.testing.upstream import Script, ScriptedUpstream, resolve_to_loopback

MOMENT: Final = datetime.datetime(2026, 2, 11, 12, 0, 0, 123456, datetime.UTC)
WEBHOOK: Final = UUID(int=7)
EVENT: Final = UUID(int=0xE)
EVENT_ID: Final = "evt_0000000000000000000000000000000e"
SECRET: Final = make_secret(b"s" * 32)
SEALER: Final = Sealer("the tests' secret key", purpose="webhook secrets")
RANDOM: Final = 0.5
"""In the middle: waits are the schedule's own, deferrals a twentieth longer."""


def sealed(
    secret: WebhookSecret = SECRET, *, expires_at: float | None = None, sealer: Sealer = SEALER
) -> SigningSecret:
    """A secret as the database has it."""
    until = (
        None if expires_at is None else datetime.datetime.fromtimestamp(expires_at, datetime.UTC)
    )
    return SigningSecret(sealer.seal(secret.key, bound_to=WEBHOOK), until)


def work(url: str, **members: Any) -> WebhookWork:
    """A claimed delivery that nobody has tried yet."""
    made = WebhookWork(
        item_id=UUID(int=1),
        seq=1,
        attempts=0,
        tenant_id=UUID(int=2),
        queue_id=WEBHOOK,
        lane=Lane.FIRST,
        lease_until=MOMENT,
        created_at=MOMENT,
        scheduled_since=MOMENT,
        event_id=EVENT,
        event_type="order.completed",
        payload=b'{"orderId": "o-1"}',
        event_created_at=MOMENT,
        url=url,
        secrets=(sealed(),),
        fifo=False,
        failing_since=None,
    )
    return msgspec.structs.replace(made, **members)


@attrs.define(eq=False)
class Wall:
    """The wall clock: the true one, moved."""

    ahead: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@attrs.frozen
class Post:
    """A sender, and the endpoint that it sends to."""

    sender: WebhookSender
    client: HTTPClient
    endpoint: ScriptedUpstream
    url: str
    wall: Wall
    breakers: EndpointBreakers

    @property
    def breaker(self) -> BreakerStatistics:
        """That of the one endpoint."""
        return self.breakers.get(WEBHOOK, self.url).statistics()

    async def send(self, **members: Any) -> Finished:
        """One try; members as of `WebhookWork`."""
        return await self.sender.send(work(**{"url": self.url, **members}))

    def headers(self, number: int = -1) -> dict[str, str]:
        """What a request, by default the last, has come with."""
        return {key.lower(): value for key, value in self.endpoint.seen().requests[number].headers}


LOOPBACK: Final = ipaddress.ip_network("127.0.0.0/8")


def post_by(
    client: HTTPClient,
    endpoint: ScriptedUpstream,
    *,
    schedule: RetrySchedule = RetrySchedule(),  # noqa: B008  frozen
    sealer: Sealer = SEALER,
) -> Post:
    """A sender that uses ``client``, and what there is to know of its endpoint."""
    wall, breakers = Wall(), endpoint_breakers()
    sender = WebhookSender(
        client,
        sealer,
        schedule=schedule,
        random=lambda: RANDOM,
        wall_clock=wall,
        breakers=breakers,
    )
    url = endpoint.url.replace("127.0.0.1", "hooks.example") + "/hook?a=1"
    return Post(sender, client, endpoint, url, wall, breakers)


@asynccontextmanager
async def open_post(
    script: Script = Script(),  # noqa: B008  frozen
    *,
    allowed: Sequence[Network] = (LOOPBACK,),
    resolve: Resolve = resolve_to_loopback,
    limits: ClientLimits = ClientLimits(),  # noqa: B008  frozen
    schedule: RetrySchedule = RetrySchedule(),  # noqa: B008  frozen
    sealer: Sealer = SEALER,
) -> AsyncIterator[Post]:
    """A sender whose endpoint does as ``script`` says."""
    guarded = guarded_resolve(NetworkPolicy(allowed), resolve)
    async with ScriptedUpstream(script) as endpoint:
        async with HTTPClient(limits, resolve=guarded) as client:
            yield post_by(client, endpoint, schedule=schedule, sealer=sealer)
