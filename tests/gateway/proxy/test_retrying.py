"""Sending again: when, where to, with what, and how often."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.http.client import ClientLimits
from bulkhead_trio.testing.upstream import Answer, Cut, End, Raw, Rule, Script

from ._front import Kind
from ._world import World, open_world, retry


def statuses(pattern: str) -> Script:
    return Script(rules=(Rule(steps=pattern, then="last"),))


def in_turn(*steps: Any) -> Script:
    return Script(rules=(Rule(steps=steps, then="last"),))


# --- when ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chance", "moments"),
    [
        (0.0, [0.0, 0.0, 0.0, 0.0, 0.0]),
        (0.5, [0.0, 0.5, 1.5, 3.5, 6.0]),
        (0.75, [0.0, 0.75, 2.25, 5.25, 9.0]),
    ],
)
async def test_waits_are_the_chosen_part_of_a_doubling_bound(
    autojump_clock: MockClock, chance: float, moments: list[float]
) -> None:
    """Up to 1, 2, 4 and then 5 s, the longest that the route allows: chance says which part."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(statuses("503"))
        await world.route(customer, upstream, resilience=retry(maxRetries=4, maxDelayMs=5000))
        world.chance.value = chance
        assert (await world.ask(customer)).status == 503
        seen = [each.at for each in upstream.seen().requests]
        assert [at - seen[0] for at in seen] == pytest.approx(moments, abs=0.01)


async def test_each_wait_has_a_chance_of_its_own(autojump_clock: MockClock) -> None:
    """No wait is the same part of its bound as the one before, nor as another request's."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(statuses("503"))
        await world.route(customer, upstream, resilience=retry())
        world.chance.source = random.Random(5).random
        parts = set()
        for _ in range(5):
            upstream.forget()
            await world.ask(customer)
            at = [each.at for each in upstream.seen().requests]
            waits = [after - before for before, after in itertools.pairwise(at)]
            assert len(waits) == 3
            for wait, bound in zip(waits, (1, 2, 4), strict=True):
                assert 0 <= wait <= bound
                parts.add(round(wait / bound, 3))
        assert len(parts) == 15


@pytest.mark.parametrize(
    ("asked", "tries"), [("10", 3), ("1.6", 3), ("1.4", 2), ("0.6", 2), ("0.4", 1)]
)
async def test_no_try_is_made_that_could_not_begin_before_the_deadline(
    autojump_clock: MockClock, asked: str, tries: int
) -> None:
    """Tries would be at 0, 0.5 and 1.5 s; one that is too late is not waited for: the last answer
    is passed on at once."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(statuses("503"))
        await world.route(customer, upstream, resilience=retry(maxRetries=2))
        visit = await world.ask(customer, headers={"x-request-timeout": asked})
        assert (visit.status, visit.code) == (503, None)
        assert upstream.seen().count == tries
        assert visit.took == pytest.approx((0.0, 0.5, 1.5)[tries - 1], abs=0.01)


async def test_deadline_ends_a_try_that_a_wait_came_before(autojump_clock: MockClock) -> None:
    """One deadline for all tries and waits together."""
    async with open_world() as world:
        customer = world.customer()
        upstream = await world.upstream(in_turn(Answer(status=503), Answer(head_seconds=10)))
        await world.route(customer, upstream, resilience=retry())
        visit = await world.ask(customer, headers={"x-request-timeout": "2"})
        assert (visit.status, visit.code) == (504, "deadline_exceeded")
        assert visit.took == pytest.approx(2.0, abs=0.01)
        await world.assert_at_rest()


async def test_what_is_left_of_the_deadline_is_told_each_time(autojump_clock: MockClock) -> None:
    """The upstream hears how long its own try may take, not how long the whole request may."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(statuses("503"))
        await world.route(customer, upstream, resilience=retry(maxRetries=2))
        await world.ask(customer, headers={"x-request-timeout": "4"})
        told = [float(each.header("x-request-timeout") or 0) for each in upstream.seen().requests]
        assert told == pytest.approx([4.0, 3.5, 2.5], abs=0.01)


# --- what for ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "tries"),
    [
        (Answer(status=500), 2),
        (Answer(status=501), 1),
        (Answer(status=429), 1),
        (Answer(status=404), 1),
        (End(how="close"), 2),
        (End(how="reset"), 2),
        (Raw(data="garbage\r\n\r\n"), 2),
        (Answer(cut=Cut(after_bytes=10, of="head")), 2),
        (End(how="hang"), 2),
    ],
)
async def test_what_leads_to_another_try(autojump_clock: MockClock, step: Any, tries: int) -> None:
    """The statuses that the route names, and whatever is no answer."""
    async with open_world() as world:
        customer = world.customer()
        upstream = await world.upstream(in_turn(step, Answer(body="second")))
        await world.route(customer, upstream, resilience={**retry(), "timeout": {"default": 1000}})
        visit = await world.ask(customer)
        assert upstream.seen().count == tries
        if tries == 2:
            assert (visit.status, visit.body) == (200, b"second")
        await world.assert_at_rest()


async def test_a_status_below_500_may_be_named_and_is_no_failure(
    autojump_clock: MockClock,
) -> None:
    """429 is sent again where the route says so; the breaker takes it for a success."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(statuses("429,429,200"))
        route_id = await world.route(
            customer,
            upstream,
            resilience={
                **retry(retryableStatusCodes=[429]),
                "circuitBreaker": {"failureThreshold": 1},
            },
        )
        assert (await world.ask(customer)).status == 200
        assert upstream.seen().count == 3
        breaker = world.one(route_id).statistics().breaker
        assert breaker is not None
        assert (breaker.succeeded, breaker.failed) == (3, 0)


@pytest.mark.parametrize("method", ["POST", "PATCH", "CONNECTED"])
@pytest.mark.parametrize("named", [False, True])
async def test_methods_that_may_do_something_twice(
    autojump_clock: MockClock, method: str, named: bool
) -> None:
    """They are sent once, after an answer as after none, unless the route says otherwise."""
    async with open_world() as world:
        customer = world.customer()
        upstream = await world.upstream(
            in_turn(Answer(status=503), End(how="close"), Answer(body="third"))
        )
        await world.route(customer, upstream, resilience=retry(nonIdempotent=named))
        first = await world.ask(customer, method, body=b"once")
        if named:
            assert (first.status, first.body) == (200, b"third")
            return
        second = await world.ask(customer, method, body=b"once")
        assert (first.status, second.code) == (503, "upstream_error")
        assert upstream.seen().count == 2


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_connection_that_is_refused_was_seen_by_nobody(
    autojump_clock: MockClock, method: str
) -> None:
    """Any method is sent again then, to the other upstream at once where the wait is none."""
    async with open_world() as world:
        customer = world.customer()
        away, there = await world.upstream(Script(is_listening=False)), await world.upstream()
        await world.route(customer, away, there, resilience=retry(baseDelayMs=0))
        for _ in range(2):
            assert (await world.ask(customer, method, body=b"x")).status == 200
        assert there.seen().count == 2


# --- how often -----------------------------------------------------------------------------------


async def test_last_answer_is_passed_on_as_it_is(autojump_clock: MockClock) -> None:
    """Status, header and body of the last one, and nothing of those before."""
    async with open_world() as world:
        customer = world.customer()
        steps = [
            Answer(status=503, body=f"number {n}", headers=(("X-Number", str(n)),))
            for n in range(1, 6)
        ]
        upstream = await world.upstream(in_turn(*steps))
        await world.route(customer, upstream, resilience=retry())
        visit = await world.ask(customer)
        assert (visit.status, visit.body) == (503, b"number 4")
        assert visit.header("x-number") == "4"
        assert upstream.seen().count == 4
        assert world.notes.lines[-1]["tries"] == 4


async def test_budget_bounds_retries_of_all_requests_together(autojump_clock: MockClock) -> None:
    """With two a window, the third request that fails is not sent again; a window later one is."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(statuses("503"))
        budget = {"ratio": 0.01, "minRetries": 2, "windowMs": 10_000}
        await world.route(
            customer, upstream, resilience=retry(maxRetries=1, baseDelayMs=0, budget=budget)
        )
        tries = []
        for pause in (0, 0, 0, 0, 12, 0, 0):
            await trio.sleep(pause)
            before = upstream.seen().count
            assert (await world.ask(customer)).status == 503
            tries.append(upstream.seen().count - before)
        assert tries == [2, 2, 1, 1, 2, 2, 1]
        assert world.budget(customer).granted == 4


async def test_budget_is_a_share_of_the_requests(autojump_clock: MockClock) -> None:
    """Of a hundred requests that all fail, a tenth is sent again."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(statuses("503"))
        budget = {"ratio": 0.1, "minRetries": 0, "windowMs": 60_000}
        await world.route(customer, upstream, resilience=retry(baseDelayMs=0, budget=budget))
        for _ in range(100):
            await world.ask(customer)
        assert upstream.seen().count == 110


async def test_spare_upstream_is_asked_once_and_takes_no_retry(
    autojump_clock: MockClock,
) -> None:
    """Its answer is passed on, though the route would try again after such a one."""
    async with open_world() as world:
        customer = world.customer()
        bad, spare = await world.upstream(statuses("503")), await world.upstream(statuses("429"))
        await world.route(
            customer,
            bad,
            resilience={
                **retry(retryableStatusCodes=[429, 503], maxRetries=1, baseDelayMs=0),
                "circuitBreaker": {"failureThreshold": 1},
                "fallback": {"upstream": spare.url},
            },
        )
        await world.ask(customer)  # opens the breaker
        granted, asked = world.budget(customer).granted, spare.seen().count
        for _ in range(3):
            assert (await world.ask(customer)).status == 429
        assert spare.seen().count == asked + 3
        assert world.budget(customer).granted == granted


# --- where to ------------------------------------------------------------------------------------


async def test_another_try_goes_to_another_upstream(autojump_clock: MockClock) -> None:
    """Each upstream once, before any of them a second time."""
    async with open_world() as world:
        customer = world.customer()
        upstreams = [await world.upstream(statuses("503")) for _ in range(3)]
        await world.route(customer, *upstreams, resilience=retry(maxRetries=2, baseDelayMs=0))
        for count in range(1, 6):
            await world.ask(customer)
            assert [each.seen().count for each in upstreams] == [count] * 3


async def test_one_bad_upstream_of_two_costs_no_answer(autojump_clock: MockClock) -> None:
    """Every request is answered well, whichever upstream it went to first."""
    async with open_world() as world:
        customer = world.customer()
        bad, good = await world.upstream(statuses("500")), await world.upstream()
        await world.route(customer, bad, good, resilience=retry(maxRetries=1, baseDelayMs=0))
        for _ in range(6):
            assert (await world.ask(customer)).status == 200
        assert (bad.seen().count, good.seen().count) == (3, 6)


async def test_same_upstream_is_better_than_none(autojump_clock: MockClock) -> None:
    """Where the other one's breaker is open, the one that has failed is asked again."""
    async with open_world() as world:
        customer = world.customer()
        opened, other = await world.upstream(statuses("500")), await world.upstream()
        route_id = await world.route(
            customer,
            opened,
            other,
            resilience={**retry(baseDelayMs=0), "circuitBreaker": {"failureThreshold": 2}},
        )
        for _ in range(4):
            await world.ask(customer)
        first, second = world.group(route_id).upstreams
        assert (first.statistics().failed, second.statistics().failed) == (2, 0)
        other.play(statuses("503,200"))
        assert (await world.ask(customer)).status == 200
        assert opened.seen().count == 2


# --- after the answer has begun -------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("how", ["close", "reset", "hang"])
@pytest.mark.parametrize("kind", ["cancels", "tells"])
async def test_nothing_is_sent_again_once_the_answer_has_begun(
    autojump_clock: MockClock, framing: Any, how: Any, kind: Kind
) -> None:
    """The client has a part of an answer: it is cut off, neither completed nor begun anew."""
    limits = ClientLimits(read_gap=5.0)
    async with open_world(limits=limits) as world:
        customer = world.customer()
        upstream = await world.upstream(
            in_turn(
                Answer(
                    size=100_000, framing=framing, piece_bytes=10_000, piece_seconds=0.1,
                    cut=Cut(after_bytes=50_000, how=how),
                ),
                Answer(body="second"),
            )
        )  # fmt: skip
        await world.route(customer, upstream, resilience={**retry(), "fallback": {"body": "{}"}})
        visit = await world.ask(customer, kind=kind)
        assert (visit.status, visit.was_cut_off, visit.is_complete) == (200, True, False)
        assert 0 < len(visit.body) <= 50_000
        assert upstream.seen().count == 1
        await world.assert_at_rest()


async def _grant_and_tries(world: World, customer: Any) -> tuple[int, int]:
    upstreams = world.upstreams
    return world.budget(customer).granted, sum(each.seen().count for each in upstreams)


async def test_retries_do_not_count_as_requests(autojump_clock: MockClock) -> None:
    """The budget's share is of what tenants send, so that retries allow no further retries."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(statuses("503"))
        await world.route(customer, upstream, resilience=retry(baseDelayMs=0))
        for _ in range(4):
            await world.ask(customer)
        assert await _grant_and_tries(world, customer) == (12, 16)
        assert world.budget(customer).calls == 4
