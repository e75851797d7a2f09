"""Cancelled at every checkpoint of its way, a request leaves nothing behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.testing import CancellationPoint, sweep_cancellations
from bulkhead_trio.testing.upstream import Answer, End, Events, Rule, Script, WebSocket, always

from ._front import KINDS, Kind, Visit
from ._world import Customer, World, open_world, retry

BODY: list[Any] = [b"a" * 5000, 0.1, b"b" * 40_000, 0.1, b"c" * 70_000]
SLOWLY = Answer(size=40_000, piece_bytes=10_000, piece_seconds=0.05, head_seconds=0.05)

both = pytest.mark.parametrize("kind", KINDS)


def in_turn(*steps: Any) -> Script:
    return Script(rules=(Rule(steps=steps, then="last"),))


async def sweep(
    world: World,
    customer: Customer,
    make: Callable[[], Visit],
    *,
    before: Callable[[], Awaitable[object]] | None = None,
    status: int = 200,
) -> int:
    """Cancel the request that ``make`` makes at each of its checkpoints; how many there were.

    After each the gateway is at rest, and an uncancelled one is answered well at the end.
    """
    finished: list[Visit] = []

    async def scenario(point: CancellationPoint) -> None:
        if before is not None:
            await before()
        visit = make()
        with trio.fail_after(1000), point:
            await visit.run(world.edge)
        await world.assert_at_rest()
        if not point.was_cancelled:
            assert (visit.status, visit.is_complete or visit.tunnel is not None) == (status, True)
            finished.append(visit)

    count = await sweep_cancellations(scenario)
    assert len(finished) >= 2  # the last of either way
    assert world.notes.lines
    assert all(line["tenant"] == customer.id for line in world.notes.lines if "tenant" in line)
    return count


@both
async def test_get(autojump_clock: MockClock, kind: Kind) -> None:
    """Connecting, waiting for the head, and reading the answer."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(SLOWLY))
        await world.route(customer, upstream)
        assert await sweep(world, customer, lambda: world.visit(customer, kind=kind)) > 5


@both
async def test_get_within_limits(autojump_clock: MockClock, kind: Kind) -> None:
    """The same with a scope of its own: the caller has asked for one."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(SLOWLY))
        await world.route(customer, upstream)
        await sweep(
            world,
            customer,
            lambda: world.visit(customer, kind=kind, headers={"x-request-timeout": "3"}),
        )


@both
async def test_post_that_streams_both_ways(autojump_clock: MockClock, kind: Kind) -> None:
    """The body goes out in a task of its own while the answer comes in."""
    async with open_world() as world:
        customer = world.customer()
        upstream = await world.upstream(always(Answer(content="mirror", framing="chunked")))
        await world.route(customer, upstream)
        make = lambda: world.visit(customer, "POST", body=BODY, kind=kind)  # noqa: E731
        assert await sweep(world, customer, make) > 5


@both
async def test_small_body_that_comes_slowly(autojump_clock: MockClock, kind: Kind) -> None:
    """It is read before the request has any place."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream()
        await world.route(customer, upstream)
        await sweep(
            world,
            customer,
            lambda: world.visit(
                customer,
                "POST",
                body=[b"ab", 0.2, b"cd", 0.2, b"ef"],
                headers={"content-length": "6"},
                kind=kind,
            ),
        )


@both
@pytest.mark.parametrize("body", [b"", BODY])
async def test_waiting_for_another_try(autojump_clock: MockClock, kind: Kind, body: Any) -> None:
    """What was granted by the budget is given back, unless the try was made."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream()
        await world.route(
            customer, upstream, resilience=retry(baseDelayMs=100, maxBodyBytes=200_000)
        )
        script = in_turn(Answer(status=503, reading="never"), End(how="reset"), Answer())

        async def play() -> None:
            upstream.play(script)

        await sweep(
            world, customer, lambda: world.visit(customer, "PUT", body=body, kind=kind), before=play
        )
        made = sum(max(0, int(line.get("tries", 0)) - 1) for line in world.notes.lines)
        assert made > 0
        assert world.budget(customer).granted == made


@both
async def test_waiting_in_the_line_of_the_tier(autojump_clock: MockClock, kind: Kind) -> None:
    """Nobody gets a place that nobody takes, and nobody stays in the line."""
    async with open_world(workers=1, queue=2) as world:
        customer = world.customer()
        upstream = await world.upstream(always(Answer(head_seconds=0.2)))
        await world.route(customer, upstream)

        async def occupy() -> None:
            holder = world.begin(customer)
            await trio.sleep(0.05)
            assert not holder.over.is_set()

        make = lambda: world.visit(customer, kind=kind)  # noqa: E731
        await sweep(world, customer, make, before=occupy)
        statistics = world.tiers["free"].statistics()
        assert statistics.outcomes["cancelled"] > 0
        assert statistics.compartment.refused == 0


@both
async def test_waiting_in_the_bulkhead_of_the_upstream(
    autojump_clock: MockClock, kind: Kind
) -> None:
    """It is the place in the tier's compartment that is given back as well."""
    async with open_world() as world:
        customer = world.customer()
        upstream = await world.upstream(always(Answer(head_seconds=0.2)))
        await world.route(
            customer, upstream, resilience={"bulkhead": {"maxConcurrent": 1, "queueSize": 1}}
        )

        async def occupy() -> None:
            world.begin(customer)
            await trio.sleep(0.05)

        await sweep(world, customer, lambda: world.visit(customer, kind=kind), before=occupy)
        # Whoever comes now finds room for one, and for one more.
        visits = [world.begin(customer) for _ in range(2)]
        for visit in visits:
            await visit.over.wait()
            assert visit.status == 200


@both
async def test_probe_of_a_breaker(autojump_clock: MockClock, kind: Kind) -> None:
    """A probe that is cancelled is no verdict: the next request may probe at once."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream()
        route_id = await world.route(
            customer,
            upstream,
            resilience={
                "circuitBreaker": {"failureThreshold": 1, "successThreshold": 1, "timeout": 1000}
            },
        )

        async def open_breaker() -> None:
            upstream.play(always(Answer(status=500)))
            await world.ask(customer)
            upstream.play(always(SLOWLY))
            await trio.sleep(1.1)
            assert _state(world, route_id) == "HALF_OPEN"

        make = lambda: world.visit(customer, kind=kind)  # noqa: E731
        await sweep(world, customer, make, before=open_breaker)
        assert _state(world, route_id) == "CLOSED"
        assert len(world.notes.statuses) > 10


def _state(world: World, route_id: str) -> str:
    breaker = world.one(route_id).statistics().breaker
    assert breaker is not None
    return breaker.state.value


@both
async def test_events(autojump_clock: MockClock, kind: Kind) -> None:
    """A stream that ends by itself, cancelled before its head, at each event, and at its end."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(Events(count=3)))
        await world.route(
            customer, upstream, resilience={"bulkhead": {"maxConcurrent": 1, "queueSize": 0}}
        )
        await sweep(world, customer, lambda: world.visit(customer, kind=kind))


@both
async def test_spare_upstream(autojump_clock: MockClock, kind: Kind) -> None:
    """The first one's connection is closed, or kept, before the other one is asked."""
    async with open_world() as world:
        customer = world.customer()
        bad = await world.upstream(always(Answer(status=500, size=100_000)))
        spare = await world.upstream(always(SLOWLY))
        await world.route(customer, bad, resilience={"fallback": {"upstream": spare.url}})
        await sweep(world, customer, lambda: world.visit(customer, kind=kind))


@both
async def test_tunnel(autojump_clock: MockClock, kind: Kind) -> None:
    """From the handshake to the last message; the tier's count of tunnels is back at nought."""
    async with open_world() as world:
        customer = world.customer()
        upstream = await world.upstream(always(WebSocket(greeting=("hello",), close_after=1)))
        await world.route(
            customer, upstream, resilience={"bulkhead": {"maxConcurrent": 1, "queueSize": 0}}
        )
        masked = b"\x81\x82\x00\x00\x00\x00hi"

        def make() -> Visit:
            visit = world.web_socket(customer, kind=kind)

            async def talk() -> None:
                with trio.move_on_after(1):
                    await visit.begun.wait()
                    tunnel = visit.tunnel
                    if tunnel is None:
                        return
                    try:
                        await tunnel.read_piece()
                        await tunnel.write(masked)
                        while await tunnel.read_piece():
                            pass
                        await tunnel.aclose()
                    except trio.BrokenResourceError:
                        return

            world.nursery.start_soon(talk)
            return visit

        await sweep(world, customer, make, status=101)


@both
async def test_key_that_has_to_be_looked_up(autojump_clock: MockClock, kind: Kind) -> None:
    """The question to the database is cancelled with whoever has asked it."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream()
        await world.route(customer, upstream)
        world.tenants.seconds = 0.1

        async def forget() -> None:
            world.directory.forget_tenant(customer.id)

        await sweep(world, customer, lambda: world.visit(customer, kind=kind), before=forget)
        assert world.tenants.asking == 0
