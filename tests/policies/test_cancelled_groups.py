"""A group with a cancellation in it is the cancellation: it counts nowhere, nobody answers it."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from bulkhead_trio import (
    AIMD,
    AdaptiveBulkhead,
    CircuitBreaker,
    Consecutive,
    Fallback,
    Policy,
    Retry,
    Throttle,
)


async def fail_when_cancelled() -> None:
    """Ends with a group of a cancellation and an error of what was cut off."""

    async def clean_up_badly() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise TimeoutError

    async with trio.open_nursery() as nursery:
        nursery.start_soon(clean_up_badly)
        await trio.sleep_forever()


async def cut_off(policy: Policy) -> BaseExceptionGroup[BaseException] | None:
    """What is left of the group when the cancellation has been caught."""
    try:
        with trio.move_on_after(1):
            await policy.call(fail_when_cancelled)
    except BaseExceptionGroup as error:
        return error
    return None


async def test_breaker_ignores_a_group_with_a_cancellation(autojump_clock: MockClock) -> None:
    """Neither a failure nor a success."""
    breaker = CircuitBreaker("test", window=Consecutive(1))
    assert await cut_off(breaker) is not None
    found = breaker.statistics()
    assert (found.failures, found.succeeded, found.failed, found.ignored) == (0, 0, 0, 1)


async def test_retry_does_not_try_again_after_a_group_with_a_cancellation(
    autojump_clock: MockClock,
) -> None:
    """The call was cancelled, whatever else went wrong."""
    retry = Retry(3, base_delay=0)
    assert await cut_off(retry) is not None
    found = retry.statistics()
    assert (found.tries, found.cancelled, sum(found.gave_up.values())) == (1, 1, 0)


async def test_fallback_does_not_answer_a_group_with_a_cancellation(
    autojump_clock: MockClock,
) -> None:
    """Who has been cancelled wants no answer."""
    fallback = Fallback("answer")
    assert await cut_off(fallback) is not None
    found = fallback.statistics()
    assert (found.fell_back, found.failed, found.cancelled) == (0, 0, 1)


async def test_throttle_does_not_count_a_group_with_a_cancellation(
    autojump_clock: MockClock,
) -> None:
    """Neither accepted nor rejected, by `call` and by ``async with``."""
    throttle = Throttle(rejected_on=TimeoutError)
    assert await cut_off(throttle) is not None
    try:
        with trio.move_on_after(1):
            async with throttle:
                await fail_when_cancelled()
    except BaseExceptionGroup:
        pass
    found = throttle.statistics()
    assert (found.requests, found.accepted, found.rejected) == (0, 0, 0)


async def test_adaptive_bulkhead_does_not_learn_from_a_group_with_a_cancellation(
    autojump_clock: MockClock,
) -> None:
    """How long it took says nothing, and it is no sign of overload."""
    bulkhead = AdaptiveBulkhead("test", AIMD())
    assert await cut_off(bulkhead) is not None
    found = bulkhead.statistics()
    assert (found.active, found.completed, found.sampled, found.dropped) == (0, 1, 0, 0)
