"""Listeners that do the worst: interrupt what they are told of, or come in while they are told."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bulkhead_trio import (
    AdaptiveBulkhead,
    Bulkhead,
    BulkheadEntered,
    BulkheadResized,
    UtilisationTarget,
)
from bulkhead_trio.policies.bulkhead import BulkheadEvent


def interrupt(event: BulkheadEvent) -> None:
    """As Ctrl+C may, wherever the program is."""
    if isinstance(event, BulkheadEntered):
        raise KeyboardInterrupt


async def test_permit_of_who_is_interrupted_on_entering_comes_back() -> None:
    """Each way in, when a permit is free."""
    bulkhead = Bulkhead("test", 1, listeners=[interrupt])
    with pytest.raises(KeyboardInterrupt):
        await bulkhead.call(trio.sleep, 0)
    with pytest.raises(KeyboardInterrupt):
        async with bulkhead:
            raise AssertionError("nobody comes in")
    with pytest.raises(KeyboardInterrupt):
        bulkhead.acquire_nowait()
    permit = bulkhead.acquire()
    with pytest.raises(KeyboardInterrupt):
        await permit
    found = bulkhead.statistics()
    assert (found.active, found.completed, found.refused) == (0, 4, 0)
    assert not bulkhead._entries._stacks


async def test_permit_of_who_is_interrupted_after_waiting_goes_on(
    autojump_clock: MockClock,
) -> None:
    """Whoever is behind in the line gets it."""
    told: list[float] = []

    def interrupt_the_second(event: BulkheadEvent) -> None:
        if isinstance(event, BulkheadEntered):
            told.append(event.waited)
            if len(told) == 2:
                raise KeyboardInterrupt

    bulkhead = Bulkhead("test", 1, max_wait=9, listeners=[interrupt_the_second])

    async def be_interrupted() -> None:
        with pytest.raises(KeyboardInterrupt):
            await bulkhead.call(trio.sleep, 5)

    async with trio.open_nursery() as nursery:
        with bulkhead.acquire_nowait():
            nursery.start_soon(be_interrupted)
            await wait_all_tasks_blocked()
            nursery.start_soon(bulkhead.call, trio.sleep, 1)
            await trio.sleep(1)
    assert told == [0, 1, 1]
    found = bulkhead.statistics()
    assert (found.active, found.queued, found.completed) == (0, 0, 3)


async def test_adaptive_resize_stands_when_a_listener_comes_in() -> None:
    """Who comes in while it is told of the new limit finds it, and so does everybody after."""
    seen: list[int] = []

    def come_in(event: BulkheadEvent) -> None:
        if isinstance(event, BulkheadResized):
            bulkhead.acquire_nowait().release()
            seen.append(bulkhead.max_concurrent)

    bulkhead = AdaptiveBulkhead("test", UtilisationTarget(), initial=20, listeners=[come_in])
    bulkhead.resize(50)
    assert seen == [50]
    assert bulkhead.max_concurrent == bulkhead.adjust() == 50
