"""Deliveries from one end to the other: events wait, a server starts, and signed requests arrive.

What is measured is fan-out, claims, signing, sending and writing the results down, with PostgreSQL
and the receiver on the same machine. Events were accepted beforehand, each for one endpoint: more
endpoints an event would make fan-out cheaper for each delivery.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from uuid import UUID

import attrs
import trio

from bench.delivery.figures import RateResult, Turn
from bench.delivery.world import RECEIVER, Subscriber, World, subscribe, used
from bench.failures import RunFailed
from bench.server import Server
from bulkhead_trio.database import PoolSettings, create_pool
from bulkhead_trio.database.event_records import EventDraft
from bulkhead_trio.database.events import EventStore
from bulkhead_trio.testing.receiver import Received

TENANTS, ENDPOINTS = 10, 10
PAYLOAD = b'{"orderId":"order-4711","amount":12.5,"currency":"EUR","items":[1,2,3]}'
BATCH = 500
FIRST_SHARE, LAST_SHARE = 0.1, 0.9
"""Of the deliveries: what comes before is the start, and what comes after are stragglers."""
POLL_SECONDS = 0.05
QUIET_SECONDS = 20.0
"""Without any arrival: then it has stopped."""
CHECKED = 20
"""Requests of an endpoint whose signature is looked at, after the measurement."""


@attrs.frozen
class DeliveryJob:
    """One way to run the server.

    Attributes:
        name: for the command line.
        title: what it is.
        workers: processes.
        parallel: ``WEBHOOKS_MAX_PARALLEL_DELIVERIES``.
        bar: deliveries a second that are asked for.
    """

    name: str
    title: str
    workers: int
    parallel: int
    bar: float | None

    @property
    def environment(self) -> dict[str, str]:
        """Settings of the server."""
        return {
            "WORKERS": str(self.workers),
            "WEBHOOKS_MAX_PARALLEL_DELIVERIES": str(self.parallel),
        }


DELIVERY_JOBS = (
    DeliveryJob("deliveries", "Deliveries, 20 at once (as by default)", 1, 20, 1_000.0),
    DeliveryJob("deliveries-wide", "Deliveries, 100 at once", 1, 100, None),
    DeliveryJob("deliveries-twice", "Deliveries, two processes, 20 at once each", 2, 20, None),
)


async def measure(
    job: DeliveryJob, world: World, *, events: int, rounds: int, on_step: Callable[[str], None]
) -> RateResult:
    """Deliver ``events`` in each of ``rounds``.

    Raises:
        ServerFailed: the server did not start or did not end as it should.
        RunFailed: deliveries stopped, or a signature was none.
    """
    turns = []
    for number in range(rounds):
        on_step(job.title)
        turns.append(await _turn(job, world, f"{job.name}-{number}", events))
    return RateResult(job.name, job.title, "deliveries", job.bar, turns)


async def _turn(job: DeliveryJob, world: World, name: str, events: int) -> Turn:
    world.receiver.forget()
    database = await world.databases.create("bench_" + name.replace("-", "_"))
    async with world.open_ours(database, f"{name}-first", {}) as server:
        subscribers = await subscribe(
            server.address, world.receiver, tenants=TENANTS, endpoints=ENDPOINTS
        )
    await add_events(database.conninfo, subscribers, events)
    async with world.open_ours(database, name, job.environment) as server:
        turn = await _watch(world, server, events)
    _check(world, subscribers)
    return turn


async def add_events(conninfo: str, subscribers: Sequence[Subscriber], count: int) -> None:
    """Accept so many events for one subscriber after the other, as the API does.

    Raises:
        DatabaseUnavailable: there is none.
    """
    pool = create_pool("bench", PoolSettings(conninfo))
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        store = EventStore(pool)
        drafts = [
            EventDraft(UUID(each.tenant), each.type, PAYLOAD)
            for each in (subscribers[number % len(subscribers)] for number in range(count))
        ]
        for begin in range(0, count, BATCH):
            await store.add(drafts[begin : begin + BATCH])
        nursery.cancel_scope.cancel()


async def _watch(world: World, server: Server, events: int) -> Turn:
    """From when the first part has arrived until the last part begins."""
    first, last = int(FIRST_SHARE * events), int(LAST_SHARE * events)
    begun = await _until(world, first)
    began, before = time.monotonic(), world.cpu(server)
    ended = await _until(world, last)
    seconds, after = time.monotonic() - began, world.cpu(server)
    await _until(world, events)
    return Turn(ended - begun, seconds, used(before, after))


async def _until(world: World, count: int) -> int:
    """Wait until so many were taken; how many there are then."""
    seen, since = -1, trio.current_time()
    while True:
        taken = sum(each.taken for each in world.receiver.sums().values())
        if taken >= count:
            return taken
        if taken > seen:
            seen, since = taken, trio.current_time()
        elif trio.current_time() - since > QUIET_SECONDS:
            raise RunFailed(f"nothing arrived for {QUIET_SECONDS:g} s; {taken:,} of {count:,} had")
        await trio.sleep(POLL_SECONDS)


def _check(world: World, subscribers: Sequence[Subscriber]) -> None:
    checked = 0
    for each in subscribers:
        for received in world.receiver.received(each.endpoint)[:CHECKED]:
            checked += 1
            if not is_signed(each.secret, received):
                raise RunFailed(f"a request to {RECEIVER} was not signed as it should be")
    if not checked:
        raise RunFailed("no request could be checked")


def is_signed(secret: str, received: Received) -> bool:
    """Whether a request has the signature of Standard Webhooks 1.0 with this secret."""
    headers = received.headers
    signed = f"{headers.get('webhook-id')}.{headers.get('webhook-timestamp')}.{received.body}"
    key = b64decode(secret.removeprefix("whsec_"))
    expected = "v1," + b64encode(hmac.digest(key, signed.encode(), hashlib.sha256)).decode()
    return expected in headers.get("webhook-signature", "").split()
