"""Tenants that share a tier: a flood of one is its own affair."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.testing.upstream import Answer, always

from ._front import KINDS, Kind, Visit
from ._world import Customer, World, open_world

both = pytest.mark.parametrize("kind", KINDS)


async def two(world: World, *, weight: int = 1) -> tuple[Customer, Customer]:
    """A noisy tenant and a quiet one of that weight; each request of theirs takes a second."""
    upstream = await world.upstream(always(Answer(head_seconds=1.0)))
    noisy, quiet = world.customer(), world.customer(weight=weight)
    for customer in (noisy, quiet):
        await world.route(customer, upstream)
        await world.ask(customer)  # both are known now
    return noisy, quiet


def codes(visits: list[Visit]) -> Counter[str | None]:
    return Counter(visit.code for visit in visits if visit.over.is_set())


async def over(*visits: Visit) -> None:
    for visit in visits:
        with trio.fail_after(300):
            await visit.over.wait()


@both
async def test_quiet_tenant_waits_for_one_turn_of_the_noisy_one(
    autojump_clock: MockClock, kind: Kind
) -> None:
    """However long the line of the other is: for who is served now, and for one more."""
    async with open_world(workers=1, queue=20) as world:
        noisy, quiet = await two(world)
        flood = [world.begin(noisy, kind=kind) for _ in range(20)]
        await trio.sleep(0.5)
        for _ in range(4):
            visit = await world.ask(quiet, kind=kind)
            assert visit.status == 200
            assert visit.took <= 3.05
        assert sum(each.over.is_set() for each in flood) < 12
        await over(*flood)
        assert {each.status for each in flood} == {200}
        await world.assert_at_rest()


@both
async def test_full_line_makes_room_for_who_has_fewest_in_it(
    autojump_clock: MockClock, kind: Kind
) -> None:
    """The flood has filled it: its surplus is refused, and its newest is sent away for others."""
    async with open_world(workers=1, queue=5) as world:
        noisy, quiet = await two(world)
        flood = []
        for _ in range(10):
            flood.append(world.begin(noisy, kind=kind))
            await trio.sleep(0.01)
        assert codes(flood) == {"bulkhead_full": 4}
        visits = [world.begin(quiet, kind=kind) for _ in range(2)]
        await trio.sleep(0.01)
        assert codes(flood) == {"bulkhead_full": 4, "shed": 2}
        assert [each.code for each in flood if each.over.is_set()][:2] == ["shed", "shed"]
        assert all(each.status == 503 for each in flood if each.over.is_set())
        await over(*visits, *flood)
        assert [visit.status for visit in visits] == [200, 200]
        assert max(visit.took for visit in visits) <= 5.05
        assert codes(flood) == {"bulkhead_full": 4, "shed": 2, None: 4}
        await world.assert_at_rest()


async def test_room_is_made_until_both_have_the_same(autojump_clock: MockClock) -> None:
    """Then the newcomer is refused as the other one was."""
    async with open_world(workers=1, queue=6) as world:
        noisy, quiet = await two(world)
        flood = [world.begin(noisy) for _ in range(7)]
        await trio.sleep(0.1)
        visits = []
        for _ in range(5):
            visits.append(world.begin(quiet))
            await trio.sleep(0.01)
        assert codes(flood) == {"shed": 3}
        assert codes(visits) == {"bulkhead_full": 2}
        await over(*flood, *visits)


@pytest.mark.parametrize(("weight", "least", "most"), [(1, 9, 11), (3, 14, 16)])
async def test_turns_are_by_weight(
    autojump_clock: MockClock, weight: int, least: int, most: int
) -> None:
    """Of twenty served while both have enough waiting, half, or three of four, are the second's."""
    async with open_world(workers=1, queue=60) as world:
        noisy, quiet = await two(world, weight=weight)
        holder = world.begin(noisy)
        await trio.sleep(0.5)
        visits = [world.begin(who) for who in (noisy, quiet) for _ in range(25)]
        await holder.over.wait()
        await trio.sleep(20.01)
        first, second = visits[:25], visits[25:]
        done = [sum(each.over.is_set() for each in part) for part in (first, second)]
        assert sum(done) == 20
        assert least <= done[1] <= most
        await over(*visits)


async def test_whoever_is_alone_may_have_the_whole_line(autojump_clock: MockClock) -> None:
    """Nothing is kept free for tenants that are not there."""
    async with open_world(workers=2, queue=8) as world:
        noisy, _ = await two(world)
        flood = [world.begin(noisy) for _ in range(10)]
        await over(*flood)
        assert [each.status for each in flood] == [200] * 10
        assert sorted(round(each.took) for each in flood) == sorted([1, 2, 3, 4, 5] * 2)


async def test_other_tiers_are_not_concerned(autojump_clock: MockClock) -> None:
    """They have workers and a line of their own."""
    async with open_world(workers=1, queue=5) as world:
        noisy, _ = await two(world)
        other = world.customer(tier="pro")
        await world.route(other, await world.upstream(always(Answer(head_seconds=1))))
        await world.ask(other)
        flood = [world.begin(noisy) for _ in range(20)]
        await trio.sleep(0.1)
        visit = await world.ask(other)
        assert visit.status == 200
        assert visit.took == pytest.approx(1, abs=0.01)
        await over(*flood)


async def test_refusals_say_when_to_come_again(autojump_clock: MockClock) -> None:
    """Not before the line can have got shorter."""
    async with open_world(workers=1, queue=3) as world:
        noisy, quiet = await two(world)
        flood = [world.begin(noisy) for _ in range(4)]
        await trio.sleep(0.1)
        world.begin(quiet)
        await trio.sleep(0.1)
        shed = next(each for each in flood if each.over.is_set())
        refused = await world.ask(noisy)
        assert (shed.code, refused.code) == ("shed", "bulkhead_full")
        for visit in (shed, refused):
            assert 1 <= int(visit.header("retry-after") or 0) <= 10
        await over(*flood)


async def test_client_that_sends_a_small_body_slowly_keeps_no_place(
    autojump_clock: MockClock,
) -> None:
    """A hundred of them, and the next one is served at once."""
    async with open_world(workers=1, queue=1) as world:
        noisy, quiet = await two(world)
        slow = [
            world.begin(noisy, "POST", body=[b"x", 1000.0, b"y"], headers={"content-length": "2"})
            for _ in range(100)
        ]
        await trio.sleep(0.1)
        assert world.tiers["free"].statistics().compartment.active == 0
        visit = await world.ask(quiet)
        assert visit.status == 200
        assert visit.took == pytest.approx(1, abs=0.01)
        for each in slow:
            each.leave()
        await over(*slow)
        await world.assert_at_rest()


async def test_waiting_request_whose_deadline_cannot_be_kept_is_refused_at_once(
    autojump_clock: MockClock,
) -> None:
    """Rather than queue to die."""
    async with open_world(workers=1, queue=20) as world:
        noisy, _ = await two(world)
        flood = [world.begin(noisy) for _ in range(10)]
        await trio.sleep(3.5)
        visit = await world.ask(noisy, headers={"x-request-timeout": "2"})
        assert (visit.status, visit.code) == (503, "deadline_unreachable")
        assert visit.took == pytest.approx(0, abs=0.01)
        await over(*flood)
