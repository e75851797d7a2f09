"""Three instances, endpoints of all sorts, crashes: every event arrives, or is a dead letter.

A short form runs with all other tests. The full one, of 10,000 events, takes minutes:
``DELIVERY_PROOF=full python -m pytest tests/system/delivery/test_proof.py --log-cli-level=INFO``.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import attrs
import pytest
import trio

from bulkhead_trio.testing.receiver import Answers, ReceiverProcess, ok

from .._server import wait_until
from ..gateway._gateway import Tenant
from ..gateway.instances._postgres import OwnPostgres
from ._desk import Desk
from ._fleet import Fleet, running_fleet
from ._mail import MailServer
from ._population import Population, p99

INSTANCES = 3
PARALLEL = 20
MOST_HELD = 3 * PARALLEL
"""What an instance has claimed at most: what is sent, what waits to be, what is to be written."""

SETTINGS = {
    "WEBHOOK_RETRY_SCHEDULE": "1,1,1",
    "WEBHOOK_TIMEOUT_SECONDS": "1",
    "DELIVERY_LEASE_SECONDS": "4",
    "WEBHOOKS_MAX_PARALLEL_DELIVERIES": str(PARALLEL),
    "EVENTS_RATE": "100000",
    "EVENTS_BURST": "100000",
    "LOG_LEVEL": "warning",
}

BAD = ("slow", "dead", "flapping", "gone")

WORSE = 2.0
"""How many times as long healthy endpoints may wait beside bad ones."""
LEAST_SECONDS = 0.1
"""What is taken for a wait that is shorter: of a machine whose cores others use too. A slow
endpoint takes five times as long."""

BEFORE_CRASH_SECONDS = 3.0
"""How long before a crash something may have been sent whose result was not written yet: batches
are written at once, on a machine that is not overloaded."""

_log = logging.getLogger(__name__)


@attrs.frozen
class Size:
    """How much is done.

    Attributes:
        events: that are sent while all goes on.
        seconds: that they are spread over, at least.
        kills: of instances, one after the other.
        kill_every: seconds from when one is ready again until the next is killed.
        watched: events whose latency is looked at, alone and beside bad endpoints each.
        watched_per_second: of them.
        settle_seconds: after which nothing may be left over.
    """

    events: int
    seconds: float
    kills: int
    kill_every: float
    watched: int
    watched_per_second: float
    settle_seconds: float


SHORT = Size(1_000, 9.0, 3, 1.0, 160, 40.0, 90.0)
FULL = Size(10_000, 100.0, 25, 2.0, 2_400, 40.0, 900.0)
SIZE = FULL if os.environ.get("DELIVERY_PROOF") == "full" else SHORT


@pytest.fixture(scope="module")
def postgres(make_data_dir: Callable[[], Path]) -> Iterator[OwnPostgres]:
    """A PostgreSQL that is killed."""
    with OwnPostgres(make_data_dir() / "postgres") as server:
        yield server


@pytest.fixture(scope="module")
def fleet(
    postgres: OwnPostgres, mail: MailServer, make_data_dir: Callable[[], Path]
) -> Iterator[Fleet]:
    """Three instances on that PostgreSQL."""
    variables = {**SETTINGS, "SMTP_URL": mail.url, "SMTP_FROM": "us@here.test"}
    with running_fleet(
        INSTANCES, make_data_dir, database=postgres.conninfo, variables=variables
    ) as found:
        yield found


async def _mail_seconds(
    fleet: Fleet, population: Population, mail: MailServer, count: int
) -> list[float]:
    """How long so many mails take, one every now and then, the shortest first."""
    seconds = []
    for number in range(count):
        recipient = f"person{number}-{time.monotonic_ns()}@there.test"
        began = time.monotonic()
        tenant = population.tenants[number % len(population.tenants)]
        await Desk(fleet.gateway, tenant).notify("smtp", recipient)
        await wait_until(lambda to=recipient: bool(mail.to(to)), "a mail", timeout=10)  # type: ignore[misc]
        seconds.append(mail.to(recipient)[0].at - began)
        await trio.sleep(0.1)
    return sorted(seconds)


async def _watch(
    fleet: Fleet, population: Population, mail: MailServer
) -> tuple[list[float], list[float]]:
    """Latencies of healthy endpoints and of mails, while events come at a steady rate."""
    before, mails = len(population.sent), list[float]()

    async def watch_mails() -> None:
        mails.extend(await _mail_seconds(fleet, population, mail, SIZE.watched // 16))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_mails)
        await population.send_at_rate(SIZE.watched, SIZE.watched_per_second)
    sent = population.sent[before:]
    healthy = population.of_sort("healthy")
    await population.wait_arrived(healthy, sent)
    return population.latencies(healthy, sent), mails


async def test_bad_endpoints_do_not_delay_healthy_ones_nor_mail(
    fleet: Fleet, receiver: ReceiverProcess, mail: MailServer
) -> None:
    """p99 of the first delivery at most twice that without them; mail likewise."""
    await fleet.wait_ready()
    population = Population(fleet, receiver, 1_000)
    await population.settle()
    await population.subscribe("healthy")
    await population.send_all(50, senders=5)  # connections, plans
    alone, mail_alone = await _watch(fleet, population, mail)
    await population.subscribe(*BAD)
    beside, mail_beside = await _watch(fleet, population, mail)
    _log.info("webhooks: p99 %.0f ms alone, %.0f beside", 1e3 * p99(alone), 1e3 * p99(beside))
    usual_mail, mail_now = median(mail_alone), median(mail_beside)
    _log.info("mails: median %.0f ms alone, %.0f beside", 1e3 * usual_mail, 1e3 * mail_now)
    assert p99(beside) <= WORSE * max(p99(alone), LEAST_SECONDS)
    # There are too few mails for a p99.
    assert mail_now <= WORSE * max(usual_mail, LEAST_SECONDS)
    for tenant in population.tenants:
        answer = await fleet.gateway.admin("DELETE", f"/admin/tenants/{tenant.id}")
        assert answer.status == 204, str(answer)


async def test_nothing_is_lost_whatever_crashes(
    fleet: Fleet, postgres: OwnPostgres, receiver: ReceiverProcess, mail: MailServer
) -> None:
    """Instances are killed again and again, PostgreSQL once; all is delivered or a dead letter."""
    await fleet.wait_ready()
    population = Population(fleet, receiver, 2_000)
    await population.settle()
    await population.subscribe("healthy", *BAD)
    outage: list[float] = []
    mails: list[_MailSent] = []
    async with trio.open_nursery() as mailing:
        mailing.start_soon(_send_mails, fleet, population, mails)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_kill_again_and_again, fleet)
            nursery.start_soon(_restart_postgres, postgres, outage)
            await population.send_all(SIZE.events, senders=16, until=SIZE.seconds)
        mailing.cancel_scope.cancel()
    for number in range(len(fleet)):
        await fleet.restart(number)
    assert len(population.sent) == SIZE.events
    assert len({each.id for each in population.sent}) == SIZE.events

    # Whoever is dead is given up, whoever is gone comes back: then nothing may be left over.
    population.mend("dead", behaviour=Answers(status=400))
    population.mend("slow", "flapping", "gone", behaviour=ok())
    for endpoint in population.of_sort("gone"):
        desk = Desk(fleet.gateway, endpoint.desk.tenant)
        answer = await desk.call("PATCH", f"/api/webhooks/{endpoint.webhook.id}", {"active": True})
        assert answer.status == 200, str(answer)
    began = time.monotonic()
    over = await population.wait_over(timeout=SIZE.settle_seconds)
    _log.info("all over %.1f s after the end", time.monotonic() - began)
    _assert_as_told(population, over)
    _assert_duplicates_explained(population, fleet, outage)
    await _assert_mails_came(fleet, mails, mail)


async def _kill_again_and_again(fleet: Fleet) -> None:
    for number in range(SIZE.kills):
        await trio.sleep(SIZE.kill_every)
        await fleet.kill(number % len(fleet))
        await fleet.restart(number % len(fleet))


async def _restart_postgres(postgres: OwnPostgres, outage: list[float]) -> None:
    await trio.sleep(SIZE.seconds / 3)
    outage.append(time.monotonic())
    postgres.kill()
    await trio.to_thread.run_sync(postgres.start)
    outage.append(time.monotonic())


@attrs.frozen
class _MailSent:
    """A notification that was taken."""

    id: str
    tenant: Tenant
    recipient: str


async def _send_mails(fleet: Fleet, population: Population, taken: list[_MailSent]) -> None:
    """One every now and then, to whichever instance; one without an answer does not count."""
    for number in itertools.count():
        tenant = population.tenants[number % len(population.tenants)]
        recipient = f"crash{number}-{time.monotonic_ns()}@there.test"
        try:
            sent = await Desk(fleet.gateway, tenant).notify("smtp", recipient)
        except (AssertionError, OSError, trio.TooSlowError, IndexError):
            pass
        else:
            taken.append(_MailSent(sent, tenant, recipient))
        await trio.sleep(0.2)


async def _assert_mails_came(fleet: Fleet, taken: list[_MailSent], mail: MailServer) -> None:
    assert taken, "no mail was taken"
    for each in taken:
        desk = Desk(fleet.gateway, each.tenant)
        await desk.notification(each.id, "delivered", timeout=20)
        assert mail.to(each.recipient), "it never came"
    more = sum(len(mail.to(each.recipient)) - 1 for each in taken)
    _log.info("%d mails, %d more than once", len(taken), more)


def _assert_as_told(population: Population, over: dict[int, dict[str, str]]) -> None:
    """What is said to be delivered has arrived, signed, with one body; the healthy have all."""
    arrivals = population.arrivals()
    for endpoint in population.endpoints:
        found = arrivals[endpoint.number]
        assert all(each.is_valid for each in found), f"bad signatures at {endpoint.number}"
        bodies = defaultdict(set)
        for each in found:
            bodies[each.id].add(each.digest)
        assert all(len(digests) == 1 for digests in bodies.values()), "another body"
        taken = {each.id for each in found if 200 <= each.status < 300}
        states = over[endpoint.number]
        delivered = {event for event, state in states.items() if state == "delivered"}
        assert delivered <= taken, f"{len(delivered - taken)} never came to {endpoint.number}"
        if endpoint.sort == "healthy":
            assert set(states.values()) == {"delivered"}, Counter(states.values())
    total = Counter(
        (endpoint.sort, state)
        for endpoint in population.endpoints
        for state in over[endpoint.number].values()
    )
    _log.info("deliveries: %s", dict(total))
    assert total["dead", "dead"], "the dead ones were no proof"


def _assert_duplicates_explained(population: Population, fleet: Fleet, outage: list[float]) -> None:
    """Taken twice is only what was under way when an instance or PostgreSQL was killed."""
    crashes = [(at, at) for at in fleet.killed_at] + [(outage[0], outage[1])]
    twice = 0
    for endpoint, found in population.arrivals().items():
        first: dict[str, float] = {}
        for each in (arrival for arrival in found if 200 <= arrival.status < 300):
            if each.id not in first:
                first[each.id] = each.at
                continue
            twice += 1
            at = first[each.id]
            assert any(
                begin - BEFORE_CRASH_SECONDS <= at <= end + BEFORE_CRASH_SECONDS
                for begin, end in crashes
            ), f"{each.id} came twice to {endpoint}, and nothing had crashed"
    most = (len(fleet.killed_at) + INSTANCES) * MOST_HELD
    _log.info("%d duplicates after %d crashes; at most %d", twice, len(crashes), most)
    assert twice <= most
