"""When a compartment's supervisor comes back, and what is said of that meanwhile."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from bulkhead_trio.errors import Shed
from bulkhead_trio.policies.compartment import Compartment
from tests.policies.test_compartment import ExplodingQueue, running


async def crash(compartment: Compartment) -> None:
    """Have the supervisor hand somebody on, which breaks it."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(compartment.call, trio.sleep, 0)
        await trio.testing.wait_all_tasks_blocked()
        slot = await compartment.acquire()
        nursery.start_soon(wait_in_vain, compartment)
        await trio.testing.wait_all_tasks_blocked()
        with slot:
            pass


async def wait_in_vain(compartment: Compartment) -> None:
    with pytest.raises(Shed):
        await compartment.acquire()


async def test_compartment_says_when_its_supervisor_comes_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What remains of the restart delay, not all of it; nothing where no restart is due."""
    await trio.sleep(1_000)
    compartment = Compartment("test", workers=1, queue=ExplodingQueue(5, bombs=1))
    with await compartment.acquire():
        with pytest.raises(Shed) as caught:
            await compartment.acquire()
    assert caught.value.retry_after == 0
    async with running(compartment):
        await crash(compartment)
        await trio.sleep(0.04)
        with await compartment.acquire():
            with pytest.raises(Shed) as caught:
                await compartment.acquire()
            assert caught.value.retry_after == pytest.approx(0.06)
        await trio.sleep(0.07)
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(compartment.call, trio.sleep, 1)


async def test_compartment_forgives_crashes_after_a_steady_minute(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A supervisor that lived for a minute is restarted as after a first crash; no other is."""
    delays: list[float] = []
    compartment = Compartment(
        "test",
        workers=1,
        queue=ExplodingQueue(5, bombs=4),
        listeners=[lambda event: delays.append(event.restart_in)],
    )
    async with running(compartment):
        lives = [100.0, 59.9, 60.0, 1.0]
        for life, delay in zip(lives, [0.1, 0.2, 0.1, 0.2], strict=True):
            await trio.sleep(life)
            await crash(compartment)
            await trio.sleep(delay)
            await trio.testing.wait_all_tasks_blocked()
    assert delays == [0.1, 0.2, 0.1, 0.2]
