"""A client that makes up a new key for every request."""

from __future__ import annotations

import trio
import trio.testing

from bulkhead_trio.policies.rate import KeyedRateLimiter, TokenBucket


async def test_million_keys_made_up_stay_bounded(autojump_clock: trio.testing.MockClock) -> None:
    """A flood of keys that come once resets nobody, and takes no more space than was given."""
    limiter = KeyedRateLimiter(TokenBucket(rate=0.01, capacity=5), max_keys=2_000)
    while limiter.acquire_nowait(-1).allowed:
        pass
    allowed = 0
    for chunk in range(1_000):
        for number in range(1_000):
            allowed += limiter.acquire_nowait(1_000 * chunk + number).allowed
        assert len(limiter) <= 2_000
        assert not limiter.acquire_nowait(-1).allowed
        await trio.sleep(0.05)
    assert allowed == 1_999
    await trio.sleep(100)
    for number in range(-3_000, -1_001):
        assert limiter.acquire_nowait(number).allowed
    assert len(limiter) <= 2_000
