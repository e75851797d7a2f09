"""All routes as the database has them: read, swapped, kept true, and found again after a loss."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from bulkhead_trio.database.changes import Changed, EverythingMayHaveChanged
from bulkhead_trio.errors import DatabaseUnavailable
from bulkhead_trio.gateway.groups import Groups
from bulkhead_trio.gateway.routing import Routing
from bulkhead_trio.testing.upstream import Answer, always

from ._world import Customer, ScriptedRoutes, document, open_world

A, B = (Customer(f"00000000-0000-0000-0000-{n:012}", "") for n in (1, 2))
ONE, TWO = "http://one.example", "http://two.example"


@attrs.frozen
class Kept:
    """Routing on its own, running."""

    routes: ScriptedRoutes
    groups: Groups
    routing: Routing

    def save(self, who: Customer, path: str, route_id: str | None = None, **members: Any) -> str:
        """A route to ``ONE``, which nobody is told of."""
        upstream = members.pop("upstream", ONE)
        spec = document(who, upstream, path=path, **members)
        return self.routes.save(who.id, spec, route_id)

    def found(self, who: Customer, path: str, method: str = "GET") -> str | None:
        found = self.routing.match(who.id, method, path.encode())
        return None if found is None else found.route.id

    def told(self, who: Customer, kind: Any = "route") -> None:
        self.routing.on_change(Changed(kind, who.id))

    async def settle(self) -> None:
        """Let it read what it was told of."""
        await trio.sleep(self.routes.seconds * 4 + 0.01)


async def _no_checks(url: str, timeout: float) -> bool:
    return True


@asynccontextmanager
async def keeping(routes: ScriptedRoutes | None = None) -> AsyncIterator[Kept]:
    routes = ScriptedRoutes() if routes is None else routes
    groups = Groups(check=_no_checks, random=lambda: 0.5)
    routing = Routing(routes, groups)
    async with trio.open_nursery() as nursery:
        await nursery.start(routing.run)
        yield Kept(routes, groups, routing)
        nursery.cancel_scope.cancel()


# --- read at the start ---------------------------------------------------------------------------


async def test_all_routes_are_read_before_it_says_that_it_runs(autojump_clock: MockClock) -> None:
    """Nobody is told that there is no route while they are still being read."""
    routes = ScriptedRoutes()
    routes.seconds = 3
    ids = [routes.save(A.id, document(A, ONE, path=f"/{n}")) for n in range(3)]
    async with keeping(routes) as kept:
        assert [kept.found(A, f"/{n}") for n in range(3)] == ids
        assert (len(kept.routing), kept.routing.group_ids()) == (3, frozenset(ids))
        assert kept.found(B, "/0") is None


async def test_database_that_is_away_at_the_start_is_told(autojump_clock: MockClock) -> None:
    """A server without its routes must not start."""
    routes = ScriptedRoutes()
    routes.is_away = True
    async with trio.open_nursery() as nursery:
        with pytest.raises(DatabaseUnavailable):
            await nursery.start(Routing(routes, Groups(check=_no_checks, random=lambda: 0.5)).run)


# --- changes -------------------------------------------------------------------------------------


async def test_change_of_one_tenant_reads_that_tenant_alone(autojump_clock: MockClock) -> None:
    """New, changed and deleted routes are as the database has them; others are not looked at."""
    async with keeping() as kept:
        kept.save(B, "/b")  # nobody has told of this one
        first, second = kept.save(A, "/first"), kept.save(A, "/second")
        kept.told(A)
        await kept.settle()
        assert kept.routes.asked == ["*", A.id]
        assert (kept.found(A, "/first"), kept.found(A, "/second")) == (first, second)
        assert kept.found(B, "/b") is None
        kept.save(A, "/moved", first)
        del kept.routes.records[second]
        kept.told(A)
        await kept.settle()
        assert kept.found(A, "/moved") == first
        assert kept.found(A, "/first") is kept.found(A, "/second") is None
        assert kept.groups.get(second) is None
        assert kept.routing.group_ids() == {first}


async def test_everything_may_have_changed(autojump_clock: MockClock) -> None:
    """All is read again at once: tenants that are new, and those that are gone."""
    async with keeping() as kept:
        old = kept.save(A, "/a")
        kept.told(A)
        await kept.settle()
        del kept.routes.records[old]
        new = kept.save(B, "/b")
        kept.routing.on_change(EverythingMayHaveChanged(trio.current_time()))
        await kept.settle()
        assert kept.routes.asked == ["*", A.id, "*"]
        assert (kept.found(A, "/a"), kept.found(B, "/b")) == (None, new)
        assert (len(kept.routing), len(kept.groups)) == (1, 1)


async def test_deleted_tenant_takes_its_routes_along(autojump_clock: MockClock) -> None:
    """A change of a tenant that has none here costs no question."""
    async with keeping() as kept:
        route = kept.save(A, "/a")
        kept.told(A)
        await kept.settle()
        kept.told(B, "tenant")
        kept.told(B, "key")
        await kept.settle()
        assert kept.routes.asked == ["*", A.id]
        del kept.routes.records[route]
        kept.told(A, "tenant")
        await kept.settle()
        assert kept.found(A, "/a") is None
        assert (len(kept.routing), len(kept.groups)) == (0, 0)


@pytest.mark.parametrize("event", ["route", "everything"])
async def test_change_while_reading_is_read_after_it(autojump_clock: MockClock, event: str) -> None:
    """The answer that is under way may be from before: it is not the last word."""
    routes = ScriptedRoutes()
    async with keeping(routes) as kept:
        routes.seconds = 1
        for count in range(3):
            if event == "everything":
                kept.routing.on_change(EverythingMayHaveChanged(trio.current_time()))
            else:
                kept.told(A)
            await trio.sleep(0.5)  # in the middle of reading
            kept.save(A, f"/{count}")
            kept.told(A)
            await trio.sleep(3)
            assert kept.found(A, f"/{count}") is not None


async def test_many_changes_are_read_once(autojump_clock: MockClock) -> None:
    """A hundred of one tenant, told in one go, are one question, or one more."""
    async with keeping() as kept:
        kept.routes.seconds = 0.1
        for count in range(100):
            kept.save(A, f"/{count}")
            kept.told(A)
        await trio.sleep(1)
        assert kept.routes.asked.count(A.id) <= 2
        assert kept.found(A, "/99") is not None


async def test_changes_are_read_in_their_order(autojump_clock: MockClock) -> None:
    """Whoever sees a change sees those before it, and a read that failed is the next again."""
    everybody = [Customer(f"00000000-0000-0000-0000-{n:012}", "") for n in range(1, 21)]
    async with keeping() as kept:
        for who in everybody:
            kept.told(who)
        kept.routes.is_away = True
        await trio.sleep(0.01)
        kept.routes.is_away = False
        await trio.sleep(10)
        kept.told(everybody[0])
        await kept.settle()
        asked = [who.id for who in everybody]
        assert kept.routes.asked == ["*", asked[0], *asked, asked[0]]


async def test_what_has_not_changed_is_kept(autojump_clock: MockClock) -> None:
    """A route's breakers and counts go on while others of its tenant come and go."""
    async with keeping() as kept:
        kept.save(A, "/a", resilience={"retry": {}, "circuitBreaker": {}})
        kept.told(A)
        await kept.settle()
        before = kept.routing.match(A.id, "GET", b"/a")
        kept.save(A, "/b")
        kept.told(A)
        kept.routing.on_change(EverythingMayHaveChanged(trio.current_time()))
        await kept.settle()
        after = kept.routing.match(A.id, "GET", b"/a")
        assert before is not None
        assert after is not None
        assert after.route is before.route


async def test_changed_route_keeps_the_upstreams_that_stay(autojump_clock: MockClock) -> None:
    """And gets the new ones."""
    async with keeping() as kept:
        route = kept.save(A, "/a", resilience={"circuitBreaker": {}})
        kept.told(A)
        await kept.settle()
        group = kept.groups.get(route)
        assert group is not None
        (stays,) = group.upstreams
        both: list[dict[str, Any]] = [{"url": ONE, "weight": 5}, {"url": TWO}]
        spec = document(
            A, *both, path="/a", loadBalancing="weighted", resilience={"circuitBreaker": {}}
        )
        kept.routes.save(A.id, spec, route)
        kept.told(A)
        await kept.settle()
        group = kept.groups.get(route)
        assert group is not None
        assert [each.url for each in group.upstreams] == [ONE, TWO]
        assert group.upstreams[0] is stays
        found = kept.routing.match(A.id, "GET", b"/a")
        assert found is not None
        assert found.route.group is group
        assert set(found.route.destinations) == {ONE, TWO}


async def test_spare_upstream_goes_with_its_route(autojump_clock: MockClock) -> None:
    """Where the fallback is taken out, or the route is deleted."""
    async with keeping() as kept:
        spare = {"fallback": {"upstream": TWO}}
        route = kept.save(A, "/a", resilience=spare)
        kept.told(A)
        await kept.settle()
        assert len(kept.groups) == 2
        kept.save(A, "/a", route)
        kept.told(A)
        await kept.settle()
        assert len(kept.groups) == 1
        kept.save(A, "/a", route, resilience=spare)
        kept.told(A)
        await kept.settle()
        assert len(kept.groups) == 2
        del kept.routes.records[route]
        kept.told(A)
        await kept.settle()
        assert len(kept.groups) == 0


# --- what is wrong with the database -------------------------------------------------------------


@pytest.mark.parametrize("event", ["route", "everything"])
async def test_database_away_and_back(
    autojump_clock: MockClock, event: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Routes stay as they were; what has changed is known within 2 s of the database's return."""
    caplog.set_level(logging.CRITICAL)
    async with keeping() as kept:
        old = kept.save(A, "/old")
        kept.told(A)
        await kept.settle()
        kept.routes.is_away = True
        new = kept.save(A, "/new")
        if event == "route":
            kept.told(A)
        else:
            kept.routing.on_change(EverythingMayHaveChanged(trio.current_time()))
        await trio.sleep(60)
        assert (kept.found(A, "/old"), kept.found(A, "/new")) == (old, None)
        assert 20 <= len(kept.routes.asked) <= 60  # neither given up nor hammered
        kept.routes.is_away = False
        await trio.sleep(2.01)
        assert (kept.found(A, "/old"), kept.found(A, "/new")) == (old, new)
        asked = len(kept.routes.asked)
        await trio.sleep(60)
        assert len(kept.routes.asked) == asked


BAD = [
    b"no JSON",
    b"{}",
    b'{"tenantId":"00000000-0000-0000-0000-000000000001","path":"/bad","upstreams":[]}',
    document(A, "ftp://one.example", path="/bad"),
    document(A, ONE, path="(", pathType="regex"),
    document(A, ONE, path="/bad", surprise=1),
]


@pytest.mark.parametrize("spec", BAD)
async def test_bad_stored_route_costs_only_itself(
    autojump_clock: MockClock, spec: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """All others are served, at the start as later; once it is mended it is served as well."""
    routes = ScriptedRoutes()
    good, other = (
        routes.save(A.id, document(A, ONE, path="/good")),
        routes.save(B.id, document(B, ONE, path="/good")),
    )
    bad = routes.save(A.id, spec)
    async with keeping(routes) as kept:
        assert (kept.found(A, "/good"), kept.found(B, "/good")) == (good, other)
        assert kept.found(A, "/bad") is None
        assert any(bad in record.getMessage() for record in caplog.records)
        assert len(kept.groups) == 2
        kept.save(A, "/bad", bad)
        kept.told(A)
        await kept.settle()
        assert kept.found(A, "/bad") == bad
        routes.save(A.id, spec, bad)
        kept.told(A)
        await kept.settle()
        assert kept.found(A, "/good") == good
        assert kept.found(A, "/bad") is None
        assert len(kept.groups) == 2


# --- swapping ------------------------------------------------------------------------------------


async def test_match_during_a_swap_finds_what_is_there_before_and_after() -> None:
    """A table of thousands is made beside the loop. Until it is there, what does not change is
    found as ever, and what was deleted is not found again through the old one."""
    routes = ScriptedRoutes()
    ids = [routes.save(A.id, document(A, ONE, path=f"/r{n}")) for n in range(2000)]
    async with keeping(routes) as kept:
        new = kept.save(A, "/new")
        del routes.records[ids[0]]
        kept.told(A)
        seen: list[tuple[bool, bool]] = []
        with trio.fail_after(60):
            while not seen or not seen[-1][1]:
                assert kept.found(A, "/r1999") == ids[1999]
                seen.append((kept.found(A, "/r0") is None, kept.found(A, "/new") == new))
                await trio.lowlevel.checkpoint()
        assert seen == sorted(seen)
        assert (True, False) in seen  # it was made while the loop went on
        assert len(kept.routing) == 2000


# --- seen by requests ----------------------------------------------------------------------------


async def test_request_under_way_ends_by_the_route_that_it_began_with(
    autojump_clock: MockClock,
) -> None:
    """Whatever happens to the route meanwhile: changed, then deleted."""
    async with open_world() as world:
        customer = world.customer()
        old, new = (
            await world.upstream(always(Answer(gate="go", body="old"))),
            await world.upstream(),
        )
        route_id = await world.route(customer, old, resilience={"bulkhead": {"maxConcurrent": 1}})
        visit = world.begin(customer)
        await trio.sleep(1)
        world.routes.save(customer.id, document(customer, new), route_id)
        world.routing.on_change(Changed("route", customer.id))
        await trio.sleep(1)
        assert (await world.ask(customer)).status == 200
        assert (old.seen().count, new.seen().count) == (1, 1)
        del world.routes.records[route_id]
        world.routing.on_change(Changed("route", customer.id))
        await trio.sleep(1)
        assert (await world.ask(customer)).code == "route_not_found"
        old.open_gate("go")
        await visit.over.wait()
        assert (visit.status, visit.body) == (200, b"old")
        await world.assert_at_rest()
