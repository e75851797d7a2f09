"""How many a pacing bucket serves does not depend on how its moments round."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from bulkhead_trio import KeyedRateLimiter, LeakyBucket, RateLimited, RateLimiter

UNEVEN = [(3, 10), (7, 20), (10, 10), (0.1, 7), (1 / 3, 30), (9, 100), (30, 50)]


@pytest.mark.parametrize(("rate", "capacity"), UNEVEN)
async def test_pacing_bucket_serves_one_and_a_bucketful(
    autojump_clock: MockClock, rate: float, capacity: int
) -> None:
    """One leaves at once, ``capacity`` wait, and the next is refused: at any rate."""
    await trio.sleep(0.123456)
    one = RateLimiter(LeakyBucket(rate=rate, capacity=capacity, pacing=True))
    many = KeyedRateLimiter(LeakyBucket(rate=rate, capacity=capacity, pacing=True), max_keys=1)
    served = refused = 0

    async def count(limiter: RateLimiter | KeyedRateLimiter) -> None:
        nonlocal served, refused
        try:
            await (limiter.acquire() if isinstance(limiter, RateLimiter) else limiter.acquire("k"))
            served += 1
        except RateLimited:
            refused += 1

    async with trio.open_nursery() as nursery:
        for _ in range(capacity + 3):
            nursery.start_soon(count, one)
            nursery.start_soon(count, many)
    assert (served, refused) == (2 * (capacity + 1), 2 * 2)


@given(
    rate=st.floats(0.01, 1000),
    capacity=st.integers(1, 40),
    start=st.floats(0, 1e6),
)
def test_pacing_bucket_reserves_one_and_a_bucketful(
    rate: float, capacity: int, start: float
) -> None:
    """Whatever the clock says to begin with."""

    async def main() -> int:
        await trio.sleep(start)
        limiter = RateLimiter(LeakyBucket(rate=rate, capacity=capacity, pacing=True))
        reserved = 0
        with pytest.raises(RateLimited):
            for _ in range(capacity + 3):
                limiter.reserve()
                reserved += 1
        return reserved

    assert trio.run(main, clock=MockClock(autojump_threshold=0)) == capacity + 1


async def test_pacing_bucket_keeps_to_a_longest_wait_that_was_given(
    autojump_clock: MockClock,
) -> None:
    """What somebody asks for is meant exactly."""
    limiter = RateLimiter(LeakyBucket(rate=1, capacity=9, pacing=True), max_wait=2)
    for _ in range(3):
        limiter.reserve()
    with pytest.raises(RateLimited):
        limiter.reserve()
    with pytest.raises(RateLimited):
        limiter.reserve(timeout=2.999)
    limiter.reserve(timeout=3)
