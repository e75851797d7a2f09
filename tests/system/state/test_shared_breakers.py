"""Breakers that instances share: opened by all together, probed by one, gone on with alone."""

from __future__ import annotations

import gc

import pytest
import trio

from bulkhead_trio.errors import CircuitOpen, StateUnavailable
from bulkhead_trio.gateway.breaker import MakeBreaker, UpstreamBreaker
from bulkhead_trio.gateway.group_settings import BreakerSettings
from bulkhead_trio.policies.breaker import BreakerOutcome, BreakerState, CountWindow
from bulkhead_trio.state import Shared, SharedBreaker, SharedPermit, SharedProbe
from bulkhead_trio.state._commands import Command
from bulkhead_trio.testing.redis import RedisServer

from .conftest import eventually, sharing

SUCCESS, FAILURE, IGNORED = BreakerOutcome.SUCCESS, BreakerOutcome.FAILURE, BreakerOutcome.IGNORED
KEY = ("tenant", "route", "http://127.0.0.1:1")
RULES = BreakerSettings(cooldown=0.2, successes=2)


def breakers_of(instances: list[Shared], rules: BreakerSettings = RULES) -> list[SharedBreaker]:
    return [each.breakers.breaker(KEY, "the breaker", rules) for each in instances]


def fail(breaker: SharedBreaker, times: int = 1) -> None:
    for _ in range(times):
        permit = breaker.admit_nowait()
        assert permit is not None
        permit.end(FAILURE)


async def try_admit(breaker: SharedBreaker) -> SharedPermit | SharedProbe | CircuitOpen:
    try:
        return await breaker.admit()
    except CircuitOpen as error:
        return error


async def admitted(breakers: list[SharedBreaker]) -> list[SharedPermit | SharedProbe]:
    """Who gets in of a request of each, all at the same time."""
    found: list[SharedPermit | SharedProbe] = []

    async def ask(breaker: SharedBreaker) -> None:
        one = await try_admit(breaker)
        if not isinstance(one, CircuitOpen):
            found.append(one)

    async with trio.open_nursery() as nursery:
        for each in breakers:
            nursery.start_soon(ask, each)
    return found


async def probe_of(breaker: SharedBreaker) -> SharedPermit | SharedProbe:
    """The probe, once it is to be had."""
    with trio.fail_after(5):
        while not (found := await admitted([breaker])):
            await trio.sleep(0.02)
    return found[0]


async def test_failures_of_all_instances_open_it(redis_server: RedisServer) -> None:
    """Two of the first and three of the second are five in a row."""
    async with sharing(redis_server.url, 3) as instances:
        one, two, three = breakers_of(instances)
        fail(one, 2)
        await eventually(lambda: two.statistics().failures)
        fail(two, 3)
        await eventually(lambda: not any(each.is_closed for each in (one, two, three)))
        assert all(0 < (each.refusal() or 0) <= 0.2 for each in (one, two, three))
        assert three.statistics().state in (BreakerState.OPEN, BreakerState.HALF_OPEN)


async def test_success_of_another_instance_comes_between(redis_server: RedisServer) -> None:
    """Failures in a row are counted over all of them."""
    async with sharing(redis_server.url) as instances:
        one, two = breakers_of(instances)
        fail(one, 4)
        await eventually(lambda: two.statistics().failures)
        permit = two.admit_nowait()
        assert permit is not None
        permit.end(SUCCESS)
        await eventually(lambda: one.statistics().failures == 0)
        fail(one, 4)
        assert one.is_closed


async def test_own_failures_open_it_at_once(redis_server: RedisServer) -> None:
    """The call after the fifth is refused, before Redis has heard of any."""
    async with sharing(redis_server.url, 1) as instances:
        (one,) = breakers_of(instances)
        fail(one, 5)
        assert not one.is_closed
        assert isinstance(await try_admit(one), CircuitOpen)


async def test_one_probe_among_all_instances(redis_server: RedisServer) -> None:
    """Then the next, until enough were good; the call after that passes everywhere."""
    async with sharing(redis_server.url, 3) as instances:
        breakers = breakers_of(instances)
        fail(breakers[0], 5)
        await eventually(lambda: not any(each.is_closed for each in breakers))
        await trio.sleep(0.25)
        for _ in range(2):
            await eventually(lambda: all(each.refusal() is None for each in breakers))
            (probe,) = await admitted(breakers * 5)
            assert not await admitted(breakers * 5)
            await eventually(lambda: all(each.refusal() == 0 for each in breakers))
            probe.end(SUCCESS)
        await eventually(lambda: all(each.is_closed for each in breakers))
        assert len(await admitted(breakers)) == 3


async def test_bad_probe_opens_it_again(redis_server: RedisServer) -> None:
    """For another cooldown, everywhere; one that says nothing leaves the probe to the next."""
    async with sharing(redis_server.url) as instances:
        one, two = breakers_of(instances)
        fail(one, 5)
        await eventually(lambda: not two.is_closed)
        await trio.sleep(0.25)
        (probe,) = await admitted([two])
        probe.end(IGNORED)
        (await probe_of(one)).end(FAILURE)
        await eventually(lambda: one.refusal() and two.refusal())
        assert two.statistics().failures == 6


async def test_next_request_after_a_good_probe_passes(redis_server: RedisServer) -> None:
    """One after the other, as a single client sends them."""
    rules = BreakerSettings(cooldown=0.1)
    async with sharing(redis_server.url, 1) as instances:
        (one,) = breakers_of(instances, rules)
        fail(one, 5)
        await trio.sleep(0.15)  # Redis counts from when it was told
        (await one.admit()).end(SUCCESS)
        assert isinstance(await one.admit(), SharedPermit)


async def test_instance_that_dies_with_the_probe_leaves_it(redis_server: RedisServer) -> None:
    """When its lease is over; an instance that lives renews it for as long as the probe takes."""
    async with sharing(redis_server.url, 1) as others:
        (other,) = breakers_of(others)
        async with sharing(redis_server.url, 1) as dying:
            (one,) = breakers_of(dying)
            fail(one, 5)
            await eventually(lambda: not other.is_closed)
            await trio.sleep(0.25)
            (_probe,) = await admitted([one])
            await trio.sleep(3.3)
            assert not await admitted([other]), "it was renewed"
        began = trio.current_time()
        (await probe_of(other)).end(SUCCESS)
        assert trio.current_time() - began < 3.5


async def test_instance_that_starts_learns_that_it_is_open(redis_server: RedisServer) -> None:
    """Within a round trip."""
    async with sharing(redis_server.url, 1) as first:
        fail(breakers_of(first)[0], 5)
        await eventually(lambda: first[0].breakers.statistics().reports > 1)
        async with sharing(redis_server.url, 1) as second:
            (late,) = breakers_of(second)
            await eventually(lambda: not late.is_closed)


async def test_rates_are_counted_over_all_instances(redis_server: RedisServer) -> None:
    """Neither sees enough calls alone."""
    rules = BreakerSettings(window=CountWindow(10), failure_rate=0.5, cooldown=5.0)
    async with sharing(redis_server.url) as instances:
        one, two = breakers_of(instances, rules)
        fail(one, 5)
        for _ in range(5):
            permit = two.admit_nowait()
            assert permit is not None
            permit.end(SUCCESS)
        assert one.is_closed
        await eventually(lambda: not one.is_closed and not two.is_closed)


async def test_without_redis_each_goes_on_alone(redis_server: RedisServer) -> None:
    """An open one stays open and gets a probe of its own; the way back is by itself too."""
    async with sharing(redis_server.url, call_seconds=0.05) as instances:
        one, two = breakers_of(instances)
        fail(one, 5)
        await eventually(lambda: not two.is_closed)
        redis_server.kill()
        await eventually(lambda: not any(each.state.is_up for each in instances))
        await trio.sleep(0.25)
        for each in (one, two):
            for _ in range(2):
                permit = each.admit_nowait()
                assert permit is not None, "it does not wait for Redis"
                assert each.refusal() == 0
                permit.end(SUCCESS)
            assert each.is_closed
        fail(two, 5)
        assert not two.is_closed
        assert one.is_closed
        redis_server.start()
        await eventually(lambda: all(each.state.is_up for each in instances))
        await eventually(lambda: two.is_closed)
        fail(one, 5)
        await eventually(lambda: not two.is_closed)


async def test_stopped_redis_keeps_no_call_waiting(redis_server: RedisServer) -> None:
    """Closed: not at all; to probe: once, for the limit."""
    async with sharing(redis_server.url, 1, call_seconds=0.05) as instances:
        (one,) = breakers_of(instances)
        redis_server.freeze()
        began = trio.current_time()
        fail(one, 5)
        assert trio.current_time() - began < 0.05
        await trio.sleep(0.25)
        began = trio.current_time()
        (probe,) = await admitted([one])
        assert trio.current_time() - began < 0.15
        probe.end(SUCCESS)


async def test_probe_that_ends_while_redis_is_away_is_to_be_had_when_it_is_back(
    redis_server: RedisServer,
) -> None:
    """At once, and not when its lease of 3 s is over."""
    async with sharing(redis_server.url, call_seconds=0.05) as instances:
        one, other = breakers_of(instances)
        fail(one, 5)
        await eventually(lambda: not other.is_closed)
        await trio.sleep(0.25)
        (probe,) = await admitted([one])
        began = trio.current_time()
        redis_server.freeze()
        for each in instances:
            with pytest.raises(StateUnavailable):
                await each.state.call(Command(b"PING", (), b""))
        probe.end(IGNORED)
        redis_server.thaw()
        await eventually(lambda: all(each.state.is_up for each in instances))
        assert isinstance(await probe_of(other), SharedProbe)
        assert trio.current_time() - began < 2


async def test_breakers_of_one_key_are_one(redis_server: RedisServer) -> None:
    """While somebody holds it, and its rules are the same."""
    async with sharing(redis_server.url, 1) as (one,):
        make: MakeBreaker = one.breakers.breaker
        kept: UpstreamBreaker = make(KEY, "the breaker", RULES)
        assert make(KEY, "the breaker", RULES) is kept
        assert make(KEY, "the breaker", BreakerSettings(cooldown=9.0)) is not kept
        await eventually(lambda: not one.breakers.statistics().unsent)
        del kept

        def are_gone() -> bool:
            gc.collect()  # a report that is under way holds them for its time
            return one.breakers.statistics().breakers == 0

        await eventually(are_gone)
