"""How long a try, a request and an answer may take, and who is told what when it is too long."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.testing.upstream import Answer, Cut, End, Events, Rule, Script, always

from ._front import KINDS, Kind
from ._world import open_world, retry

LATE = 0.11
"""What long limits may be late by, and those of bodies that stream."""


def timeouts(default: int | None = None, **by_method: int) -> dict[str, Any]:
    members: dict[str, Any] = {"byMethod": by_method}
    if default is not None:
        members["default"] = default
    return {"timeout": members}


# --- one try -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resilience", "method", "seconds"),
    [
        ({}, "GET", 30.0),
        (timeouts(1500), "GET", 1.5),
        (timeouts(1500, GET=250), "GET", 0.25),
        (timeouts(1500, GET=250), "PUT", 1.5),
        (timeouts(GET=250), "PUT", 30.0),
        (timeouts(4999), "GET", 4.999),
        (timeouts(20_000), "GET", 20.0),
        (timeouts(90_000), "GET", 90.0),
    ],
)
async def test_try_has_the_time_of_its_method(
    autojump_clock: MockClock, resilience: Any, method: str, seconds: float
) -> None:
    """30 s where the route says nothing; below 5 s to the moment, else a tenth of a second late."""
    async with open_world() as world:
        customer = world.customer()
        upstream = await world.upstream(always(End(how="hang")))
        await world.route(customer, upstream, resilience=resilience)
        visit = await world.ask(customer, method)
        assert (visit.status, visit.code) == (504, "upstream_timeout")
        assert visit.took >= seconds
        assert visit.took - seconds < (0.001 if seconds < 5 else LATE)
        await world.assert_at_rest()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seconds", [1, 10])
async def test_try_whose_body_streams_has_it_too(
    autojump_clock: MockClock, seconds: int, kind: Kind
) -> None:
    """The upstream has taken the body and says nothing."""
    async with open_world() as world:
        customer = world.customer()
        upstream = await world.upstream(always(End(how="hang")))
        await world.route(customer, upstream, resilience=timeouts(seconds * 1000))
        visit = await world.ask(customer, "POST", body=[b"x" * 20_000, b"y"], kind=kind)
        assert (visit.status, visit.code) == (504, "upstream_timeout")
        assert seconds <= visit.took < seconds + LATE
        await world.assert_at_rest()


async def test_connecting_has_its_time(autojump_clock: MockClock) -> None:
    """A name that takes for ever to be resolved is an upstream that is too slow."""

    async def never(host: str, port: int) -> list[str]:
        await trio.sleep(1000)
        return []

    async with open_world(resolve=never) as world:
        customer = world.customer()
        await world.route(customer, "http://nowhere.example")
        visit = await world.ask(customer)
        assert (visit.status, visit.code) == (504, "upstream_timeout")
        assert visit.took == pytest.approx(5.0, abs=0.01)


async def test_each_try_has_its_time_anew(autojump_clock: MockClock) -> None:
    """Three tries of 1 s with waits of 0.5 and 1 s between them."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(End(how="hang")))
        await world.route(customer, upstream, resilience={**retry(maxRetries=2), **timeouts(1000)})
        visit = await world.ask(customer)
        assert (visit.status, visit.code) == (504, "upstream_timeout")
        assert visit.took == pytest.approx(4.5, abs=0.01)
        at = [each.at for each in upstream.seen().requests]
        assert [round(moment - at[0], 2) for moment in at] == [0.0, 1.5, 3.5]


async def test_time_begins_with_the_request(autojump_clock: MockClock) -> None:
    """What asking whose key it is takes is time that the upstream does not have."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(End(how="hang")))
        await world.route(customer, upstream)
        world.tenants.seconds = 1.0
        visit = await world.ask(customer, headers={"x-request-timeout": "3"})
        assert (visit.status, visit.code) == (504, "deadline_exceeded")
        assert visit.took == pytest.approx(3.0, abs=0.01)
        assert upstream.seen().requests[0].header("x-request-timeout") == "2.000"
        await world.assert_at_rest()


async def test_time_may_pass_before_anybody_knows_whose_key_it_is(
    autojump_clock: MockClock,
) -> None:
    """A database that hangs keeps nobody longer than he wants to wait."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream()
        await world.route(customer, upstream)
        world.tenants.seconds = 2.0
        visit = await world.ask(customer, headers={"x-request-timeout": "0.5"})
        assert (visit.status, visit.code) == (504, "deadline_exceeded")
        assert visit.took == pytest.approx(0.5, abs=0.01)
        assert upstream.seen().count == 0


async def test_all_tries_together_have_120_s(autojump_clock: MockClock) -> None:
    """Whatever the route says: ten tries of 30 s are not made."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(End(how="hang")))
        await world.route(customer, upstream, resilience=retry(maxRetries=9, baseDelayMs=0))
        visit = await world.ask(customer)
        assert (visit.status, visit.code) == (504, "deadline_exceeded")
        assert 120 <= visit.took < 120 + LATE
        assert upstream.seen().count == 4
        await world.assert_at_rest()


async def test_answer_may_last_longer_than_any_limit_for_its_head(
    autojump_clock: MockClock,
) -> None:
    """A download of 200 s, with a limit of 1 s for the head."""
    async with open_world() as world:
        customer = world.customer()
        upstream = await world.upstream(
            always(Answer(size=100_000, piece_bytes=10_000, piece_seconds=20))
        )
        await world.route(customer, upstream, resilience=timeouts(1000))
        visit = await world.ask(customer)
        assert (visit.status, len(visit.body), visit.is_complete) == (200, 100_000, True)
        assert visit.took >= 180


async def test_answer_that_stops_in_the_middle_is_cut_off(autojump_clock: MockClock) -> None:
    """After 30 s without a piece."""
    async with open_world() as world:
        customer = world.customer()
        upstream = await world.upstream(
            always(Answer(size=20_000, cut=Cut(after_bytes=10_000, how="hang")))
        )
        await world.route(customer, upstream)
        visit = await world.ask(customer)
        assert (visit.status, visit.was_cut_off, len(visit.body)) == (200, True, 10_000)
        assert 30 <= visit.took < 30 + LATE


# --- what the caller asks for --------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.25, 4, 7, 45])
@pytest.mark.parametrize("body", [b"", b"small", [b"x" * 20_000, b"y"]])
async def test_callers_limit_is_kept_to_the_moment(
    autojump_clock: MockClock, seconds: float, body: Any
) -> None:
    """However long it is, and whatever the request's body; it is the deadline that has passed."""
    async with open_world() as world:
        customer = world.customer()
        upstream = await world.upstream(always(End(how="hang")))
        await world.route(customer, upstream, resilience=timeouts(60_000))
        headers = {"x-request-timeout": str(seconds)}
        visit = await world.ask(customer, "POST", body=body, headers=headers)
        assert (visit.status, visit.code) == (504, "deadline_exceeded")
        assert visit.took == pytest.approx(seconds, abs=0.001)
        await world.assert_at_rest()


async def test_callers_limit_is_no_more_than_the_servers(autojump_clock: MockClock) -> None:
    """Who asks for an hour has two minutes to the head of the answer."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(End(how="hang")))
        await world.route(customer, upstream, resilience=timeouts(300_000))
        visit = await world.ask(customer, headers={"x-request-timeout": "3600"})
        assert (visit.status, visit.code) == (504, "deadline_exceeded")
        assert visit.took == pytest.approx(120, abs=LATE)


@pytest.mark.parametrize("seconds", [0.5, 2.0])
async def test_routes_limit_counts_where_it_is_shorter(
    autojump_clock: MockClock, seconds: float
) -> None:
    """Of a try's limit of 1 s and a deadline of 0.5 or 2 s, the one that passes first is told."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(End(how="hang")))
        await world.route(customer, upstream, resilience=timeouts(1000))
        visit = await world.ask(customer, headers={"x-request-timeout": str(seconds)})
        expected = "deadline_exceeded" if seconds < 1 else "upstream_timeout"
        assert visit.code == expected
        assert visit.took == pytest.approx(min(seconds, 1), abs=0.001)


@pytest.mark.parametrize("kind", KINDS)
async def test_callers_limit_holds_for_the_answers_body(
    autojump_clock: MockClock, kind: Kind
) -> None:
    """A stream of events is cut off then; without such a limit it would have gone on."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(Events()))
        await world.route(customer, upstream)
        visit = await world.ask(customer, headers={"x-request-timeout": "4.5"}, kind=kind)
        assert (visit.status, visit.was_cut_off, visit.is_complete) == (200, True, False)
        assert visit.took == pytest.approx(4.5, abs=0.001)
        assert b"4" in visit.body
        await world.assert_at_rest()


@pytest.mark.parametrize("kind", KINDS)
async def test_callers_limit_holds_while_a_small_body_comes(
    autojump_clock: MockClock, kind: Kind
) -> None:
    """Nobody has been asked yet, and nobody is."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream()
        await world.route(customer, upstream)
        headers = {"x-request-timeout": "2", "content-length": "10"}
        visit = await world.ask(
            customer, "POST", body=[b"12345", 50.0, b"67890"], headers=headers, kind=kind
        )
        assert (visit.status, visit.code) == (504, "deadline_exceeded")
        assert visit.took == pytest.approx(2, abs=0.001)
        assert upstream.seen().count == 0
        await world.assert_at_rest()


async def test_callers_limit_holds_in_the_line_of_the_tier(autojump_clock: MockClock) -> None:
    """Who waits there when it passes has not been asked of any upstream."""
    async with open_world(workers=1) as world:
        customer = world.customer()
        upstream = await world.upstream(always(Answer(gate="go")))
        await world.route(customer, upstream)
        holder = world.begin(customer)
        await trio.sleep(1)
        visit = await world.ask(customer, headers={"x-request-timeout": "2"})
        assert (visit.status, visit.code) == (504, "deadline_exceeded")
        assert visit.took == pytest.approx(2, abs=0.001)
        upstream.open_gate("go")
        await holder.over.wait()
        assert (holder.status, upstream.seen().count) == (200, 1)
        await world.assert_at_rest()


async def test_callers_limit_holds_in_the_bulkhead_of_the_upstream(
    autojump_clock: MockClock,
) -> None:
    """And the place in the tier is given back with it."""
    async with open_world() as world:
        customer = world.customer()
        upstream = await world.upstream(always(Answer(gate="go")))
        route_id = await world.route(
            customer, upstream, resilience={"bulkhead": {"maxConcurrent": 1}}
        )
        holder = world.begin(customer)
        await trio.sleep(1)
        visit = await world.ask(customer, headers={"x-request-timeout": "2"})
        assert (visit.status, visit.code) == (504, "deadline_exceeded")
        assert visit.took == pytest.approx(2, abs=0.001)
        assert world.tiers["free"].statistics().compartment.active == 1
        assert world.one(route_id).in_flight == 1
        upstream.open_gate("go")
        await holder.over.wait()
        await world.assert_at_rest()


@pytest.mark.parametrize("text", ["", "0", "-1", "1e3", "nan", "inf", "1,5", "one"])
async def test_callers_limit_that_is_none_is_refused(autojump_clock: MockClock, text: str) -> None:
    """Nobody is asked then."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream()
        await world.route(customer, upstream)
        visit = await world.ask(customer, headers={"x-request-timeout": text})
        assert (visit.status, visit.code) == (400, "invalid_header")
        assert upstream.seen().count == 0


async def test_upstream_is_told_what_its_try_has(autojump_clock: MockClock) -> None:
    """The smaller of the route's limit and what is left of the deadline."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream()
        await world.route(customer, upstream, resilience=timeouts(10_000))
        await world.ask(customer)
        await world.ask(customer, headers={"x-request-timeout": "3"})
        await world.ask(customer, headers={"x-request-timeout": "60"})
        told = [each.header("x-request-timeout") for each in upstream.seen().requests]
        assert told == ["10.000", "3.000", "10.000"]


# --- how it counts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "headers", "outcome"),
    [
        (1.0, {}, "failed"),
        (60.0, {"x-request-timeout": "0.5"}, "ignored"),
        (60.0, {"x-request-timeout": "29"}, "ignored"),
        (60.0, {"x-request-timeout": "31"}, "failed"),
        (300.0, {}, "failed"),
    ],
)
async def test_how_a_slow_upstream_counts(
    autojump_clock: MockClock, seconds: float, headers: dict[str, str], outcome: str
) -> None:
    """A failure where it had its time; nothing where its caller was in a hurry."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(End(how="hang")))
        route_id = await world.route(
            customer, upstream, resilience={**timeouts(int(seconds * 1000)), "circuitBreaker": {}}
        )
        assert (await world.ask(customer, headers=headers)).status == 504
        breaker = world.one(route_id).statistics().breaker
        assert breaker is not None
        counts = {name: getattr(breaker, name) for name in ("succeeded", "failed", "ignored")}
        assert counts == {"succeeded": 0, "failed": 0, "ignored": 0, outcome: 1}


async def test_slow_try_and_good_try_in_turn(autojump_clock: MockClock) -> None:
    """A timeout of one try is not held against the next one's answer."""
    async with open_world() as world:
        customer = world.customer()
        script = Script(rules=(Rule(steps=(End(how="hang"), Answer(body="good"))),))
        upstream = await world.upstream(script)
        await world.route(customer, upstream, resilience={**retry(), **timeouts(1000)})
        for _ in range(3):
            visit = await world.ask(customer)
            assert (visit.status, visit.body) == (200, b"good")
