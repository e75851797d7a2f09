"""The compartment with other lines than the plain one, and as a policy."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from bulkhead_trio.errors import BulkheadFull, DeadlineUnreachable, Rejected, Shed
from bulkhead_trio.policies.compartment import Compartment, Slot
from bulkhead_trio.policies.context import request_context
from bulkhead_trio.policies.policy import Kind
from bulkhead_trio.policies.queue import (
    BoundedQueue,
    FairQueue,
    Priority,
    PriorityQueue,
    WaitingLine,
)
from bulkhead_trio.testing import CancellationPoint, sweep_cancellations
from tests.policies.test_compartment import running

LINES: list[Callable[[int], WaitingLine[Slot]]] = [BoundedQueue, PriorityQueue, FairQueue]

of_each_line = pytest.mark.parametrize("line", LINES)


async def test_compartment_is_a_policy(autojump_clock: trio.testing.MockClock) -> None:
    """By call, as a decorator and as a block, by many tasks at once and nested."""
    async with running(Compartment("test", workers=2, queue=4)) as compartment:
        assert (compartment.name, compartment.kind) == ("test", Kind.BULKHEAD)

        @compartment
        async def decorated(value: int, *, more: int) -> int:
            async with compartment as slot:
                assert isinstance(slot, Slot)
                assert compartment.statistics().active == 2
            return value + more

        assert await decorated(1, more=2) == 3
        began = trio.current_time()

        async def block() -> None:
            async with compartment:
                await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(block)
        assert trio.current_time() - began == pytest.approx(3)
        with pytest.raises(OSError, match="out of it"):
            async with compartment:
                raise OSError("out of it")
        assert compartment.statistics().completed == 9


async def test_compartment_serves_the_urgent_first(autojump_clock: trio.testing.MockClock) -> None:
    """With a priority line: by what is said, or by what the request says."""
    order: list[str] = []

    async def caller(name: str, priority: int | None) -> None:
        with await compartment.acquire(priority=priority):
            order.append(name)
            await trio.sleep(1)

    compartment = Compartment("test", workers=1, queue=PriorityQueue(10))
    async with running(compartment), trio.open_nursery() as nursery:
        nursery.start_soon(compartment.call, trio.sleep, 1)
        await trio.testing.wait_all_tasks_blocked()
        for name, priority in (("low", Priority.LOW), ("ordinary", None), ("high", Priority.HIGH)):
            nursery.start_soon(caller, name, priority)
            await trio.testing.wait_all_tasks_blocked()
        with request_context(priority=Priority.HIGH):
            nursery.start_soon(caller, "of the request", None)
    assert order == ["high", "of the request", "ordinary", "low"]


async def test_compartment_displaced_caller_is_shed(autojump_clock: trio.testing.MockClock) -> None:
    """A more urgent caller gets the place; its owner is told how long the line would take."""
    outcomes: list[str] = []

    async def caller(name: str, priority: int) -> None:
        try:
            with await compartment.acquire(priority=priority):
                await trio.sleep(2)
        except Rejected as refusal:
            outcomes.append(f"{name}: {type(refusal).__name__}, {refusal.retry_after:g} s")
        else:
            outcomes.append(f"{name}: served")

    compartment = Compartment("test", workers=1, queue=PriorityQueue(2))
    async with running(compartment):
        await compartment.call(trio.sleep, 2)
        async with trio.open_nursery() as nursery:
            for name, priority in (("first", 1), ("a", 1), ("b", 2), ("c", 0), ("d", 2)):
                nursery.start_soon(caller, name, priority)
                await trio.testing.wait_all_tasks_blocked()
        # One leaves every two seconds. Behind the line of two, that is the third departure.
        assert outcomes[:2] == ["b: Shed, 6 s", "d: BulkheadFull, 6 s"]
        assert sorted(outcomes[2:]) == ["a: served", "c: served", "first: served"]
        assert compartment.statistics().refused == 2


async def test_compartment_is_fair_among_tenants(autojump_clock: trio.testing.MockClock) -> None:
    """With a fair line: one tenant's many wait for each other, not another's one for them all."""
    order: list[str] = []

    async def caller(key: str | None) -> None:
        with await compartment.acquire(key=key):
            order.append(key or "of the request")
            await trio.sleep(1)

    compartment = Compartment("test", workers=1, queue=FairQueue(10))
    async with running(compartment), trio.open_nursery() as nursery:
        nursery.start_soon(compartment.call, trio.sleep, 1)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(5):
            nursery.start_soon(caller, "greedy")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(BulkheadFull):
            await compartment.acquire(key="greedy")
        with request_context(tenant="modest"):
            nursery.start_soon(caller, None)
    assert order == ["greedy", "of the request", *["greedy"] * 4]


async def test_compartment_predicts_by_the_place_in_line(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A deadline that is hopeless behind the line is not for who goes before it."""
    compartment = Compartment("test", workers=1, queue=PriorityQueue(10))
    async with running(compartment):
        assert compartment.predicted_wait() == 0
        await compartment.call(trio.sleep, 1)
        assert compartment.predicted_wait() == 0  # a worker is free, however long work takes
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(compartment.call, trio.sleep, 1)
            await trio.testing.wait_all_tasks_blocked()
            assert compartment.predicted_wait(priority=Priority.LOW) == pytest.approx(5)
            assert compartment.predicted_wait(priority=Priority.HIGH) == pytest.approx(1)
            with trio.fail_after(2.5):
                with pytest.raises(DeadlineUnreachable):
                    await compartment.acquire()
                with await compartment.acquire(priority=Priority.HIGH):
                    pass


@of_each_line
@pytest.mark.parametrize("is_busy", [False, True])
async def test_compartment_cancelled_at_every_checkpoint_is_at_rest(
    autojump_clock: trio.testing.MockClock,
    line: Callable[[int], WaitingLine[Slot]],
    is_busy: bool,
) -> None:
    """At the door, in line, handed a worker or at work: a cancelled caller leaves nothing."""

    async def scenario(point: CancellationPoint) -> None:
        async with running(Compartment("test", workers=1, queue=line(2))) as compartment:
            async with trio.open_nursery() as nursery:
                if is_busy:
                    nursery.start_soon(compartment.call, trio.sleep, 1)
                    await trio.testing.wait_all_tasks_blocked()
                with point:
                    async with compartment:
                        await trio.sleep(1)
            with await compartment.acquire():
                assert compartment.statistics().active == 1

    assert await sweep_cancellations(scenario) >= 2 + is_busy


@of_each_line
async def test_compartment_of_any_line_sheds_when_it_ends(
    autojump_clock: trio.testing.MockClock, line: Callable[[int], WaitingLine[Slot]]
) -> None:
    """Whatever they stand in: when the supervisor is gone nobody is left waiting for it."""
    compartment = Compartment("test", workers=1, queue=line(4))
    shed: list[Shed] = []

    async def caller() -> None:
        with pytest.raises(Shed) as caught:
            await compartment.acquire()
        shed.append(caught.value)

    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as owner:
            await owner.start(compartment.run)
            slot = await compartment.acquire()
            for _ in range(2):
                nursery.start_soon(caller)
            await trio.testing.wait_all_tasks_blocked()
            owner.cancel_scope.cancel()
    with slot:
        assert [reason.retry_after for reason in shed] == [0, 0]
    assert compartment.statistics().active == 0
