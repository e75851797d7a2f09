"""A client that goes away, at each stage of its request, behind either kind of front."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.testing.upstream import Answer, End, Events, WebSocket, always

from ._front import KINDS, Kind, Visit
from ._world import World, open_world, retry

both = pytest.mark.parametrize("kind", KINDS)

PROTECTED = {
    "circuitBreaker": {"failureThreshold": 1},
    "bulkhead": {"maxConcurrent": 1, "queueSize": 1},
}


async def leave(world: World, visit: Visit, *, after: float = 1.0) -> None:
    """The client goes, which ends its request at once."""
    await trio.sleep(after)
    assert not visit.over.is_set()
    visit.leave()
    with trio.fail_after(1):
        await visit.over.wait()


def counts(world: World, route_id: str) -> dict[str, int]:
    """How the requests to the route's one upstream counted."""
    now = world.one(route_id).statistics()
    return {"succeeded": now.succeeded, "failed": now.failed, "ignored": now.ignored}


@both
async def test_while_the_upstream_thinks(autojump_clock: MockClock, kind: Kind) -> None:
    """The upstream's connection is closed, and it counts neither way."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(End(how="hang")))
        route_id = await world.route(customer, upstream, resilience=PROTECTED)
        visit = world.begin(customer, kind=kind)
        await leave(world, visit)
        await world.assert_at_rest()
        assert not visit.begun.is_set()
        assert counts(world, route_id) == {"succeeded": 0, "failed": 0, "ignored": 1}
        assert [each.outcome for each in upstream.seen().requests] == ["gone"]
        assert world.notes.statuses == [None]


@both
async def test_while_its_small_body_comes(autojump_clock: MockClock, kind: Kind) -> None:
    """Nobody was asked."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream()
        await world.route(customer, upstream, resilience=PROTECTED)
        body: list[Any] = [b"abc", 100.0, b"def"]
        visit = world.begin(customer, "POST", body=body, headers={"content-length": "6"}, kind=kind)
        await leave(world, visit)
        await world.assert_at_rest()
        assert (upstream.seen().count, visit.begun.is_set()) == (0, False)


@both
@pytest.mark.parametrize("content", ["body", "mirror"])
async def test_while_its_body_streams(autojump_clock: MockClock, kind: Kind, content: Any) -> None:
    """Before the answer has begun, or while it streams back; half a request is not made whole."""
    async with open_world() as world:
        customer = world.customer()
        upstream = await world.upstream(always(Answer(content=content, framing="chunked")))
        route_id = await world.route(customer, upstream, resilience={**PROTECTED, **retry()})
        body: list[Any] = [b"x" * 30_000, 100.0, b"y"]
        visit = world.begin(customer, "PUT", body=body, kind=kind)
        await leave(world, visit)
        await world.assert_at_rest()
        assert visit.begun.is_set() == (content == "mirror")
        assert counts(world, route_id) == {"succeeded": 0, "failed": 0, "ignored": 1}
        (seen,) = upstream.seen().requests
        assert not seen.is_complete


@both
async def test_while_the_answer_streams(autojump_clock: MockClock, kind: Kind) -> None:
    """A download that nobody wants any more is not fetched to its end."""
    async with open_world() as world:
        customer = world.customer()
        answer = Answer(size=1_000_000, piece_bytes=10_000, piece_seconds=0.3)
        upstream = await world.upstream(always(answer))
        route_id = await world.route(customer, upstream, resilience=PROTECTED)
        visit = world.begin(customer, kind=kind)
        await leave(world, visit)
        await world.assert_at_rest()
        assert 0 < len(visit.body) <= 50_000
        assert counts(world, route_id) == {"succeeded": 0, "failed": 0, "ignored": 1}


async def test_while_it_reads_nothing(autojump_clock: MockClock) -> None:
    """The upstream is not read either, and is let go as soon as the client goes."""
    async with open_world() as world:
        customer = world.customer()
        upstream = await world.upstream(always(Answer(size=20_000_000)))
        await world.route(customer, upstream, resilience=PROTECTED)
        visit = world.visit(customer)
        visit.may_write = trio.Event()
        world.nursery.start_soon(visit.run, world.edge)
        await leave(world, visit, after=20)
        await world.assert_at_rest()
        assert [each.outcome for each in upstream.seen().requests] == ["gone"]


@both
async def test_while_events_come(autojump_clock: MockClock, kind: Kind) -> None:
    """Such a stream counts as a success once it has begun."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(Events()))
        route_id = await world.route(customer, upstream, resilience=PROTECTED)
        visit = world.begin(customer, kind=kind)
        await leave(world, visit, after=200)
        await world.assert_at_rest()
        assert visit.body.count(b"\n\n") >= 199
        assert counts(world, route_id) == {"succeeded": 1, "failed": 0, "ignored": 0}


@both
async def test_while_it_waits_for_another_try(autojump_clock: MockClock, kind: Kind) -> None:
    """That is not made, and takes nothing of the budget."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(Answer(status=503)))
        await world.route(customer, upstream, resilience=retry(baseDelayMs=10_000))
        visit = world.begin(customer, kind=kind)
        await leave(world, visit)
        await world.assert_at_rest()
        assert upstream.seen().count == 1
        assert world.budget(customer).granted == 0


@both
async def test_while_it_waits_in_the_line_of_the_tier(
    autojump_clock: MockClock, kind: Kind
) -> None:
    """Its waiting place is there for somebody else."""
    async with open_world(workers=1, queue=1) as world:
        customer, upstream = world.customer(), await world.upstream(always(Answer(gate="go")))
        await world.route(customer, upstream)
        holder = world.begin(customer)
        await trio.sleep(1)
        await leave(world, world.begin(customer, kind=kind))
        next_one = world.begin(customer, kind=kind)
        await trio.sleep(1)
        upstream.open_gate("go")
        await holder.over.wait()
        await next_one.over.wait()
        assert (holder.status, next_one.status) == (200, 200)
        assert upstream.seen().count == 2
        await world.assert_at_rest()


@both
async def test_while_it_waits_in_the_bulkhead_of_the_upstream(
    autojump_clock: MockClock, kind: Kind
) -> None:
    """Likewise, and it was no request to the upstream."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(Answer(gate="go")))
        route_id = await world.route(customer, upstream, resilience=PROTECTED)
        holder = world.begin(customer)
        await trio.sleep(1)
        await leave(world, world.begin(customer, kind=kind))
        next_one = world.begin(customer, kind=kind)
        await trio.sleep(1)
        upstream.open_gate("go")
        await holder.over.wait()
        await next_one.over.wait()
        assert (holder.status, next_one.status) == (200, 200)
        assert counts(world, route_id) == {"succeeded": 2, "failed": 0, "ignored": 0}
        await world.assert_at_rest()


@both
async def test_while_it_probes(autojump_clock: MockClock, kind: Kind) -> None:
    """The next request probes, at once."""
    async with open_world() as world:
        customer, upstream = world.customer(), await world.upstream(always(Answer(status=500)))
        await world.route(
            customer,
            upstream,
            resilience={
                "circuitBreaker": {"failureThreshold": 1, "successThreshold": 1, "timeout": 1000}
            },
        )
        await world.ask(customer)
        upstream.play(always(Answer(head_seconds=10)))
        await trio.sleep(1)
        await leave(world, world.begin(customer, kind=kind))
        upstream.play(always(Answer()))
        assert [(await world.ask(customer)).status for _ in range(3)] == [200] * 3


@both
async def test_in_the_middle_of_a_tunnel(autojump_clock: MockClock, kind: Kind) -> None:
    """By closing its end; the upstream's is closed with it."""
    async with open_world(workers=1) as world:
        customer, upstream = world.customer(), await world.upstream(always(WebSocket()))
        await world.route(customer, upstream, resilience=PROTECTED)
        for _ in range(12):  # more than there may be at once
            visit = world.web_socket(customer, kind=kind)
            world.nursery.start_soon(visit.run, world.edge)
            await visit.begun.wait()
            assert (visit.status, world.proxy.tunnels["free"]) == (101, 1)
            assert visit.tunnel is not None
            await visit.tunnel.aclose()
            with trio.fail_after(10):
                await visit.over.wait()
            await world.assert_at_rest()


@both
async def test_many_at_once_at_all_stages(autojump_clock: MockClock, kind: Kind) -> None:
    """Whoever goes when: what is left afterwards is nothing, and everything works as before."""
    async with open_world(workers=3, queue=20) as world:
        customer = world.customer()
        upstream = await world.upstream(
            always(Answer(size=50_000, head_seconds=0.5, piece_bytes=10_000, piece_seconds=0.2))
        )
        await world.route(
            customer, upstream, resilience={"bulkhead": {"maxConcurrent": 2, "queueSize": 1}}
        )
        visits = [world.begin(customer, kind=kind) for _ in range(20)]
        for visit in visits:
            await trio.sleep(0.17)
            visit.leave()
        for visit in visits:
            with trio.fail_after(1):
                await visit.over.wait()
        await world.assert_at_rest()
        again = [world.begin(customer, kind=kind) for _ in range(6)]
        for visit in again:
            await visit.over.wait()
        assert [visit.status for visit in again] == [200] * 6
