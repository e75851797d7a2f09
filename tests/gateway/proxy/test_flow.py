from __future__ import annotations

from trio.testing import MockClock

from ._world import open_world


async def test_smoke(autojump_clock: MockClock) -> None:
    """A."""
    async with open_world() as world:
        customer = world.customer()
        await world.route(customer, await world.upstream())
        for kind in ("cancels", "tells"):
            visit = await world.ask(customer, "POST", "/x?a=b", body=b"hello", kind=kind)
            assert visit.status == 200
            print(visit.body, visit.took, world.notes.lines)
        await world.assert_at_rest()
