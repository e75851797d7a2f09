"""One crash at a time: an instance amid its deliveries, and PostgreSQL amid everything."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from bulkhead_trio.testing.receiver import ReceiverProcess, slow

from .._problems import assert_problem
from .._server import wait_until
from ..gateway._gateway import Gateway
from ..gateway.instances._postgres import OwnPostgres
from ._desk import Desk
from ._fleet import Fleet, running_fleet
from .conftest import SETTINGS

LEASE_SECONDS = float(SETTINGS["DELIVERY_LEASE_SECONDS"])
SWEEP_SECONDS = 5.0
"""Leases that have run out are looked for so often."""
LATE_SECONDS = 2.0
"""For a machine that is busy."""
BACK_SECONDS = 20.0
"""After PostgreSQL's return, until everything goes on: pools try again every few seconds."""
EVENTS = 12

_log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def postgres(make_data_dir: Callable[[], Path]) -> Iterator[OwnPostgres]:
    """A PostgreSQL that is killed."""
    with OwnPostgres(make_data_dir() / "postgres") as server:
        yield server


@pytest.fixture(scope="module")
def fleet(postgres: OwnPostgres, make_data_dir: Callable[[], Path]) -> Iterator[Fleet]:
    """Two instances on that PostgreSQL."""
    with running_fleet(2, make_data_dir, database=postgres.conninfo, variables=SETTINGS) as found:
        yield found


async def _all_delivered(desk: Desk) -> bool:
    states = [each["state"] for each in await desk.all("/api/deliveries")]
    return states == ["delivered"] * EVENTS


async def test_instance_killed_amid_deliveries_loses_none(
    fleet: Fleet, receiver: ReceiverProcess
) -> None:
    """Another one sends what was under way, under the same id, a lease later at most."""
    await fleet.wait_ready()
    desk = Desk(fleet.gateway, await fleet.gateway.tenant())
    for number in (1, 2, 3):
        receiver.behave({number: slow(0.8)})
        hook = await desk.subscribe(receiver.url(number), f"to.{number}")
        receiver.trust({number: [hook.secret]})
    sent = [await desk.send(f"to.{1 + number % 3}", {"n": number}) for number in range(EVENTS)]
    await wait_until(lambda: len(receiver.arrivals()) >= 4, "some are under way", timeout=10)
    await fleet.kill(0)
    killed = trio.current_time()
    desk = Desk(fleet.gateway, desk.tenant)
    # Twelve of 0.8 s, at least eight at once, after the last lease.
    most = LEASE_SECONDS + SWEEP_SECONDS + 3 * 0.8 + LATE_SECONDS
    await desk.until(lambda: _all_delivered(desk), "all delivered", timeout=most)
    _log.info("all delivered %.1f s after the kill", trio.current_time() - killed)
    arrivals = receiver.arrivals()
    assert {each.id for each in arrivals} == set(sent)
    assert all(each.is_valid for each in arrivals)
    assert len({(each.id, each.digest) for each in arrivals}) == EVENTS
    assert len(arrivals) <= 2 * EVENTS
    fleet.start(0)


async def test_postgres_killed_and_started_again_loses_none(
    fleet: Fleet, postgres: OwnPostgres, receiver: ReceiverProcess
) -> None:
    """What was answered 202 is delivered; meanwhile nothing is taken, and nobody is told so."""
    await fleet.wait_ready()
    desk = Desk(fleet.gateway, await fleet.gateway.tenant())
    receiver.behave({1: slow(0.5)})
    await desk.subscribe(receiver.url(1))
    sent = [await desk.send("a.b", {"n": number}) for number in range(EVENTS - 1)]
    postgres.kill()
    answer = await desk.call("POST", "/api/events", {"type": "a.b", "payload": {}}, timeout=20)
    assert_problem(answer)
    assert answer.status in (503, 504), str(answer)
    await trio.to_thread.run_sync(postgres.start)

    async def is_taken() -> bool:
        answer = await desk.call("POST", "/api/events", {"type": "a.b", "payload": {"n": "last"}})
        if answer.status == 202:
            sent.append(answer.json()["id"])
        return answer.status == 202

    await desk.until(is_taken, "an event is taken again", timeout=BACK_SECONDS)
    await desk.until(lambda: _all_delivered(desk), "all delivered", timeout=BACK_SECONDS)
    assert {each.id for each in receiver.arrivals()} == set(sent)


async def test_instance_that_is_stopped_hands_over_at_once(
    fleet: Fleet, receiver: ReceiverProcess
) -> None:
    """SIGTERM: what is under way is finished, the rest is another's before any lease ends."""
    await fleet.wait_ready()
    desk = Desk(fleet.gateway, await fleet.gateway.tenant())
    for number in (1, 2, 3):
        receiver.behave({number: slow(0.6)})
        await desk.subscribe(receiver.url(number), f"to.{number}")
    sent = [await desk.send(f"to.{1 + number % 3}", {"n": number}) for number in range(EVENTS)]
    await wait_until(lambda: len(receiver.arrivals()) >= 4, "some are under way", timeout=10)
    server = fleet.servers[0]
    server.signal(signal.SIGTERM)
    assert await server.exit_code() == 0
    desk = Desk(Gateway((fleet.servers[1],)), desk.tenant)
    await desk.until(lambda: _all_delivered(desk), "all delivered", timeout=10)
    arrivals = receiver.arrivals()
    assert sorted(each.id for each in arrivals) == sorted(sent), (
        f"none twice, none missing\n{server.tail()}"
    )
