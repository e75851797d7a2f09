"""Breakers and bulkheads of upstreams, as requests meet them."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.http.client import ClientLimits
from bulkhead_trio.testing.upstream import (
    Answer,
    Cut,
    End,
    Events,
    Raw,
    Script,
    WebSocket,
    always,
)

from ._front import KINDS, UPGRADE, Kind
from ._world import World, open_world, retry

both = pytest.mark.parametrize("kind", KINDS)


def breaker(**members: Any) -> dict[str, Any]:
    return {
        "circuitBreaker": {
            "failureThreshold": 1,
            "successThreshold": 1,
            "timeout": 10_000,
            **members,
        }
    }


def state(world: World, route_id: str) -> str:
    now = world.one(route_id).statistics().breaker
    assert now is not None
    return now.state.value


@pytest.mark.parametrize(
    ("script", "headers", "outcome"),
    [
        (always(Answer()), {}, "succeeded"),
        (always(Answer(status=204)), {}, "succeeded"),
        (always(Answer(status=302)), {}, "succeeded"),
        (always(Answer(status=404)), {}, "succeeded"),
        (always(Answer(status=429)), {}, "succeeded"),
        (always(Answer(size=200_000, framing="chunked")), {}, "succeeded"),
        (always(Events(count=2)), {}, "succeeded"),
        (always(Answer(status=500)), {}, "failed"),
        (always(Answer(status=599, size=200_000)), {}, "failed"),
        (always(Answer(size=10_000, cut=Cut(after_bytes=5000))), {}, "failed"),
        (always(Answer(size=10_000, cut=Cut(after_bytes=5000, how="hang"))), {}, "failed"),
        (always(End(how="close")), {}, "failed"),
        (always(End(how="reset")), {}, "failed"),
        (always(End(how="hang")), {}, "failed"),
        (always(Raw(data="garbage\r\n\r\n")), {}, "failed"),
        (Script(is_listening=False), {}, "failed"),
        (Script(connections=("close",)), {}, "failed"),
        (always(End(how="hang")), {"x-request-timeout": "1"}, "ignored"),
        (
            always(Answer(size=9, cut=Cut(after_bytes=5, how="hang"))),
            {"x-request-timeout": "1"}, "ignored",
        ),
    ],
)  # fmt: skip
async def test_how_an_exchange_counts(
    autojump_clock: MockClock, script: Script, headers: dict[str, str], outcome: str
) -> None:
    """Once, as a success, as a failure, or not at all."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(script)
        route_id = await world.route(customer, upstream, resilience=breaker(failureThreshold=5))
        await world.ask(customer, headers=headers)
        now = world.one(route_id).statistics()
        counts = {"succeeded": now.succeeded, "failed": now.failed, "ignored": now.ignored}
        assert counts == {"succeeded": 0, "failed": 0, "ignored": 0, outcome: 1}
        assert now.breaker is not None
        assert getattr(now.breaker, outcome) == 1
        await world.assert_at_rest()


@both
async def test_breaker_opens_probes_and_closes(autojump_clock: MockClock, kind: Kind) -> None:
    """After three failures in a row nobody is asked for 10 s; two good probes close it."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(Answer(status=500)))
        resilience = breaker(failureThreshold=3, successThreshold=2)
        route_id = await world.route(customer, upstream, resilience=resilience)
        assert [(await world.ask(customer, kind=kind)).status for _ in range(3)] == [500] * 3
        refused = await world.ask(customer, kind=kind)
        assert (refused.status, refused.code) == (503, "circuit_open")
        assert refused.header("retry-after") == "10"
        await trio.sleep(9.5)
        assert (await world.ask(customer, kind=kind)).header("retry-after") == "1"
        assert upstream.seen().count == 3
        await trio.sleep(0.6)
        assert (await world.ask(customer, kind=kind)).status == 500  # a probe that fails
        await trio.sleep(9.5)
        assert (await world.ask(customer, kind=kind)).code == "circuit_open"
        upstream.play(always(Answer()))
        await trio.sleep(0.6)
        assert (await world.ask(customer, kind=kind)).status == 200
        assert state(world, route_id) == "HALF_OPEN"
        assert (await world.ask(customer, kind=kind)).status == 200
        assert state(world, route_id) == "CLOSED"


@both
async def test_one_probe_at_a_time(autojump_clock: MockClock, kind: Kind) -> None:
    """Of ten requests that come together one probes, and the others are refused at once."""
    async with open_world(workers=10) as world:
        customer, upstream = world.customer(), await world.upstream(always(Answer(status=500)))
        await world.route(customer, upstream, resilience=breaker())
        await world.ask(customer)
        upstream.play(always(Answer(head_seconds=1)))
        await trio.sleep(11)
        upstream.forget()
        visits = [world.begin(customer, kind=kind) for _ in range(10)]
        for visit in visits:
            await visit.over.wait()
        assert sorted(visit.status for visit in visits) == [200] + [503] * 9
        assert {visit.code for visit in visits} == {None, "circuit_open"}
        assert upstream.seen().count == 1


@both
@pytest.mark.parametrize("step", [Events(), WebSocket()])
async def test_probe_that_lasts_keeps_nobody_waiting(
    autojump_clock: MockClock, kind: Kind, step: Any
) -> None:
    """A stream of events, or a tunnel, has closed the breaker once it has begun."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(Answer(status=500)))
        route_id = await world.route(customer, upstream, resilience=breaker())
        await world.ask(customer)
        upstream.play(always(step))
        await trio.sleep(10.1)
        headers = UPGRADE if isinstance(step, WebSocket) else {}
        visit = world.begin(customer, headers=headers, kind=kind)
        with trio.fail_after(5):
            await visit.begun.wait()
        await trio.sleep(5)
        assert not visit.over.is_set()
        assert state(world, route_id) == "CLOSED"
        upstream.play(always(Answer()))
        assert (await world.ask(customer, kind=kind)).status == 200
        if visit.tunnel is not None:
            await visit.tunnel.aclose()
        else:
            visit.leave()
        await visit.over.wait()
        await world.assert_at_rest()
        assert state(world, route_id) == "CLOSED"


async def test_download_that_breaks_off_is_a_failed_probe(autojump_clock: MockClock) -> None:
    """Its head is not enough: only its end says that all is well."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(Answer(status=500)))
        route_id = await world.route(customer, upstream, resilience=breaker())
        await world.ask(customer)
        cut = Cut(after_bytes=30_000)
        upstream.play(always(Answer(size=50_000, piece_bytes=10_000, piece_seconds=1, cut=cut)))
        await trio.sleep(10.1)
        visit = world.begin(customer)
        await trio.sleep(2.5)
        assert (visit.status, state(world, route_id)) == (200, "HALF_OPEN")
        await visit.over.wait()
        assert (visit.was_cut_off, state(world, route_id)) == (True, "OPEN")


async def test_breaker_of_one_upstream_sends_all_to_the_other(autojump_clock: MockClock) -> None:
    """No request waits for the bad one but the probes."""
    async with open_world() as world:
        customer = world.customer()
        bad, good = await world.upstream(always(Answer(status=500))), await world.upstream()
        await world.route(customer, bad, good, resilience=breaker())
        statuses = [(await world.ask(customer)).status for _ in range(20)]
        assert sorted(statuses) == [200] * 19 + [500]
        await trio.sleep(10.1)
        statuses = [(await world.ask(customer)).status for _ in range(20)]
        assert sorted(statuses) == [200] * 19 + [500]


async def test_breaker_that_opens_under_a_retry(autojump_clock: MockClock) -> None:
    """The try that opens it is followed by none: the breaker is open for everybody."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(Answer(status=500)))
        await world.route(customer, upstream, resilience={**retry(), **breaker(failureThreshold=2)})
        visit = await world.ask(customer)
        assert (visit.status, visit.code) == (503, "circuit_open")
        assert upstream.seen().count == 2
        await world.assert_at_rest()


async def test_failures_before_a_breaker_opens_are_of_one_upstream(
    autojump_clock: MockClock,
) -> None:
    """Successes between them begin the count anew."""
    async with open_world() as world:
        customer = world.customer()
        upstream = await world.upstream(
            always(Answer(status=500), Answer(status=500), Answer(status=404))
        )
        route_id = await world.route(customer, upstream, resilience=breaker(failureThreshold=3))
        for _ in range(12):
            await world.ask(customer)
        assert (state(world, route_id), upstream.seen().count) == ("CLOSED", 12)


# --- bulkheads -----------------------------------------------------------------------------------


@both
async def test_bulkhead_bounds_what_an_upstream_gets_at_once(
    autojump_clock: MockClock, kind: Kind
) -> None:
    """Two run, three wait, the sixth is refused; and no more than two were ever there."""
    async with open_world(workers=10) as world:
        customer = world.customer()
        upstream = await world.upstream(always(Answer(head_seconds=1)))
        resilience = {"bulkhead": {"maxConcurrent": 2, "queueSize": 3}}
        await world.route(customer, upstream, resilience=resilience)
        visits = [world.begin(customer, kind=kind) for _ in range(7)]
        await trio.sleep(0.1)
        assert [visit.code for visit in visits if visit.over.is_set()] == ["bulkhead_full"] * 2
        for visit in visits:
            await visit.over.wait()
        assert sorted(visit.status for visit in visits) == [200] * 5 + [503] * 2
        assert sorted(round(visit.took) for visit in visits) == [0, 0, 1, 1, 2, 2, 3]
        assert upstream.seen().most_in_flight == 2
        await world.assert_at_rest()


async def test_bulkhead_is_held_to_the_end_of_the_answer(autojump_clock: MockClock) -> None:
    """Its body is part of the work; so are a tunnel's messages."""
    async with open_world() as world:
        customer = world.customer()
        slow = Answer(size=50_000, piece_bytes=10_000, piece_seconds=1)
        upstream = await world.upstream(always(slow))
        resilience = {"bulkhead": {"maxConcurrent": 1, "queueSize": 0}}
        await world.route(customer, upstream, resilience=resilience)
        visit = world.begin(customer)
        await trio.sleep(2)
        assert visit.begun.is_set()
        assert (await world.ask(customer)).code == "bulkhead_full"
        await visit.over.wait()
        upstream.play(always(WebSocket()))
        tunnel = world.begin(customer, headers=UPGRADE)
        await tunnel.begun.wait()
        assert (await world.ask(customer)).code == "bulkhead_full"
        assert tunnel.tunnel is not None
        await tunnel.tunnel.aclose()
        await tunnel.over.wait()
        upstream.play(always(Answer()))
        assert (await world.ask(customer)).status == 200


async def test_breaker_that_opens_turns_away_who_waits_for_the_upstream(
    autojump_clock: MockClock,
) -> None:
    """They are refused when their turn comes, and the upstream is not asked."""
    async with open_world(workers=10) as world:
        customer = world.customer()
        upstream = await world.upstream(always(Answer(status=500, head_seconds=1)))
        resilience = {**breaker(), "bulkhead": {"maxConcurrent": 1, "queueSize": 5}}
        await world.route(customer, upstream, resilience=resilience)
        visits = [world.begin(customer) for _ in range(5)]
        for visit in visits:
            await visit.over.wait()
        assert sorted(visit.status for visit in visits) == [500, 503, 503, 503, 503]
        assert upstream.seen().count == 1
        await world.assert_at_rest()


async def test_no_connection_to_be_had(autojump_clock: MockClock) -> None:
    """Where all connections to an upstream are in use, a request waits for 5 s and is refused."""
    async with open_world(limits=ClientLimits(connections=1)) as world:
        customer, upstream = world.customer(), await world.upstream(always(Answer(gate="go")))
        route_id = await world.route(customer, upstream, resilience=breaker())
        holder = world.begin(customer)
        await trio.sleep(0.1)
        visit = await world.ask(customer)
        assert (visit.status, visit.code) == (503, "queue_timeout")
        assert visit.took == pytest.approx(5, abs=0.01)
        upstream.open_gate("go")
        await holder.over.wait()
        assert state(world, route_id) == "CLOSED"
        await world.assert_at_rest()
