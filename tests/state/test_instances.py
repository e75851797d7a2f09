"""How many instances there are, as one of them knows it from what Redis says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio
from trio.testing import MockClock

from bulkhead_trio.state.instances import HEARTBEAT_SECONDS, KEPT_HEARTBEATS, Instances

KEPT = HEARTBEAT_SECONDS * KEPT_HEARTBEATS


class ScriptedCount:
    """Behaves as the shared state does, as far as instances ask; Redis says ``count``."""

    call_seconds = 0.05

    def __init__(self) -> None:
        self.count = 1
        self.told: Callable[[bytes], None] = lambda _: None
        self.returned: Callable[[], None] = lambda: None

    def subscribe(self, _: str, listener: Callable[[bytes], None]) -> None:
        self.told = listener

    def on_return(self, listener: Callable[[], None]) -> None:
        self.returned = listener

    async def call(self, _: Any) -> int:
        await trio.lowlevel.checkpoint()
        return self.count


async def test_more_are_believed_at_once_and_fewer_after_a_while(
    autojump_clock: MockClock,
) -> None:
    """A limit that is divided by too many is kept; one that is divided by too few is not."""
    redis: Any = ScriptedCount()
    instances = Instances(redis)
    async with trio.open_nursery() as nursery:
        await nursery.start(instances.run)
        redis.count = 3
        await trio.sleep(HEARTBEAT_SECONDS + 0.1)
        assert instances.count == 3
        redis.count = 2
        await trio.sleep(KEPT - 0.2)
        assert instances.count == 3
        await trio.sleep(2 * HEARTBEAT_SECONDS)
        assert instances.count == 2
        nursery.cancel_scope.cancel()


async def test_redis_that_came_back_empty_makes_nobody_alone(autojump_clock: MockClock) -> None:
    """Whoever is the first to say that he is there is told that he is the only one."""
    redis: Any = ScriptedCount()
    redis.count = 2
    instances = Instances(redis)
    async with trio.open_nursery() as nursery:
        await nursery.start(instances.run)
        await trio.sleep(60)
        for _ in range(5):  # again and again
            redis.count = 1
            redis.returned()
            await trio.sleep(HEARTBEAT_SECONDS / 2)
            assert instances.count == 2
            redis.count = 2
            redis.told(b"2")
            await trio.sleep(HEARTBEAT_SECONDS * 1.5)
            assert instances.count == 2
        nursery.cancel_scope.cancel()


async def test_most_that_were_heard_of_meanwhile_are_what_is_left(
    autojump_clock: MockClock,
) -> None:
    """Of five two stay; that one of them was late with saying so does not make the other alone."""
    redis: Any = ScriptedCount()
    redis.count = 5
    instances = Instances(redis)
    async with trio.open_nursery() as nursery:
        await nursery.start(instances.run)
        redis.told(b"1")
        await trio.sleep(1)
        redis.count = 2
        await trio.sleep(KEPT)
        redis.told(b"1")
        assert instances.count == 2
        nursery.cancel_scope.cancel()
