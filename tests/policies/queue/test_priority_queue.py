"""The priority queue: who has to go, and what it is told."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from bulkhead_trio.errors import BulkheadFull, Rejected, Shed
from bulkhead_trio.policies.context import request_context
from bulkhead_trio.policies.queue import Priority, PriorityQueue, QueueStatistics


def test_priorities_are_numbers_that_can_be_stored() -> None:
    """What a name stands for is kept in databases and configurations."""
    assert {each.name: int(each) for each in Priority} == {"HIGH": 0, "NORMAL": 1, "LOW": 2}


async def test_priority_queue_serves_the_urgent_first() -> None:
    """By priority, and within one by arrival; what says nothing is ordinary."""
    queue = PriorityQueue[str](10)
    queue.put_nowait("low", priority=Priority.LOW)
    queue.put_nowait("ordinary 1")
    queue.put_nowait("high", priority=Priority.HIGH)
    queue.put_nowait("ordinary 2", priority=Priority.NORMAL)
    queue.put_nowait("beyond", priority=-5)
    order = [queue.take_nowait() for _ in range(5)]
    assert order == ["beyond", "high", "ordinary 1", "ordinary 2", "low"]


async def test_priority_queue_full_makes_room_for_the_more_urgent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The newest of the least urgent loses its place, once; its owner gets `Shed`."""
    queue = PriorityQueue[str](3)
    outcomes: list[str] = []

    async def waiter(name: str, priority: int) -> None:
        try:
            await queue.put(name, priority=priority)
        except Rejected as refusal:
            outcomes.append(f"{name} {refusal.reason}")
        else:
            outcomes.append(f"{name} taken")

    async with trio.open_nursery() as nursery:
        for name, priority in [("low 1", 2), ("normal", 1), ("low 2", 2), ("high", 0)]:
            nursery.start_soon(waiter, name, priority)
            await trio.testing.wait_all_tasks_blocked()
        assert outcomes == ["low 2 shed"]
        assert not queue.has_room(priority=2)
        assert queue.has_room(priority=1)
        nursery.start_soon(waiter, "low 3", 2)  # as urgent as the least urgent: refused itself
        await trio.testing.wait_all_tasks_blocked()
        assert outcomes[1:] == ["low 3 bulkhead_full"]
        assert [queue.take_nowait() for _ in range(3)] == ["high", "normal", "low 1"]
    assert sorted(outcomes[2:]) == ["high taken", "low 1 taken", "normal taken"]
    assert queue.statistics() == QueueStatistics(waiting=0, places=3, taken=3, refused=1, shed=1)


@pytest.mark.parametrize(
    ("winner", "expected"),
    [(0, 8.0), (1, 4.0)],  # one departure takes 2 s; behind one more, 4 s are two departures
)
async def test_priority_queue_tells_the_displaced_how_long_the_line_is(
    winner: int, expected: float
) -> None:
    """From the winner's predicted wait follows the loser's: it would be behind the whole line."""
    queue = PriorityQueue[str](3)
    told: list[Rejected] = []
    queue.put_nowait("normal", priority=1)
    queue.put_nowait("low 1", priority=2)
    queue.put_nowait("low 2", priority=2, on_dropped=told.append)
    assert queue.ahead(priority=winner) == winner
    queue.put_nowait("winner", priority=winner, retry_after=2.0)
    assert [reason.retry_after for reason in told] == [expected]
    assert isinstance(told[0], Shed)


async def test_priority_queue_tells_the_displaced_nothing_it_does_not_know() -> None:
    """Without a predicted wait there is none to tell."""
    queue = PriorityQueue[str](1)
    told: list[Rejected] = []
    queue.put_nowait("low", priority=2, on_dropped=told.append)
    queue.put_nowait("high", priority=0)
    assert [reason.retry_after for reason in told] == [None]


async def test_priority_queue_displaced_owner_sees_the_line_as_it_is_now() -> None:
    """When the loser hears of it, the winner has its place: the line is full, and counts so."""
    queue = PriorityQueue[str](1)
    seen: list[QueueStatistics] = []
    ticket = queue.put_nowait(
        "low", priority=2, on_dropped=lambda _: seen.append(queue.statistics())
    )
    queue.put_nowait("high", priority=0)
    assert seen == [QueueStatistics(waiting=1, places=1, shed=1)]
    assert not ticket.is_waiting
    assert not queue.withdraw(ticket)
    assert queue.take_nowait() == "high"


async def test_priority_queue_takes_the_requests_priority() -> None:
    """What is not said comes from the request; what is said goes before it."""
    queue = PriorityQueue[str](2)
    queue.put_nowait("normal")
    queue.put_nowait("low", priority=Priority.LOW)
    with request_context(priority=Priority.NORMAL):
        assert queue.ahead() == 1
        queue.put_nowait("of the request")  # in place of the low one
    with request_context(priority=Priority.HIGH):
        assert queue.has_room()
        assert not queue.has_room(priority=Priority.LOW)
        with pytest.raises(BulkheadFull):
            queue.put_nowait("said", priority=Priority.NORMAL)
    assert [queue.take_nowait(), queue.take_nowait()] == ["normal", "of the request"]
