"""Days of deliveries in moments: the real sender, a scripted receiver, and Trio's mock clock."""

from __future__ import annotations

import datetime
import ipaddress
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, Final
from uuid import UUID

import attrs
import pytest
import trio
from standardwebhooks import Webhook
from trio.testing import MockClock

from bulkhead_trio.database._public_id_rules import public_id
from bulkhead_trio.database.webhook_records import SigningSecret
from bulkhead_trio.database.work_records import WebhookWork
from bulkhead_trio.delivery._schedule_rules import DEFAULT_WAITS, RetrySchedule
from bulkhead_trio.delivery._signing_rules import WebhookSecret, make_secret
from bulkhead_trio.delivery.pipeline import DeliveryPipeline
from bulkhead_trio.delivery.sealing import Sealer
from bulkhead_trio.delivery.webhook_sender import WebhookSender
from bulkhead_trio.http.client import ClientLimits, HTTPClient, NetworkPolicy, guarded_resolve
from bulkhead_trio.testing.upstream import (
    Answer,
    Rule,
    Script,
    ScriptedUpstream,
    always,
    resolve_to_loopback,
)

from ._memory_store import EPOCH, Endpoint, MemoryDatabase, seconds_since_1970
from ._world import running, until

HOUR: Final = 3600.0
DAY: Final = 24 * HOUR
POLL: Final = 60.0
"""Between two looks: days are long, and every look is one of thousands."""

OLD, NEW = make_secret(b"o" * 32), make_secret(b"n" * 32)
SEALER: Final = Sealer("the tests' secret key", purpose="webhook secrets")
ENDPOINT: Final = UUID(int=77)


def sealed(secret: WebhookSecret, *, until: float | None = None) -> SigningSecret:
    expires = None if until is None else EPOCH + datetime.timedelta(seconds=until)
    return SigningSecret(SEALER.seal(secret.key, bound_to=ENDPOINT), expires)


@attrs.frozen
class Days:
    """One endpoint, and all that delivers to it."""

    database: MemoryDatabase
    endpoint: Endpoint
    receiver: ScriptedUpstream
    pipeline: DeliveryPipeline[Any]

    def headers(self) -> list[dict[str, str]]:
        return [
            {name.lower(): value for name, value in request.headers}
            for request in self.receiver.seen().requests
        ]

    def times(self) -> list[float]:
        """When each try came, on the signed clock."""
        start = EPOCH.timestamp()
        return [int(each["webhook-timestamp"]) - start for each in self.headers()]


@asynccontextmanager
async def days(script: Script) -> AsyncIterator[Days]:
    """The pipeline runs, over a real sender, against a receiver that does as ``script`` says."""
    policy = NetworkPolicy([ipaddress.ip_network("127.0.0.0/8")])
    resolve = guarded_resolve(policy, resolve_to_loopback)
    async with ScriptedUpstream(script) as receiver:
        async with HTTPClient(ClientLimits(), resolve=resolve) as client:
            database = MemoryDatabase()
            endpoint = database.endpoint(
                database.tenant(),
                id=ENDPOINT,
                url=f"http://hooks.example:{receiver.port}/",
                secrets=(sealed(NEW),),
            )
            sender = WebhookSender(
                client,
                SEALER,
                schedule=RetrySchedule(),
                random=lambda: 0.5,
                wall_clock=seconds_since_1970,
            )
            pipeline = DeliveryPipeline(
                "webhooks",
                database.webhooks,
                sender.send,
                parallel=8,
                grace_seconds=30.0,
                lease_seconds=600.0,
                poll_seconds=POLL,
                sweep_seconds=600.0,
                uniform=lambda: 0.5,
            )
            async with running(pipeline):
                yield Days(database, endpoint, receiver, pipeline)


def is_signed_by(secret: WebhookSecret, headers: dict[str, str], body: str) -> bool:
    """What the public package says; without its look at the clock, which is not ours here."""
    at = datetime.datetime.fromtimestamp(int(headers["webhook-timestamp"]), datetime.UTC)
    signature = Webhook(secret.text).sign(headers["webhook-id"], at, body)
    return signature in headers["webhook-signature"].split(" ")


async def test_whole_schedule_ends_in_dead_letters(autojump_clock: MockClock) -> None:
    """At once, and after 5 s, 5 min, 30 min, 2, 5, 10, 14, 20 and 24 h: ten tries, one id."""
    async with days(always(Answer(status=500, body="out of order"))) as world:
        item = world.database.delivery(world.endpoint)
        world.pipeline.wake()
        await until(lambda: item.state == "dead", within=4 * DAY, every=HOUR)
        times = world.times()
        waits = [later - earlier for earlier, later in pairwise(times)]
        assert len(waits) == len(DEFAULT_WAITS)
        for wait, own in zip(waits, DEFAULT_WAITS, strict=True):
            assert own - 1 <= wait <= own + POLL + 1
        assert times[-1] == pytest.approx(sum(DEFAULT_WAITS), abs=9 * POLL)
        assert len({each["webhook-id"] for each in world.headers()}) == 1
        assert len({each.digest for each in world.receiver.seen().requests}) == 1
        assert [attempt.number for attempt in item.tries] == list(range(1, 11))
        assert {(each.status, each.response) for each in item.tries} == {(500, "out of order")}
        assert world.endpoint.active  # three days are not five


async def test_receiver_that_comes_back_has_everything(autojump_clock: MockClock) -> None:
    """An event that came while it was down is delivered at its next try, signed at that moment."""
    async with days(Script(rules=(Rule(steps="503,503,503,503,200", then="last"),))) as world:
        item = world.database.delivery(world.endpoint)
        world.pipeline.wake()
        await until(lambda: item.state == "delivered", within=DAY, every=HOUR)
        assert len(item.tries) == 5
        assert world.endpoint.failing_since is None
        assert world.times()[-1] >= 5 + 300 + 1800 + 7200


async def test_old_secret_signs_along_for_its_grace(autojump_clock: MockClock) -> None:
    """For a day both sign, so that a receiver may change over when it likes; then the new alone."""
    async with days(always(Answer(content="mirror"))) as world:
        world.endpoint.secrets = (sealed(NEW), sealed(OLD, until=DAY))
        for hour in (0, 23, 25):
            await trio.sleep(max(0.0, hour * HOUR - trio.current_time()))
            item = world.database.delivery(world.endpoint)
            world.pipeline.wake()
            await until(lambda each=item: each.state == "delivered", every=1)  # type: ignore[misc]
        found = []
        for headers, item in zip(world.headers(), world.database.items.values(), strict=True):
            body = item.tries[0].response
            assert body is not None
            assert json.loads(body)["type"] == "order.completed"
            found.append((is_signed_by(NEW, headers, body), is_signed_by(OLD, headers, body)))
        assert found == [(True, True), (True, True), (True, False)]


async def test_endpoint_that_fails_for_five_days_is_disabled(autojump_clock: MockClock) -> None:
    """Not before; what comes meanwhile is kept, and goes out when it is back."""
    async with days(always(Answer(status=500))) as world:
        first = world.database.delivery(world.endpoint)
        world.pipeline.wake()
        for _ in range(4):
            await trio.sleep(DAY)
            world.database.delivery(world.endpoint)
            assert world.endpoint.active
        await until(lambda: not world.endpoint.active, within=2 * DAY, every=HOUR)
        assert 5 * DAY <= trio.current_time() <= 6 * DAY
        assert (world.endpoint.disabled_reason, first.state) == ("failing", "dead")
        tries = len(world.receiver.seen().requests)
        kept = world.database.delivery(world.endpoint)
        await trio.sleep(10 * DAY)
        assert len(world.receiver.seen().requests) == tries
        assert kept.state == "pending"
        _bring_back(world)
        await until(lambda: kept.state == "delivered", within=2 * POLL, every=1)
        world.database.replay(first)
        await until(lambda: first.state == "delivered", within=2 * POLL, every=1)


def _bring_back(world: Days) -> None:
    """As ``PATCH {"active": true}`` does, to an endpoint that has been mended."""
    world.receiver.play(always(Answer(status=204)))
    world.endpoint.active, world.endpoint.disabled_reason = True, None
    world.endpoint.failing_since = None


async def test_endpoint_that_is_gone_is_disabled_at_once(autojump_clock: MockClock) -> None:
    """410 is meant; one try, and nothing further is sent."""
    async with days(always(Answer(status=410))) as world:
        item = world.database.delivery(world.endpoint)
        world.pipeline.wake()
        await until(lambda: item.state == "dead", every=1)
        assert (world.endpoint.active, world.endpoint.disabled_reason) == (False, "gone")
        later = world.database.delivery(world.endpoint)
        await trio.sleep(DAY)
        assert later.state == "pending"
        assert len(world.receiver.seen().requests) == 1


async def test_endpoint_that_asks_for_time_gets_it(autojump_clock: MockClock) -> None:
    """429 with ``Retry-After``: nothing comes before, first tries of others included."""
    steps = (Answer(status=429, headers=(("Retry-After", "1000"),)), Answer(status=204))
    async with days(Script(rules=(Rule(steps=steps, then="last"),))) as world:
        item = world.database.delivery(world.endpoint)
        world.pipeline.wake()
        await until(lambda: len(item.tries) == 1, every=1)
        other = world.database.delivery(world.endpoint)
        await trio.sleep(999)
        assert (other.state, len(item.tries)) == ("pending", 1)
        await until(lambda: item.state == other.state == "delivered", within=300, every=1)


async def test_fifo_endpoint_has_its_events_in_order(autojump_clock: MockClock) -> None:
    """One that fails holds the others back until it is delivered, or given up."""
    async with days(Script(rules=(Rule(steps="200,500,500,200", then="last"),))) as world:
        world.endpoint.fifo = True
        items = [world.database.delivery(world.endpoint) for _ in range(4)]
        world.pipeline.wake()
        await until(lambda: items[0].state == "delivered", every=0.1)
        await trio.sleep(200)
        assert [item.state for item in items[1:]] == ["retrying", "pending", "pending"]
        await until(lambda: items[3].state == "delivered", within=HOUR, every=1)
        events = [each.draft.event_id for each in items if isinstance(each.draft, WebhookWork)]
        ids = [each["webhook-id"] for each in world.headers()]
        assert ids == [public_id("evt", events[n]) for n in (0, 1, 1, 1, 2, 3)]
