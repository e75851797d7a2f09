"""The cancellation sweep itself: it must find what it is for."""

from __future__ import annotations

import pytest
import trio

from bulkhead_trio.testing import CancellationPoint, sweep_cancellations


async def test_sweep_visits_every_checkpoint_once_in_each_way() -> None:
    """A block of three checkpoints is cancelled at each of them, and once runs to its end."""
    ends: list[int] = []

    async def scenario(point: CancellationPoint) -> None:
        steps = 0
        with point:
            for _ in range(3):
                await trio.lowlevel.checkpoint()
                steps += 1
        ends.append(steps)

    await sweep_cancellations(scenario)
    parked, entering = ends[:4], ends[4:]
    assert parked == [0, 1, 2, 3]
    # Trio's own checkpoint looks for a cancellation on the way out as well, so two of these fall
    # on the first one.
    assert sorted(set(entering)) == [0, 1, 2, 3]


async def test_sweep_finds_what_leaks_on_cancellation() -> None:
    """A counter that is not put back when its holder is cancelled is noticed."""
    limiter = trio.CapacityLimiter(1)

    async def leaky() -> None:
        holder = object()
        await limiter.acquire_on_behalf_of(holder)
        await trio.lowlevel.checkpoint()
        limiter.release_on_behalf_of(holder)

    async def scenario(point: CancellationPoint) -> None:
        with point:
            await leaky()
        assert limiter.borrowed_tokens == 0

    with pytest.raises(AssertionError):
        await sweep_cancellations(scenario)
