"""What is counted, and noted in the log, of every request: how it ended, and whose time it took."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.gateway.numbers import _label_of
from bulkhead_trio.observe.gateway_snapshots import NO_ROUTE, RouteSnapshot, UpstreamSnapshot
from bulkhead_trio.testing.upstream import (
    Answer,
    Cut,
    End,
    Events,
    Rule,
    Script,
    ScriptedUpstream,
    WebSocket,
    always,
)

from ._world import World, open_world, retry

NOTES = {"tenant", "tier", "route", "upstream", "tries", "gateway_ms", "upstream_ms"}
"""Of a request that an upstream has answered."""


def counted(world: World, route_id: str) -> RouteSnapshot:
    return world.traffic.statistics()[route_id]


def tried(world: World, route_id: str, upstream: ScriptedUpstream) -> UpstreamSnapshot:
    return counted(world, route_id).upstreams[_label_of(upstream.url)]


def in_turn(*steps: Any) -> Script:
    return Script(rules=(Rule(steps=steps, then="last"),))


async def test_answer_is_counted_with_the_gateways_time_and_the_upstreams(
    autojump_clock: MockClock,
) -> None:
    """Apart: what the upstream takes is not the gateway's."""
    async with open_world() as world:
        customer = world.customer()
        upstream = await world.upstream(always(Answer(head_seconds=0.5)))
        route_id = await world.route(customer, upstream)
        assert (await world.ask(customer, target="/x?secret=1")).status == 200
        route, theirs = counted(world, route_id), tried(world, route_id, upstream)
        assert route.outcomes == theirs.outcomes == {"2xx": 1}
        assert theirs.times.seconds == pytest.approx(0.5, abs=0.01)
        assert route.times.seconds == pytest.approx(0.0, abs=0.01)
        (line,) = world.notes.lines
        assert line.keys() == NOTES
        assert (line["route"], line["upstream"]) == (route_id, _label_of(upstream.url))
        assert (line["tenant"], line["tier"], line["tries"]) == (customer.id, "free", 1)
        assert line["upstream_ms"] == pytest.approx(500, abs=10)
        assert line["gateway_ms"] == pytest.approx(0, abs=10)
        assert not any(customer.key in str(each) or "secret" in str(each) for each in line.values())


async def test_waits_for_the_next_try_are_the_gateways(autojump_clock: MockClock) -> None:
    """Each try is its upstream's, with an outcome of its own; the request has one."""
    async with open_world() as world:
        customer = world.customer()
        upstream = await world.upstream(
            in_turn(Answer(status=503, head_seconds=0.25), Answer(head_seconds=0.25))
        )
        route_id = await world.route(customer, upstream, resilience=retry())
        world.chance.value = 0.5
        assert (await world.ask(customer)).status == 200
        route, theirs = counted(world, route_id), tried(world, route_id, upstream)
        assert (route.outcomes, theirs.outcomes) == ({"2xx": 1}, {"5xx": 1, "2xx": 1})
        assert route.retries == 1
        assert theirs.times.seconds == pytest.approx(0.5, abs=0.01)
        assert route.times.seconds == pytest.approx(0.5, abs=0.01), "half of the bound of a second"
        (line,) = world.notes.lines
        assert line["tries"] == 2
        assert line["gateway_ms"] == pytest.approx(500, abs=10)


async def test_status_that_is_tried_again_counts_as_what_it_was(autojump_clock: MockClock) -> None:
    """A 429 is no server's failure, whatever is done about it."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(in_turn(Answer(status=429)))
        resilience = retry(maxRetries=1, retryableStatusCodes=[429])
        route_id = await world.route(customer, upstream, resilience=resilience)
        assert (await world.ask(customer)).status == 429
        assert tried(world, route_id, upstream).outcomes == {"4xx": 2}
        assert counted(world, route_id).outcomes == {"4xx": 1}


@pytest.mark.parametrize(
    ("step", "resilience", "outcome"),
    [
        (End(how="reset"), {}, "upstream_error"),
        (End(how="hang"), {"timeout": {"default": 300}}, "upstream_timeout"),
        (Answer(size=100_000, cut=Cut(after_bytes=70_000)), {}, "upstream_error"),
    ],
)
async def test_failure_is_counted_by_its_code(
    autojump_clock: MockClock, step: Any, resilience: dict[str, Any], outcome: str
) -> None:
    """For the upstream and for the request, whether an answer had begun or not."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(step))
        route_id = await world.route(customer, upstream, resilience=resilience)
        await world.ask(customer)
        assert counted(world, route_id).outcomes == {outcome: 1}
        assert tried(world, route_id, upstream).outcomes == {outcome: 1}


async def test_caller_in_a_hurry_is_counted_as_such(autojump_clock: MockClock) -> None:
    """Its deadline is no fault of anybody else's."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(End(how="hang")))
        route_id = await world.route(customer, upstream)
        visit = await world.ask(customer, headers={"x-request-timeout": "0.5"})
        assert visit.code == "deadline_exceeded"
        assert counted(world, route_id).outcomes == {"deadline_exceeded": 1}
        assert tried(world, route_id, upstream).outcomes == {"deadline_exceeded": 1}
        assert tried(world, route_id, upstream).times.seconds == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("kind", ["cancels", "tells"])
async def test_client_that_goes_is_counted_as_cancelled(
    autojump_clock: MockClock, kind: Any
) -> None:
    """Whichever way the front has of saying so."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(End(how="hang")))
        route_id = await world.route(customer, upstream)
        visit = world.begin(customer, kind=kind)
        await trio.sleep(0.5)
        visit.leave()
        await visit.over.wait()
        assert counted(world, route_id).outcomes == {"cancelled": 1}
        assert tried(world, route_id, upstream).outcomes == {"cancelled": 1}


async def test_client_that_goes_while_it_sends_is_counted_as_cancelled(
    autojump_clock: MockClock,
) -> None:
    """What is missing of its request is nobody's failure."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream()
        route_id = await world.route(customer, upstream)
        visit = world.begin(customer, "POST", body=[b"x" * 1000, 60.0], kind="tells")
        await trio.sleep(0.5)
        visit.leave()
        await visit.over.wait()
        assert counted(world, route_id).outcomes == {"cancelled": 1}
        assert tried(world, route_id, upstream).outcomes == {"cancelled": 1}


async def test_fallback_is_counted_and_the_answer_is_what_the_client_got(
    autojump_clock: MockClock,
) -> None:
    """The upstream failed; the request did not. What is asked instead is no retry."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(Answer(status=500)))
        spare = await world.upstream()
        fixed = {"fallback": {"statusCode": 203, "contentType": "text/plain", "body": "later"}}
        other = {"fallback": {"upstream": spare.url}}
        first = await world.route(customer, upstream, path="/fixed", resilience=fixed)
        second = await world.route(customer, upstream, path="/other", resilience=other)
        assert (await world.ask(customer, target="/fixed")).status == 203
        assert (await world.ask(customer, target="/other")).status == 200
        for route_id, kind in ((first, "answer"), (second, "upstream")):
            route = counted(world, route_id)
            assert (route.outcomes, route.fallbacks, route.retries) == ({"2xx": 1}, {kind: 1}, 0)
            assert tried(world, route_id, upstream).outcomes == {"5xx": 1}
        assert tried(world, second, spare).outcomes == {"2xx": 1}
        assert [line["fallback"] for line in world.notes.lines] == ["answer", "upstream"]
        assert [line["tries"] for line in world.notes.lines] == [1, 1]


async def test_what_lasts_is_counted_when_it_begins(autojump_clock: MockClock) -> None:
    """WebSockets and streams of events: hours of talking are nobody's latency."""
    async with open_world() as world:
        customer = world.customer()
        upstream = await world.upstream(always(WebSocket()))
        route_id = await world.route(customer, upstream)
        visit = world.web_socket(customer)
        world.nursery.start_soon(visit.run, world.edge)
        await visit.begun.wait()
        await trio.sleep(60)
        upstream.play(always(Events(count=60, seconds=1.0)))
        events = await world.ask(customer)
        assert (visit.status, events.status) == (101, 200)
        found = counted(world, route_id)
        assert found.outcomes == {"1xx": 1, "2xx": 1}
        assert visit.tunnel is not None
        await visit.tunnel.aclose()
        await visit.over.wait()
        found, theirs = counted(world, route_id), tried(world, route_id, upstream)
        assert found.outcomes == theirs.outcomes == {"1xx": 1, "2xx": 1}
        assert found.times.seconds == pytest.approx(0, abs=0.1)
        assert theirs.times.seconds < 2
        assert all(float(line["gateway_ms"]) < 100 for line in world.notes.lines)


async def test_request_that_reaches_no_upstream_is_counted(autojump_clock: MockClock) -> None:
    """With its code; all of its time was the gateway's."""
    async with open_world(workers=1, queue=1, max_body_bytes=10) as world:
        customer, upstream = world.customer(), await world.upstream(always(End(how="hang")))
        route_id = await world.route(customer, upstream, path="/known")
        assert (await world.ask(customer, target="/unknown")).code == "route_not_found"
        body = b"more than ten bytes"
        visit = await world.ask(customer, "POST", "/known", body=body)
        assert visit.code == "body_too_large"
        waiting = [world.begin(customer, target="/known") for _ in range(2)]
        await trio.sleep(1)
        assert (await world.ask(customer, target="/known")).code == "bulkhead_full"
        for each in waiting:
            each.leave()
        for each in waiting:
            await each.over.wait()
        assert counted(world, NO_ROUTE).outcomes == {"route_not_found": 1}
        assert counted(world, route_id).outcomes == {
            "body_too_large": 1, "bulkhead_full": 1, "cancelled": 2,
        }  # fmt: skip
        assert sum(tried(world, route_id, upstream).outcomes.values()) == 1
        for line in world.notes.lines:
            assert {"gateway_ms", "upstream_ms"} <= line.keys()
        assert [line.get("tries") for line in world.notes.lines[:3]] == [None, None, None]


async def test_own_time_begins_with_the_request(autojump_clock: MockClock) -> None:
    """Finding out whose a key is takes time too."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream()
        route_id = await world.route(customer, upstream)
        world.tenants.seconds = 0.5
        assert (await world.ask(customer)).status == 200
        assert counted(world, route_id).times.seconds == pytest.approx(0.5, abs=0.01)
