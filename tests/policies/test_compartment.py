"""The compartment: exact under refusal, waiting, deadlines, cancellation and crashes."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from bulkhead_trio.errors import BulkheadFull, DeadlineUnreachable, Shed
from bulkhead_trio.policies.compartment import Compartment, Slot, SupervisorCrashed
from bulkhead_trio.policies.queue import BoundedQueue, PriorityQueue


@asynccontextmanager
async def running(compartment: Compartment) -> AsyncIterator[Compartment]:
    """Supervise for the length of a block, and check that everything is back after it."""
    async with trio.open_nursery() as nursery:
        await nursery.start(compartment.run)
        yield compartment
        statistics = compartment.statistics()
        assert (statistics.active, statistics.queued) == (0, 0)
        nursery.cancel_scope.cancel()


def make(workers: int = 2, queue: int = 2) -> Compartment:
    return Compartment("test", workers=workers, queue=queue)


async def test_compartment_full_refuses_at_once(autojump_clock: trio.testing.MockClock) -> None:
    """With every worker busy and every place taken, the next caller is refused without waiting."""
    refused_at: list[float] = []
    began = trio.current_time()

    async def caller(compartment: Compartment) -> None:
        try:
            await compartment.call(trio.sleep, 1)
        except BulkheadFull:
            refused_at.append(trio.current_time() - began)

    async with running(make(workers=2, queue=2)) as compartment:
        async with trio.open_nursery() as nursery:
            for _ in range(7):
                nursery.start_soon(caller, compartment)
        assert refused_at == [0.0, 0.0, 0.0]
        assert trio.current_time() - began == pytest.approx(2.0)
        statistics = compartment.statistics()
        assert (statistics.completed, statistics.refused) == (4, 3)


async def test_compartment_retry_after_follows_the_drain_rate(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A refusal predicts the wait from observed service times: slower work, later retry."""
    predictions = {}
    for seconds in (1.0, 4.0):
        async with running(make(workers=2, queue=2)) as compartment:
            for _ in range(30):
                await compartment.call(trio.sleep, seconds)
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(compartment.call, trio.sleep, seconds)
                await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(BulkheadFull) as caught:
                    await compartment.acquire()
        predictions[seconds] = caught.value.retry_after
    # Three departures at two workers: one and a half service times.
    assert predictions == {1.0: pytest.approx(1.5), 4.0: pytest.approx(6.0)}


async def test_compartment_serves_in_order(autojump_clock: trio.testing.MockClock) -> None:
    """Waiting callers are served first come, first served, and nobody overtakes them."""
    order: list[int] = []

    async def caller(compartment: Compartment, number: int) -> None:
        with await compartment.acquire():
            order.append(number)
            await trio.sleep(1)

    async with running(make(workers=1, queue=10)) as compartment:
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(caller, compartment, number)
                await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(2.5)
            nursery.start_soon(caller, compartment, 8)
    assert order == list(range(9))


async def test_compartment_deadline_while_queued(autojump_clock: trio.testing.MockClock) -> None:
    """A caller whose deadline passes in the queue leaves it at that moment, its place free."""
    async with running(make(workers=1, queue=1)) as compartment:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(compartment.call, trio.sleep, 10)
            await trio.testing.wait_all_tasks_blocked()
            with trio.move_on_after(3) as scope:
                await compartment.acquire()
            assert scope.cancelled_caught
            assert trio.current_time() == pytest.approx(scope.deadline)
            assert compartment.statistics().queued == 0


async def test_compartment_deadline_while_running(autojump_clock: trio.testing.MockClock) -> None:
    """A deadline that passes in the work gives the worker back at that moment."""
    async with running(make(workers=1, queue=0)) as compartment:
        with trio.move_on_after(3) as scope:
            await compartment.call(trio.sleep, 10)
        assert scope.cancelled_caught
        assert compartment.statistics().active == 0


async def test_compartment_refuses_unreachable_deadline(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Whoever would die in the queue is refused at the door, and told how long it would take."""
    async with running(make(workers=1, queue=5)) as compartment:
        await compartment.call(trio.sleep, 4)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(compartment.call, trio.sleep, 4)
            await trio.testing.wait_all_tasks_blocked()
            began = trio.current_time()
            for seconds in (3, 7.9):  # not even its turn; its turn, but no time to work
                with trio.move_on_after(seconds), pytest.raises(DeadlineUnreachable) as caught:
                    await compartment.acquire()
                assert trio.current_time() == pytest.approx(began)
                assert caught.value.retry_after == pytest.approx(4.0)
            with trio.fail_after(8):  # just enough
                await compartment.call(trio.sleep, 0)
        assert compartment.predicted_wait() == 0


async def test_compartment_free_worker_is_not_kept_from_anybody(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """However long work has taken: who finds a worker free may try, and so it can get better."""
    async with running(make(workers=1, queue=5)) as compartment:
        await compartment.call(trio.sleep, 100)
        with trio.fail_after(1):
            await compartment.call(trio.sleep, 0.5)


async def test_compartment_cancelled_waiter_frees_its_place(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A cancelled waiter leaves no trace: its place can be taken at once, order is kept."""
    served: list[str] = []

    async def caller(compartment: Compartment, name: str) -> None:
        with await compartment.acquire():
            served.append(name)

    async with running(make(workers=1, queue=2)) as compartment:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(compartment.call, trio.sleep, 5)
            await trio.testing.wait_all_tasks_blocked()
            async with trio.open_nursery() as leaving:
                leaving.start_soon(caller, compartment, "leaves")
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(caller, compartment, "stays")
                await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(BulkheadFull):
                    await compartment.acquire()
                leaving.cancel_scope.cancel()
            nursery.start_soon(caller, compartment, "comes")
    assert served == ["stays", "comes"]


async def test_compartment_cancelled_in_the_step_of_being_served(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Served and cancelled in the same scheduler step, a caller still gives its worker back."""
    async with running(make(workers=1, queue=3)) as compartment:
        release = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(compartment.call, release.wait)
            await trio.testing.wait_all_tasks_blocked()
            async with trio.open_nursery() as waiting:
                waiting.start_soon(compartment.call, trio.sleep, 5)
                await trio.testing.wait_all_tasks_blocked()
                release.set()
                # The worker comes free, the supervisor hands it on, and the cancellation arrives
                # at each of the few steps that this takes.
                for _ in range(3):
                    await trio.lowlevel.cancel_shielded_checkpoint()
                waiting.cancel_scope.cancel()


class ExplodingQueue(BoundedQueue[Slot]):
    """Breaks the supervisor the first ``bombs`` times that it hands somebody on."""

    def __init__(self, places: int, bombs: int) -> None:
        super().__init__(places)
        self.bombs = bombs

    def take_nowait(self) -> Slot:
        if self.bombs:
            self.bombs -= 1
            raise RuntimeError("a mistake in the supervisor")
        return super().take_nowait()


async def test_compartment_supervisor_crash_is_contained(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A crash sends the waiting away with `Shed`, leaves the running alone, and is recovered."""
    crashes: list[SupervisorCrashed] = []
    outcomes: list[str] = []
    compartment = Compartment(
        "test", workers=1, queue=ExplodingQueue(5, bombs=1), listeners=(crashes.append,)
    )

    async def caller(seconds: float) -> None:
        try:
            await compartment.call(trio.sleep, seconds)
        except Shed as error:
            outcomes.append(f"shed, retry after {error.retry_after:.3g}")
        else:
            outcomes.append("served")

    async with running(compartment):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller, 1)
            for _ in range(3):
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(caller, 1)
        assert outcomes[0] == "served"
        assert outcomes[1:] == ["shed, retry after 0.1"] * 3
        assert [(crash.compartment, crash.restart_in) for crash in crashes] == [("test", 0.1)]
        assert isinstance(crashes[0].error, RuntimeError)
        await trio.sleep(0.2)
        outcomes.clear()
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(caller, 1)
        assert outcomes == ["served"] * 4
        assert compartment.statistics().crashes == 1


async def test_compartment_supervisor_down_sheds_only_who_would_wait(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """While the supervisor is down a free worker can still be had; waiting for one cannot."""
    compartment = Compartment("test", workers=1, queue=ExplodingQueue(5, bombs=100))
    async with running(compartment):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(compartment.call, trio.sleep, 1)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(Shed):
                await compartment.call(trio.sleep, 1)
        assert trio.current_time() >= 1
        with await compartment.acquire():
            with pytest.raises(Shed):
                await compartment.acquire()


async def test_compartment_listener_that_raises_does_not_end_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A supervisor is restarted also when nobody could be told that it crashed."""

    def broken(crash: SupervisorCrashed) -> None:
        raise OSError("no space left on device")

    queue = ExplodingQueue(5, bombs=1)
    async with running(
        Compartment("test", workers=1, queue=queue, listeners=(broken,))
    ) as compartment:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(compartment.call, trio.sleep, 1)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(Shed):
                await compartment.acquire()
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(compartment.call, trio.sleep, 1)


async def test_compartment_restart_delay_grows(autojump_clock: trio.testing.MockClock) -> None:
    """A supervisor that keeps crashing is restarted less and less often, up to ten seconds."""
    delays: list[float] = []
    compartment = Compartment(
        "test",
        workers=1,
        queue=ExplodingQueue(5, bombs=9),
        listeners=(lambda crash: delays.append(crash.restart_in),),
    )
    async with running(compartment):
        while len(delays) < 9:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(compartment.call, trio.sleep, 0.001)
                await trio.testing.wait_all_tasks_blocked()
                with trio.move_on_after(0.01):
                    try:
                        await compartment.acquire()
                    except Shed as error:
                        await trio.sleep(error.retry_after or 0)
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0])


async def test_compartment_resize_drains_lazily(autojump_clock: trio.testing.MockClock) -> None:
    """Fewer workers end nobody's work; more workers serve the waiting at once."""
    async with running(make(workers=3, queue=10)) as compartment:
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(compartment.call, trio.sleep, 10)
            await trio.testing.wait_all_tasks_blocked()
            compartment.resize(workers=1)
            assert compartment.statistics().active == 3
            await trio.sleep(10.5)
            assert (compartment.statistics().active, compartment.statistics().queued) == (1, 2)
            compartment.resize(workers=5)
            await trio.testing.wait_all_tasks_blocked()
            assert (compartment.statistics().active, compartment.statistics().queued) == (3, 0)


async def test_compartment_end_of_run_sends_the_waiting_away(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """When the supervisor is cancelled for good, nobody is left waiting for it."""
    compartment = make(workers=1, queue=3)
    shed = 0

    async def caller() -> None:
        nonlocal shed
        try:
            await compartment.acquire()
        except Shed:
            shed += 1

    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as owner:
            await owner.start(compartment.run)
            slot = await compartment.acquire()
            nursery.start_soon(caller)
            nursery.start_soon(caller)
            await trio.testing.wait_all_tasks_blocked()
            owner.cancel_scope.cancel()
    with slot:
        pass
    assert shed == 2
    assert compartment.statistics().active == 0


@pytest.mark.parametrize(("workers", "queue"), [(0, 1), (-1, 1), (1, -1)])
def test_compartment_nonsense_sizes_are_refused(workers: int, queue: int) -> None:
    """A size that means nothing is refused when the compartment is made."""
    with pytest.raises(ValueError, match="must be"):
        Compartment("test", workers=workers, queue=queue)


async def test_compartment_random_storm_ends_at_rest(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Whatever hundreds of callers do, the limits hold all the time and all is back at the end."""
    import random

    rng = random.Random(7)
    async with running(make(workers=4, queue=6)) as compartment:
        running_now = most = 0

        async def work(seconds: float) -> None:
            nonlocal running_now, most
            running_now += 1
            most = max(most, running_now)
            try:
                await trio.sleep(seconds)
            finally:
                running_now -= 1

        async def caller(delay: float, patience: float, seconds: float) -> None:
            await trio.sleep(delay)
            with trio.move_on_after(patience):
                try:
                    await compartment.call(work, seconds)
                except (BulkheadFull, DeadlineUnreachable):
                    pass

        async with trio.open_nursery() as nursery:
            for _ in range(600):
                nursery.start_soon(
                    caller, rng.uniform(0, 30), rng.choice([0.05, 0.5, math.inf]), rng.random()
                )
        assert most == 4
        assert running_now == 0


@pytest.mark.parametrize("priority", ["high", 1.5, float("nan"), True])
async def test_compartment_refuses_a_priority_that_is_none(
    autojump_clock: trio.testing.MockClock, priority: object
) -> None:
    """Whoever says nonsense is told so, and those who wait go on waiting in order."""
    async with running(Compartment("test", workers=1, queue=PriorityQueue[Slot](5))) as compartment:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(compartment.call, trio.sleep, 1)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(ValueError, match="priority"):
                await compartment.acquire(priority=priority)  # type: ignore[arg-type]
        assert compartment.statistics().completed == 3


async def test_compartment_runs_once_at_a_time(autojump_clock: trio.testing.MockClock) -> None:
    """A second supervisor is refused, and leaves the first one to its work."""
    async with running(make(workers=1, queue=5)) as compartment:
        with pytest.raises(RuntimeError, match="running already"):
            await compartment.run()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(compartment.call, trio.sleep, 1)
        assert compartment.statistics().completed == 3
