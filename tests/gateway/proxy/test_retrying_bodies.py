"""Requests with bodies that are sent again: what is kept, and what the next upstream gets."""

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock

from bulkhead_trio.testing.upstream import Answer, End, Rule, Script, always

from ._front import Kind
from ._world import open_world, retry


def in_turn(*steps: Any) -> Script:
    return Script(rules=(Rule(steps=steps, then="last"),))


PIECES = [bytes([65 + n]) * 1000 for n in range(10)]


@pytest.mark.parametrize("kind", ["cancels", "tells"])
@pytest.mark.parametrize("step", [Answer(status=503), End(how="close", reading="before")])
async def test_body_is_sent_again_byte_for_byte(
    autojump_clock: MockClock, kind: Kind, step: Any
) -> None:
    """In pieces, with pauses, without a length: the second upstream gets what the first one did."""
    async with open_world() as world:
        customer = world.customer()
        upstream = await world.upstream(in_turn(step, step, Answer(content="mirror")))
        await world.route(customer, upstream, resilience=retry(maxBodyBytes=10_000))
        body = [part for piece in PIECES for part in (piece, 0.1)]
        visit = await world.ask(customer, "PUT", body=body, kind=kind)
        assert (visit.status, visit.body) == (200, b"".join(PIECES))
        lengths = [each.length for each in upstream.seen().requests]
        assert lengths == [10_000, 10_000, 10_000]
        await world.assert_at_rest()


async def test_body_goes_on_where_an_early_answer_left_it(autojump_clock: MockClock) -> None:
    """The first upstream refuses after a part of it; the second gets that part and the rest."""
    async with open_world() as world:
        customer = world.customer()
        upstream = await world.upstream(
            in_turn(Answer(status=503, reading="never"), Answer(content="mirror"))
        )
        await world.route(customer, upstream, resilience=retry(baseDelayMs=0))
        body: list[Any] = [part for piece in PIECES for part in (piece, 0.25)]
        visit = await world.ask(customer, "PUT", body=body)
        assert (visit.status, visit.body) == (200, b"".join(PIECES))
        await world.assert_at_rest()


@pytest.mark.parametrize(
    ("size", "framing", "tries"),
    [
        (10_000, "length", 2),
        (10_001, "length", 1),
        (10_000, "chunked", 2),
        (10_001, "chunked", 1),
        (100_000, "length", 1),
    ],
)
async def test_body_beyond_the_bound_is_not_sent_again(
    autojump_clock: MockClock, size: int, framing: str, tries: int
) -> None:
    """However it is framed, and whether or not it was read beforehand."""
    async with open_world() as world:
        customer, upstream = (
            world.customer(),
            await world.upstream(in_turn(Answer(status=503), Answer())),
        )
        await world.route(customer, upstream, resilience=retry(maxBodyBytes=10_000))
        content = b"x" * size
        body: Any = content if framing == "length" else [content[:5000], content[5000:]]
        visit = await world.ask(customer, "PUT", body=body)
        assert visit.status == (200 if tries == 2 else 503)
        assert [each.length for each in upstream.seen().requests] == [size] * tries


async def test_body_that_cannot_be_sent_again_gets_the_answer_that_there_is(
    autojump_clock: MockClock,
) -> None:
    """It is passed on, body and all, though its status is one to try again for."""
    async with open_world() as world:
        customer = world.customer()
        upstream = await world.upstream(always(Answer(status=503, body="busy")))
        await world.route(customer, upstream, resilience=retry(maxBodyBytes=100))
        visit = await world.ask(customer, "PUT", body=PIECES)
        assert (visit.status, visit.body) == (503, b"busy")
        assert world.budget(customer).granted == 0
