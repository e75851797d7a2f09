"""What is entered comes back, whoever leaves the block."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, AsyncIterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bulkhead_trio import BreakerState, Bulkhead, CircuitBreaker, Consecutive
from bulkhead_trio.policies._entries import Entries


async def test_entries_of_one_task_nest() -> None:
    """Left in the opposite order, and nothing is kept of a task that is done."""
    entries = Entries[int]()
    entries.push(1)
    entries.push(2)
    assert [entries.pop(), entries.pop()] == [2, 1]
    assert not entries._stacks
    with pytest.raises(RuntimeError, match="nobody"):
        entries.pop()


async def test_entries_of_tasks_do_not_mix(autojump_clock: MockClock) -> None:
    """Each task leaves what it has entered, whatever the others do meanwhile."""
    entries = Entries[int]()
    left: list[tuple[int, int]] = []

    async def visit(number: int) -> None:
        entries.push(number)
        await trio.sleep(10 - number)
        left.append((number, entries.pop()))

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(visit, number)
    assert sorted(left) == [(number, number) for number in range(5)]


async def test_entries_of_a_task_that_has_ended_come_first(autojump_clock: MockClock) -> None:
    """Somebody who clears up for the dead does not take from the living."""
    entries = Entries[str]()

    async def enter_and_end() -> None:
        entries.push("dead")

    async def enter_and_stay() -> None:
        entries.push("alive")
        await trio.sleep(10)
        assert entries.pop() == "alive"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(enter_and_stay)
        nursery.start_soon(enter_and_end)
        await wait_all_tasks_blocked()
        assert entries.pop() == "dead"


async def test_permit_of_a_generator_thrown_away_comes_back() -> None:
    """A block in an async generator that nobody finishes gives its permit back all the same."""
    bulkhead = Bulkhead("test", 1)
    breaker = CircuitBreaker("test", window=Consecutive(1))

    async def generator() -> AsyncIterator[int]:
        async with bulkhead, breaker:
            yield 1

    async def use() -> None:
        async for _ in generator():
            break

    with pytest.warns(ResourceWarning):  # noqa: PT031  it comes when Trio gets to it
        await use()
        gc.collect()
        await wait_all_tasks_blocked()
    assert bulkhead.statistics().active == 0
    assert breaker.statistics().failures == 0
    assert not breaker._entries._stacks


async def test_permit_of_a_generator_closed_by_another_task_comes_back(
    autojump_clock: MockClock,
) -> None:
    """Also while the task that entered it goes on; a breaker's probe ends with it."""
    bulkhead = Bulkhead("test", 1)
    breaker = CircuitBreaker("test", window=Consecutive(1), wait_in_open=1)
    with pytest.raises(OSError, match="down"):
        async with breaker:
            raise OSError("down")
    await trio.sleep(1)

    async def generator() -> AsyncGenerator[int, None]:
        async with bulkhead, breaker:
            yield 1

    generated = generator()
    await anext(generated)
    assert breaker.statistics().probes == 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(generated.aclose)
    assert (bulkhead.statistics().active, breaker.statistics().probes) == (0, 0)
    async with bulkhead, breaker:
        pass
    assert breaker.statistics().state is BreakerState.CLOSED
    assert not breaker._entries._stacks
