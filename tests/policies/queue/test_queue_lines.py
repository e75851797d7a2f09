"""What holds for every waiting line, whoever is next in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from bulkhead_trio.errors import BulkheadFull, Rejected, Shed
from bulkhead_trio.policies.queue import (
    BoundedQueue,
    FairQueue,
    PriorityQueue,
    QueueStatistics,
    TicketLine,
    WaitingLine,
)
from bulkhead_trio.testing import CancellationPoint, sweep_cancellations


def fair(places: int) -> FairQueue[str]:
    return FairQueue(places, reserved_share=0)


LINES: list[Callable[[int], WaitingLine[str]]] = [BoundedQueue, PriorityQueue, fair]
TICKET_LINES: list[Callable[[int], TicketLine[str]]] = [PriorityQueue, fair]

of_each_line = pytest.mark.parametrize("make", LINES, ids=["bounded", "priority", "fair"])
of_each_ticket_line = pytest.mark.parametrize("make", TICKET_LINES, ids=["priority", "fair"])


@of_each_line
async def test_line_lets_its_waiters_go_in_order(
    make: Callable[[int], WaitingLine[str]], autojump_clock: trio.testing.MockClock
) -> None:
    """Among equals who came first is taken first; who is taken goes on, and nobody else."""
    line = make(3)
    gone: list[str] = []

    async def waiter(name: str) -> None:
        await line.put(name)
        gone.append(name)

    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(waiter, name)
            await trio.testing.wait_all_tasks_blocked()
        assert (len(line), line.ahead(), line.has_room()) == (3, 3, False)
        for number, name in enumerate("abc"):
            assert line.take_nowait() == name
            assert len(line) == 2 - number
            await trio.testing.wait_all_tasks_blocked()
            assert "".join(gone) == "abc"[: number + 1]
    with pytest.raises(trio.WouldBlock):
        line.take_nowait()
    assert line.statistics() == QueueStatistics(waiting=0, places=3, taken=3)


@of_each_line
async def test_line_refuses_beyond_its_places(
    make: Callable[[int], WaitingLine[str]], autojump_clock: trio.testing.MockClock
) -> None:
    """The last place can be had; the next caller is refused at once, and told what it was to."""
    line = make(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.put, "a")
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        with pytest.raises(BulkheadFull) as caught:
            await line.put("b", retry_after=7.5)
        assert caught.value.retry_after == 7.5
        assert trio.current_time() == began
        assert line.statistics() == QueueStatistics(waiting=1, places=1, refused=1)
        line.take_nowait()


@of_each_line
async def test_line_without_places_refuses_everybody(
    make: Callable[[int], WaitingLine[str]],
) -> None:
    """No places: nobody ever waits."""
    line = make(0)
    assert not line.has_room()
    assert not line.has_room(priority=-1)
    with pytest.raises(BulkheadFull):
        await line.put("a", priority=-1)
    assert line.statistics() == QueueStatistics(waiting=0, places=0, refused=1)


@of_each_line
async def test_line_broken_off_sends_everybody_away(
    make: Callable[[int], WaitingLine[str]], autojump_clock: trio.testing.MockClock
) -> None:
    """Everybody gets `Shed` once, with when to come again; the line is empty and goes on."""
    await trio.sleep(5)
    line = make(3)
    told: list[float | None] = []

    async def waiter() -> None:
        with pytest.raises(Shed) as caught:
            await line.put("a")
        told.append(caught.value.retry_after)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(waiter)
        await trio.testing.wait_all_tasks_blocked()
        line.break_off(down_for=0.5)
        assert len(line) == 0
    assert told == [0.5] * 3
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.put, "b")
        await trio.testing.wait_all_tasks_blocked()
        assert line.take_nowait() == "b"
    assert line.statistics() == QueueStatistics(waiting=0, places=3, taken=1, shed=3)


@of_each_line
async def test_line_knows_since_when_somebody_waits(
    make: Callable[[int], WaitingLine[str]], autojump_clock: trio.testing.MockClock
) -> None:
    """Since the first of those came after whom it was never empty, whoever is in it now."""
    line = make(3)
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for seconds in (1, 2):
            nursery.start_soon(line.put, "a")
            await trio.sleep(1)
            assert line.nonempty_since - start == 0, seconds
        line.take_nowait()
        nursery.start_soon(line.put, "a")
        await trio.sleep(1)
        assert line.nonempty_since - start == 0
        line.take_nowait()
        line.take_nowait()
        nursery.start_soon(line.put, "a")
        await trio.sleep(1)
        assert line.nonempty_since - start == pytest.approx(3)
        line.take_nowait()


@of_each_line
async def test_line_cancelled_at_every_checkpoint_is_at_rest(
    make: Callable[[int], WaitingLine[str]], autojump_clock: trio.testing.MockClock
) -> None:
    """Wherever a waiter is cancelled it is gone, or it was taken: never both, never neither."""

    async def scenario(point: CancellationPoint) -> None:
        line = make(2)
        is_in = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(line.put, "first")
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(take_two, line)
            with point:
                await line.put("second")
                is_in = True
        assert line.statistics() == QueueStatistics(waiting=0, places=2, taken=1 + is_in)

    async def take_two(line: WaitingLine[str]) -> None:
        await trio.sleep(1)
        for name in ("first", "second")[: len(line)]:
            assert line.take_nowait() == name

    assert await sweep_cancellations(scenario) >= 1


@of_each_line
async def test_line_storm_of_cancellations_leaves_nothing(
    make: Callable[[int], WaitingLine[str]], autojump_clock: trio.testing.MockClock
) -> None:
    """Thousands who give up leave no entry behind, and the order of those who stay as it was."""
    line = make(300)
    gone: list[str] = []

    async def waiter(name: str) -> None:
        await line.put(name)
        gone.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiter, "a")
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(5):
            async with trio.open_nursery() as leaving:
                for _ in range(298):
                    leaving.start_soon(waiter, "leaves")
                await trio.testing.wait_all_tasks_blocked()
                assert len(line) == 299
                leaving.cancel_scope.cancel()
            assert len(line) == 1
        nursery.start_soon(waiter, "b")
        await trio.testing.wait_all_tasks_blocked()
        assert line.take_nowait() == "a"
        await trio.testing.wait_all_tasks_blocked()
        assert line.take_nowait() == "b"
    assert gone == ["a", "b"]


@of_each_line
def test_line_refuses_nonsense_places(make: Callable[[int], WaitingLine[str]]) -> None:
    """A negative number of places is refused by name."""
    with pytest.raises(ValueError, match="places"):
        make(-1)


# --- tickets: places that nobody stands in --------------------------------------------------------


@of_each_ticket_line
async def test_ticket_is_told_what_becomes_of_it(
    make: Callable[[int], TicketLine[str]],
) -> None:
    """Taken or dropped, its owner hears of it once, when it has left the line."""
    line = make(2)
    told: list[str] = []
    line.put_nowait("a", on_taken=lambda: told.append(f"taken, {len(line)} left"))
    ticket = line.put_nowait(
        "b", on_dropped=lambda reason: told.append(f"{reason.reason}, {len(line)} left")
    )
    assert line.take_nowait() == "a"
    states = [ticket.is_waiting]
    line.break_off(down_for=0)
    states.append(ticket.is_waiting)
    line.break_off(down_for=0)
    assert states == [True, False]
    assert told == ["taken, 1 left", "shed, 0 left"]


@of_each_ticket_line
async def test_ticket_withdrawn_is_told_nothing(make: Callable[[int], TicketLine[str]]) -> None:
    """A place can be given up once; what has left otherwise cannot be withdrawn any more."""
    line = make(3)
    told: list[str] = []

    a = line.put_nowait("a")
    b = line.put_nowait("b", on_dropped=lambda _: told.append("b"))
    c = line.put_nowait("c")
    assert line.withdraw(b)
    assert not line.withdraw(b)
    assert line.take_nowait() == "a"
    assert not line.withdraw(a)
    line.break_off(down_for=0)
    assert not line.withdraw(c)
    assert told == []
    assert line.statistics() == QueueStatistics(waiting=0, places=3, taken=1, shed=1)


@of_each_ticket_line
async def test_ticket_dropped_may_come_again_at_once(
    make: Callable[[int], TicketLine[str]],
) -> None:
    """Who queues again the moment it is sent away is not sent away again, and is not lost."""
    line = make(2)

    def again(_: Rejected) -> None:
        line.put_nowait("again", on_dropped=again)

    line.put_nowait("a", on_dropped=again)
    line.put_nowait("b", on_dropped=again)
    line.break_off(down_for=0)
    assert [line.take_nowait(), line.take_nowait()] == ["again", "again"]


@of_each_ticket_line
async def test_ticket_owner_that_raises_harms_nobody(
    make: Callable[[int], TicketLine[str]], caplog: pytest.LogCaptureFixture
) -> None:
    """What an owner raises on being dropped is logged, and the next one is told all the same."""
    line = make(2)
    told: list[Rejected] = []

    def broken(_: Rejected) -> None:
        raise OSError("no space left on device")

    line.put_nowait("a", on_dropped=broken)
    line.put_nowait("b", on_dropped=told.append)
    line.break_off(down_for=0)
    assert len(told) == 1
    assert "no space left" in caplog.text
