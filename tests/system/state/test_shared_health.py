"""Health checks by one instance for all, who is there, and what is known of keys."""

from __future__ import annotations

import trio

from bulkhead_trio.gateway.health import HealthBoard
from bulkhead_trio.state import Instances, SharedState
from bulkhead_trio.testing.redis import RedisServer

from .conftest import eventually, sharing

KEY = ("tenant", "route", "http://127.0.0.1:1/ a{b}")


async def test_one_instance_has_the_turn(redis_server: RedisServer) -> None:
    """Until its time is over, and for longer where it takes it again."""
    async with sharing(redis_server.url, 3) as instances:
        boards: list[HealthBoard] = [each.health for each in instances]
        turns = [await board.may_check(KEY, 0.3) for board in boards]
        assert turns == [True, False, False]
        await trio.sleep(0.2)
        assert await boards[0].may_check(KEY, 0.3)
        await trio.sleep(0.2)
        assert not await boards[1].may_check(KEY, 0.3)
        await trio.sleep(0.3)
        assert await boards[1].may_check(KEY, 0.3)
        assert not await boards[0].may_check(KEY, 0.3)


async def test_finding_is_told_everywhere(redis_server: RedisServer) -> None:
    """At once here, soon elsewhere, each change once; and again to whoever asks for the turn."""
    async with sharing(redis_server.url) as instances:
        one, two = (each.health for each in instances)
        here: list[tuple[object, bool]] = []
        there: list[tuple[object, bool]] = []
        one.subscribe(lambda key, healthy: here.append((key, healthy)))
        end = two.subscribe(lambda key, healthy: there.append((key, healthy)))
        assert await one.may_check(KEY, 5.0)
        one.report(KEY, healthy=False)
        assert here == [(KEY, False)]
        await eventually(lambda: there == [(KEY, False)])
        one.report(KEY, healthy=False)
        await eventually(lambda: not one.statistics().unsent)
        assert not one.statistics().heard, "its own words are no news"
        assert not await two.may_check(KEY, 5.0)
        assert there == [(KEY, False)] * 2
        end()
        one.report(KEY, healthy=True)
        await eventually(lambda: two.statistics().heard == 2)
        assert len(there) == 2


async def test_turn_is_left_to_others_on_the_way_out(redis_server: RedisServer) -> None:
    """They need not wait until it is over."""
    async with sharing(redis_server.url, 1) as (one,):
        async with sharing(redis_server.url, 1) as (two,):
            assert await two.health.may_check(KEY, 60.0)
            assert not await one.health.may_check(KEY, 60.0)
        assert await one.health.may_check(KEY, 60.0)


async def test_without_redis_everybody_checks(redis_server: RedisServer) -> None:
    """And nobody's finding is lost on themselves."""
    async with sharing(redis_server.url, call_seconds=0.05) as instances:
        redis_server.freeze()
        for each in instances:
            found: list[bool] = []
            each.health.subscribe(lambda _, healthy, found=found: found.append(healthy))
            assert await each.health.may_check(KEY, 5.0)
            each.health.report(KEY, healthy=False)
            assert found == [False]


async def test_instances_are_counted(redis_server: RedisServer) -> None:
    """Those that come at once, those that leave too, and the dead after three heartbeats."""
    state = SharedState(redis_server.url)
    watching = Instances(state, heartbeat_seconds=0.1)
    async with trio.open_nursery() as nursery:
        await nursery.start(state.run)
        await nursery.start(watching.run)
        assert watching.count == 1
        async with sharing(redis_server.url, 2):
            await eventually(lambda: watching.count == 3, within=0.09)
        await eventually(lambda: watching.count == 1)
        redis_server.command("ZADD", "bulkhead:instances", "99999999999999", "ghost")
        await eventually(lambda: watching.count == 2)
        redis_server.command("ZADD", "bulkhead:instances", "1", "ghost")
        await eventually(lambda: watching.count == 1)
        redis_server.kill()
        await eventually(lambda: not state.is_up)
        assert watching.count == 1
        nursery.cancel_scope.cancel()


async def test_keys_are_kept_for_their_time(redis_server: RedisServer) -> None:
    """By whichever instance; forgotten when told, and when Redis is away there is nothing."""
    async with sharing(redis_server.url, call_seconds=0.2) as instances:
        one, two = (each.keys for each in instances)
        assert await two.get("ab") is None
        await one.put("ab", b"\x00anything\xff")
        assert await two.get("ab") == b"\x00anything\xff"
        assert b":5" in redis_server.command("TTL", "tenant:apikey:ab")
        await two.forget("ab", "cd")
        await two.forget()
        assert await one.get("ab") is None
        redis_server.kill()
        await one.put("ab", b"lost")
        assert await one.get("ab") is None
