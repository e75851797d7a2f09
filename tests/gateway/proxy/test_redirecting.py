"""Redirects of upstreams: to where their clients can follow."""

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock

from bulkhead_trio.testing.upstream import Answer, always

from ._front import KINDS, Kind
from ._world import World, open_world, retry

both = pytest.mark.parametrize("kind", KINDS)


def moved(location: str, **more: Any) -> Any:
    return always(Answer(status=302, headers=(("Location", location),), **more))


async def location_of(world: World, customer: Any, target: str, **more: Any) -> str | None:
    visit = await world.ask(customer, target=target, **more)
    assert visit.status == 302
    return visit.header("location")


@both
@pytest.mark.parametrize(
    ("members", "base", "wanted"),
    [
        ({}, "", "/login?next=%2Fx"),
        ({"stripPath": True}, "", "/app/login?next=%2Fx"),
        ({"stripPath": True}, "/v2", "/app/login?next=%2Fx"),
        ({"transform": {"response": {"locations": True}}}, "/v2", "/login?next=%2Fx"),
    ],
)
async def test_redirect_to_the_upstream_itself_is_one_to_the_gateway(
    autojump_clock: MockClock, kind: Kind, members: dict[str, Any], base: str, wanted: str
) -> None:
    """Its address is nobody's affair; what the route took off the path is put back."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream()
        upstream.play(moved(f"{upstream.url}{base}/login?next=%2Fx"))
        await world.route(customer, upstream.url + base, path="/app", **members)
        assert await location_of(world, customer, "/app/x", kind=kind) == wanted
        assert upstream.url.encode() not in (await world.ask(customer, target="/app/x")).body


async def test_redirect_to_another_one_stays(autojump_clock: MockClock) -> None:
    """So does a relative one, and one that the route wants to have as it is."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream()
        await world.route(customer, upstream, path="/a")
        kept = {"response": {"locations": False}}
        await world.route(customer, upstream, path="/b", transform=kept)
        for location in ("https://login.example/x", "/x", "x"):
            upstream.play(moved(location))
            assert await location_of(world, customer, "/a") == location
        upstream.play(moved(f"{upstream.url}/x"))
        assert await location_of(world, customer, "/a") == "/x"
        assert await location_of(world, customer, "/b") == f"{upstream.url}/x"


@both
async def test_redirect_is_of_the_upstream_that_has_answered(
    autojump_clock: MockClock, kind: Kind
) -> None:
    """After a retry it is another one than was asked at first; so is a fallback's; and a long
    answer's head is a head like any other.
    """
    async with open_world() as world:
        customer = world.customer()
        bad, good = await world.upstream(always(Answer(status=500))), await world.upstream()
        good.play(moved(f"{good.url}/v2/x", size=200_000))
        await world.route(customer, bad, f"{good.url}/v2", path="/a", resilience=retry())
        spare = {"fallback": {"upstream": f"{good.url}/v2"}}
        await world.route(customer, bad, path="/b", resilience=spare)
        for target in ("/a", "/a", "/b"):
            assert await location_of(world, customer, target, kind=kind) == "/x"
