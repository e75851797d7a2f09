"""A quota for each key: apart from each other, in bounded space, and no debt is ever forgotten."""

from __future__ import annotations

import gc
import math
import tracemalloc
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkhead_trio.errors import DeadlineUnreachable, RateLimited
from bulkhead_trio.policies.policy import Kind
from bulkhead_trio.policies.rate import (
    FixedWindow,
    KeyedRateLimiter,
    KeyedRateLimiterStatistics,
    KeyStatistics,
    LeakyBucket,
    RateLimitRefused,
    Rule,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
)
from bulkhead_trio.testing.cancellation import CancellationPoint, sweep_cancellations

Clock = trio.testing.MockClock


def one_a_second(capacity: int = 1, **options: Any) -> KeyedRateLimiter:
    return KeyedRateLimiter(TokenBucket(rate=1, capacity=capacity), name="users", **options)


async def answer(value: int) -> int:
    return value


# --- decisions -----------------------------------------------------------------------------------


async def test_keys_have_quotas_of_their_own(autojump_clock: Clock) -> None:
    """What one key uses, no other lacks."""
    limiter = one_a_second(2)
    assert [limiter.acquire_nowait("a").allowed for _ in range(3)] == [True, True, False]
    assert limiter.acquire_nowait("b", 2).remaining == 0
    assert limiter.acquire_nowait("a").retry_after == 1.0
    await trio.sleep(1)
    assert limiter.acquire_nowait("a").allowed
    assert limiter.acquire_nowait(None).allowed
    assert limiter.acquire_nowait(("a", 1)).allowed
    assert len(limiter) == 4


@pytest.mark.parametrize("cost", [0, -1, 1.5, True, math.nan])
async def test_keyed_cost_that_means_nothing(cost: Any) -> None:
    """It raises by name, and the key is not remembered."""
    limiter = one_a_second()
    with pytest.raises(ValueError, match="cost"):
        limiter.acquire_nowait("a", cost)
    with pytest.raises(ValueError, match="cost"):
        limiter.reserve("a", cost)
    with pytest.raises(ValueError, match="cost"):
        await limiter.acquire("a", cost)
    with pytest.raises(ValueError, match="timeout"):
        await limiter.acquire("a", timeout=-1)
    with pytest.raises(ValueError, match="timeout"):
        limiter.reserve("a", timeout=math.nan)
    assert len(limiter) == 0


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"max_keys": 0}, "max_keys"), ({"max_keys": 1.5}, "max_keys"),
        ({"max_wait": -1}, "max_wait"), ({"max_waiting": -1}, "max_waiting"),
    ],
)  # fmt: skip
def test_keyed_parameters_that_mean_nothing(options: dict[str, Any], name: str) -> None:
    """They raise at construction, and the message names the parameter."""
    with pytest.raises(ValueError, match=name):
        one_a_second(**options)


async def test_keyed_cost_that_never_passes() -> None:
    """It is refused for ever, waits for nothing, and leaves no trace of the key."""
    limiter = one_a_second(2)
    assert limiter.acquire_nowait("a", 3).retry_after == math.inf
    for attempt in (limiter.acquire("a", 3), limiter.acquire("a", 3, timeout=math.inf)):
        with pytest.raises(RateLimited) as refusal:
            await attempt
        assert refusal.value.retry_after is None
    assert len(limiter) == 0
    with pytest.raises(RateLimited):
        limiter.reserve("a", 3)
    assert limiter._accounts == {}
    assert limiter.statistics().refused == 4


async def test_keyed_exempt_keys_always_pass(autojump_clock: Clock) -> None:
    """They cost nobody anything, are not remembered, and are counted apart."""
    limiter = one_a_second(exempt=["health", "admin"])
    decisions = [limiter.acquire_nowait("admin", 5) for _ in range(3)]
    assert all(decision.allowed for decision in decisions)
    decision = await limiter.acquire("health", 9)
    assert (decision.remaining, decision.limit, decision.window) == (1, 1, 1.0)
    assert (decision.retry_after, decision.reset_after) == (0.0, 0.0)
    assert limiter.reserve("health", 7).wait == 0
    assert (await limiter.reserve("health", 7)).allowed
    assert await limiter.for_key("admin").call(answer, 1) == 1
    assert len(limiter) == 0
    assert limiter.acquire_nowait("somebody").allowed
    statistics = limiter.statistics()
    assert (statistics.exempted, statistics.allowed, statistics.refused) == (7, 1, 0)


async def test_keyed_statistics_and_events(autojump_clock: Clock) -> None:
    """Everything that is held and was counted, and a record with the key for each refusal."""
    heard: list[RateLimitRefused] = []
    limiter = one_a_second(max_keys=7, listeners=[heard.append], exempt=["x"])
    limiter.acquire_nowait("a")
    limiter.acquire_nowait("x")
    refused = limiter.acquire_nowait("a")
    limiter.reserve("a")
    limiter.reserve("a").cancel()
    limiter.acquire_nowait("b")
    assert limiter.statistics() == KeyedRateLimiterStatistics(
        name="users", keys=2, max_keys=7, forgotten=0, allowed=2, refused=1, exempted=1,
        turned_away=0, waiting=1, given_back=1, shadow=False,
    )  # fmt: skip
    now = trio.current_time()
    assert heard == [RateLimitRefused("users", "a", 1, "rate_limited", refused, False, now)]
    await trio.sleep(1)
    assert limiter.statistics().waiting == 0
    assert limiter.statistics().allowed == 3


async def test_keyed_shadow_lets_pass_and_counts(autojump_clock: Clock) -> None:
    """Also new keys that there is no room for; all of it is counted and told."""
    heard: list[RateLimitRefused] = []
    limiter = one_a_second(max_keys=1, shadow=True, listeners=[heard.append], max_wait=9.0)
    start = trio.current_time()
    for key in ("a", "a", "b"):
        assert limiter.acquire_nowait(key).allowed
    assert (await limiter.acquire("a")).allowed
    assert await limiter.for_key("b").call(answer, 3) == 3
    assert (await limiter.reserve("b")).allowed
    assert (await limiter.reserve("a")).allowed
    assert trio.current_time() == start
    assert [record.key for record in heard] == ["a", "b", "a", "b", "b", "a"]
    assert all(record.shadow and not record.decision.allowed for record in heard)
    statistics = limiter.statistics()
    assert (statistics.allowed, statistics.refused, statistics.turned_away) == (1, 6, 3)
    assert statistics.shadow


# --- waiting -------------------------------------------------------------------------------------


async def test_keyed_acquire_waits_in_its_keys_line(autojump_clock: Clock) -> None:
    """First come first served within a key; other keys do not wait for it."""
    limiter = one_a_second(max_waiting=2)
    for key in "ab":
        limiter.acquire_nowait(key)
    start = trio.current_time()
    went: list[tuple[str, int, float]] = []

    async def want(key: str, number: int) -> None:
        await limiter.acquire(key)
        went.append((key, number, trio.current_time() - start))

    async with trio.open_nursery() as nursery:
        for number in range(2):
            for key in "ab":
                nursery.start_soon(want, key, number)
                await trio.testing.wait_all_tasks_blocked()
        assert limiter.statistics().waiting == 4
        with pytest.raises(RateLimited):
            await limiter.acquire("a")
        assert not limiter.acquire_nowait("b").allowed
        assert limiter.acquire_nowait("c").allowed
        with trio.move_on_after(1), pytest.raises(DeadlineUnreachable):
            await limiter.acquire("c")
    assert sorted(went) == [("a", 0, 1.0), ("a", 1, 2.0), ("b", 0, 1.0), ("b", 1, 2.0)]
    assert limiter._accounts == {}
    assert not limiter.acquire_nowait("a").allowed
    await trio.sleep(1)
    assert limiter.acquire_nowait("a").allowed


async def test_keyed_reservations(autojump_clock: Clock) -> None:
    """For a new key at once; then for later; given back, those behind move up."""
    limiter = one_a_second()
    assert limiter.reserve("a").wait == 0
    first, second = limiter.reserve("a"), limiter.reserve("a")
    assert (first.wait, second.wait) == (1, 2)
    assert first.cancel()
    assert second.wait == 1
    with pytest.raises(RateLimited):
        limiter.reserve("a", timeout=1.5)
    await second
    assert limiter._accounts == {}
    assert not limiter.acquire_nowait("a").allowed
    limiter.reserve("a")
    await trio.sleep(3)
    assert limiter.acquire_nowait("a").allowed
    assert limiter._accounts == {}
    assert limiter.statistics().allowed == 4


async def test_keyed_limiter_is_at_rest_wherever_it_was_cancelled(autojump_clock: Clock) -> None:
    """No line is left, and a call that did not go has used nothing."""

    async def scenario(point: CancellationPoint) -> None:
        limiter = one_a_second(max_wait=5.0)
        limiter.acquire_nowait("a")
        went = 0
        with point:
            await limiter.acquire("a")
            went = 1
            async with limiter.for_key("a"):
                went = 2
            await limiter.reserve("a")
            went = 3
        assert limiter.statistics().waiting == 0
        assert limiter.statistics().allowed == 1 + went
        assert limiter._accounts == {}
        await trio.sleep(1)
        assert limiter.acquire_nowait("a").allowed

    assert await sweep_cancellations(scenario) >= 6


async def test_key_policy_is_bound_to_its_key(autojump_clock: Clock) -> None:
    """Call, block and decorator use the key's quota and nobody else's."""
    limiter = one_a_second()
    policy = limiter.for_key("a")
    assert (policy.name, policy.kind, policy.max_wait) == ("users[a]", Kind.RATE_LIMIT, 0.0)
    assert policy.statistics() == KeyStatistics("users", "a", 1, 1.0, remaining=1, waiting=0)
    assert await policy(answer)(3) == 3
    with pytest.raises(RateLimited, match="users for 'a' allows 1 per 1 seconds") as refusal:
        await policy.call(answer, 3)
    assert refusal.value.retry_after == 1.0
    with pytest.raises(RateLimited):
        async with policy:
            raise AssertionError
    assert policy.statistics().remaining == 0
    async with limiter.for_key("b") as decision:
        assert decision.allowed
    with trio.CancelScope() as scope:
        scope.cancel()
        await limiter.for_key("c").call(answer, 1)
    assert scope.cancelled_caught
    await trio.sleep(1)
    assert policy.statistics().remaining == 1
    limiter.reserve("a")
    limiter.reserve("a")
    assert (policy.statistics().remaining, policy.statistics().waiting) == (0, 1)
    await trio.sleep(2)
    assert (policy.statistics().remaining, policy.statistics().waiting) == (1, 0)


async def test_key_policy_waits_with_the_limiters_wait(autojump_clock: Clock) -> None:
    """Up to `max_wait`; of a pacing rule, as long as its bucket holds."""
    limiter = KeyedRateLimiter(LeakyBucket(rate=2, capacity=3, pacing=True))
    policy = limiter.for_key("a")
    assert policy.max_wait == 1.5
    start = trio.current_time()
    for _ in range(3):
        await policy.call(answer, 1)
    assert trio.current_time() == start + 1


# --- which keys are remembered -------------------------------------------------------------------


async def test_full_of_debt_refuses_new_keys_until_one_is_at_rest(autojump_clock: Clock) -> None:
    """Known keys go on; a new one is told when the first of them may be at rest."""
    limiter = KeyedRateLimiter(TokenBucket(rate=0.001, capacity=2), max_keys=3)
    for key in range(3):
        assert limiter.acquire_nowait(key).allowed
        await trio.sleep(10)
    refused = limiter.acquire_nowait(99)
    assert (refused.allowed, refused.remaining, refused.limit) == (False, 0, 2)
    assert 970 <= refused.retry_after <= 970 + limiter._order.width
    assert refused.reset_after == refused.retry_after
    for attempt in (limiter.acquire(99), limiter.acquire(99, timeout=math.inf)):
        with pytest.raises(RateLimited) as refusal:
            await attempt
        assert refusal.value.retry_after == refused.retry_after
    with pytest.raises(RateLimited):
        limiter.reserve(99)
    assert limiter.acquire_nowait(2).allowed
    assert len(limiter) == 3
    statistics = limiter.statistics()
    assert (statistics.turned_away, statistics.refused, statistics.forgotten) == (4, 4, 0)
    await trio.sleep(refused.retry_after)
    assert limiter.acquire_nowait(99).allowed
    assert len(limiter) == 3
    assert limiter.statistics().forgotten == 1


async def test_full_of_keys_that_were_used_again_looks_on(autojump_clock: Clock) -> None:
    """Keys that only look at rest cost a bounded search, and one that is at rest is found."""
    limiter = KeyedRateLimiter(TokenBucket(rate=1, capacity=4096), max_keys=200)
    for key in range(200):
        limiter.acquire_nowait(key)
    for key in range(1, 200):
        limiter.acquire_nowait(key, 99)
    await trio.sleep(3)
    tries = 1
    while not (decision := limiter.acquire_nowait(1000)).allowed:
        assert decision.retry_after > 0
        tries += 1
    assert tries <= 4
    assert limiter.acquire_nowait(1).remaining < 4096 - 90
    assert limiter.statistics().forgotten == 1


async def test_keys_at_rest_go_as_new_ones_come(autojump_clock: Clock) -> None:
    """Long before it is full, a limiter forgets faster than it learns."""
    limiter = one_a_second()
    for key in range(100):
        limiter.acquire_nowait(key)
    await trio.sleep(2)
    for key in range(100, 130):
        limiter.acquire_nowait(key)
    assert len(limiter) == 30
    assert limiter.statistics().forgotten == 100


async def test_key_with_somebody_in_line_is_not_forgotten(autojump_clock: Clock) -> None:
    """Nor is what it owes lost, when its line ends without anybody looking."""
    limiter = one_a_second()
    limiter.acquire_nowait("a")
    reservations = [limiter.reserve("a") for _ in range(30)]
    for key in range(20):
        await trio.sleep(1)
        limiter.acquire_nowait(key)
    assert limiter.statistics().waiting == 10
    await trio.sleep(10)
    for key in range(100, 120):
        limiter.acquire_nowait(key)
    assert limiter._accounts == {}
    assert not limiter.acquire_nowait("a").allowed
    assert not reservations[0].cancel()
    await trio.sleep(3)
    for key in range(200, 250):
        limiter.acquire_nowait(key)
    assert limiter.acquire_nowait("a").allowed


KEYED: list[Rule[Any]] = [
    TokenBucket(rate=1, capacity=3),
    FixedWindow(limit=2, seconds=4),
    SlidingWindow(limit=2, seconds=4),
    SlidingLog(limit=2, seconds=4),
]


@settings(max_examples=60, deadline=None)
@given(
    rule=st.sampled_from(KEYED),
    max_keys=st.integers(1, 4),
    steps=st.lists(
        st.tuples(st.integers(0, 8), st.integers(1, 3), st.integers(0, 12)), max_size=60
    ),
)
def test_keyed_limiter_forgets_no_debt(
    rule: Rule[Any], max_keys: int, steps: list[tuple[int, int, int]]
) -> None:
    """Each key is decided as by a limiter that never forgets, unless there is no room for it.

    There is room unless `max_keys` others are in debt, or have been within a bucket's width.
    """

    async def scenario() -> None:
        limiter = KeyedRateLimiter(rule, max_keys=max_keys)
        states: dict[int, Any] = {}
        for key, cost, eighths in steps:
            now = trio.current_time()
            turned_away = limiter.statistics().turned_away
            state = states.get(key, rule.initial())
            after, expected = rule.decide(state, now, cost)
            decision = limiter.acquire_nowait(key, cost)
            if limiter.statistics().turned_away > turned_away:
                fresh = now - limiter._order.width
                owing = [other for other in states if rule.rests_at(states[other]) > fresh]
                assert len(owing) >= max_keys
                assert not decision.allowed
                assert 0 < decision.retry_after <= rule.longest_debt + limiter._order.width + 1e-9
            else:
                assert (decision.allowed, decision.remaining) == (
                    expected.allowed,
                    expected.remaining,
                )
                states[key] = after
            assert len(limiter) <= max_keys
            await trio.sleep(eighths / 8)

    trio.run(scenario, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_keyed_limiter_takes_little_space() -> None:
    """At 100,000 keys, at most 300 bytes each beyond the key itself."""
    keys = [f"user-{number}" for number in range(100_000)]
    limiter = KeyedRateLimiter(TokenBucket(rate=0.01, capacity=10))
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for key in keys:
            limiter.acquire_nowait(key)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(limiter) == 100_000
    assert (after - before) / len(keys) <= 300
