"""Cancelled at every checkpoint of its way, a try leaves nothing behind and blames nobody."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.delivery.endpoint_breakers import COOLDOWNS, FAILURES
from bulkhead_trio.policies.breaker import BreakerState
from bulkhead_trio.testing import CancellationPoint, sweep_cancellations
from bulkhead_trio.testing.upstream import Answer, End, Rule, Script, always
from bulkhead_trio.testing.upstream.script import Step

from ._webhooks import Post, open_post

SLOWLY = Answer(size=1000, piece_bytes=400, piece_seconds=0.1, head_seconds=0.1, framing="chunked")
LARGE = b'"' + b"x" * 400_000 + b'"'


async def assert_at_rest(post: Post) -> None:
    await trio.sleep(0.5)
    client = post.client.statistics()
    assert client.connections == client.idle
    assert all(not each.active and not each.waiting for each in client.origins.values())
    seen = post.endpoint.seen()
    assert seen.in_flight == 0
    assert seen.open <= client.connections
    assert post.breaker.probes == 0


@pytest.mark.parametrize("payload", [b"{}", LARGE], ids=["small", "large"])
async def test_delivery_cancelled_anywhere_leaves_nothing(
    autojump_clock: MockClock, payload: bytes
) -> None:
    """Neither a connection nor a permit; and it counts neither way."""
    async with open_post(always(SLOWLY)) as post:
        delivered = 0

        async def scenario(point: CancellationPoint) -> None:
            nonlocal delivered
            with trio.fail_after(100), point:
                done = await post.send(payload=payload)
                assert done.outcome == "delivered"
                delivered += 1
            await assert_at_rest(post)

        assert await sweep_cancellations(scenario) > 3
        breaker = post.breaker
        assert delivered >= 2
        assert (breaker.succeeded, breaker.failed) == (delivered, 0)


async def test_probe_cancelled_anywhere_gives_its_place_back(autojump_clock: MockClock) -> None:
    """An endpoint that is being tried again is tried by the next one then."""
    steps: tuple[Step, ...] = (*(End(how="hang") for _ in range(FAILURES)), SLOWLY)
    async with open_post() as post:

        async def scenario(point: CancellationPoint) -> None:
            post.endpoint.play(Script(rules=(Rule(steps=steps, then="last"),)))
            for _ in range(FAILURES):
                assert (await post.send()).outcome == "retry"
            assert post.breaker.state is BreakerState.OPEN
            await trio.sleep(max(COOLDOWNS))
            with trio.fail_after(100), point:
                assert (await post.send()).outcome == "delivered"
            await assert_at_rest(post)
            assert (await post.send()).outcome == "delivered"

        assert await sweep_cancellations(scenario) > 3


async def test_cancelled_try_is_not_told_as_one(autojump_clock: MockClock) -> None:
    """A timeout from outside goes on as such; ours alone makes a result."""
    async with open_post(always(End(how="hang"))) as post:
        with pytest.raises(trio.TooSlowError):
            with trio.fail_after(5):
                await post.send()
        assert post.breaker.failed == 0
        with trio.fail_after(20):
            assert (await post.send()).outcome == "retry"
        assert post.breaker.failed == 1
