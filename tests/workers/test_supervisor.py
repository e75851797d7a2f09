"""The supervisor, over workers that do as a test says."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import attrs
import pytest
import trio
import trio.testing

from bulkhead_trio.testing import CancellationPoint, sweep_cancellations
from bulkhead_trio.workers._restart_rules import LONGEST_DELAY_SECONDS, MOST_FAILED_STARTS
from bulkhead_trio.workers.supervisor import START_SECONDS, Supervisor, WorkersFailed

PATIENCE = 20.0


@attrs.define(eq=False)
class ScriptedWorker:
    """Serves after a while; ends when it is told to, or by a signal that it does not ignore."""

    number: int
    pid: int
    ignores: frozenset[int] = frozenset()
    ready: trio.Event = attrs.field(factory=trio.Event)
    ended: trio.Event = attrs.field(factory=trio.Event)
    signals: list[int] = attrs.field(factory=list)
    exit_code: int | None = None
    words: int = 0
    is_hung: bool = False

    async def wait_ended(self) -> None:
        await self.ended.wait()

    def signal(self, number: int) -> None:
        self.signals.append(number)
        if number not in self.ignores:
            self.end(-number)

    def end(self, exit_code: int) -> None:
        if not self.ended.is_set():
            self.exit_code = exit_code
            self.ended.set()


@attrs.define(eq=False)
class Crew:
    """Launches scripted workers and remembers them."""

    starts_in: float = 1.0
    fails: bool = False
    ignores: frozenset[int] = frozenset()
    cannot_start: int = 0
    launch_takes: float = 0.0
    started: list[tuple[float, ScriptedWorker]] = attrs.field(factory=list)
    left: int = 0

    @asynccontextmanager
    async def launch(self, number: int) -> AsyncIterator[ScriptedWorker]:
        await trio.sleep(self.launch_takes)
        if self.cannot_start:
            self.cannot_start -= 1
            raise BlockingIOError("Resource temporarily unavailable")
        worker = ScriptedWorker(number, 100 + len(self.started), self.ignores)
        self.started.append((trio.current_time(), worker))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._live, worker)
                yield worker
                nursery.cancel_scope.cancel()
        finally:
            worker.end(-signal.SIGKILL)
            self.left += 1

    async def _live(self, worker: ScriptedWorker) -> None:
        await trio.sleep(self.starts_in)
        if self.fails:
            worker.end(1)
            return
        worker.ready.set()
        while True:
            await trio.sleep(1)
            worker.words += not worker.is_hung

    def running(self) -> list[ScriptedWorker]:
        return [worker for _, worker in self.started if not worker.ended.is_set()]


def make_supervisor(crew: Crew, *, workers: int = 2) -> Supervisor:
    return Supervisor(crew.launch, workers=workers, patience=PATIENCE)


async def test_supervisor_has_started_when_all_workers_serve(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Nobody is told that it serves before every worker does."""
    crew = Crew(starts_in=3.0)
    supervisor = make_supervisor(crew, workers=3)
    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        await nursery.start(supervisor.run)
        assert trio.current_time() - began == pytest.approx(3.0)
        assert supervisor.pids == {worker.number: worker.pid for worker in crew.running()}
        supervisor.stop()
    assert crew.left == 3


async def test_worker_that_ends_is_replaced_and_others_are_not(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The same number again, at once, while the other one is left alone."""
    crew = Crew()
    supervisor = make_supervisor(crew)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        await trio.sleep(60)
        first, other = crew.running()
        first.end(-9)
        await trio.sleep(0.001)
        assert {worker.number for worker in crew.running()} == {0, 1}
        assert other in crew.running()
        assert len(crew.started) == 3
        supervisor.stop()


async def test_worker_that_dies_young_again_and_again_is_replaced_ever_more_slowly(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Its starts grow apart up to the bound, and go on for ever while another one serves."""
    crew = Crew()
    supervisor = make_supervisor(crew)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        victim, other = crew.running()
        crew.fails = True
        victim.end(1)
        await trio.sleep(12 * LONGEST_DELAY_SECONDS)
        times = [at for at, worker in crew.started if worker.number == victim.number]
        gaps = [after - before for before, after in pairwise(times)]
        assert len(gaps) > 10
        assert all(before <= after + 1e-6 for before, after in pairwise(gaps))
        assert gaps[-1] == pytest.approx(LONGEST_DELAY_SECONDS + crew.starts_in)
        assert crew.running().count(other) == 1
        supervisor.stop()


async def test_workers_that_never_serve_are_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """After some starts the supervisor fails, says why, and leaves nothing running."""
    crew = Crew(fails=True)
    with pytest.RaisesGroup(
        pytest.RaisesExc(WorkersFailed, match="exit code 1"), flatten_subgroups=True
    ):
        await make_supervisor(crew).run()
    assert MOST_FAILED_STARTS <= len(crew.started) <= 2 * MOST_FAILED_STARTS
    assert crew.running() == []
    assert crew.left == len(crew.started)


async def test_worker_that_cannot_be_started_now_is_tried_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A system that has no process to spare for a moment ends nobody."""
    crew = Crew()
    supervisor = make_supervisor(crew)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        victim, other = crew.running()
        crew.cannot_start = MOST_FAILED_STARTS + 3
        victim.end(-9)
        await trio.sleep(10 * LONGEST_DELAY_SECONDS)
        assert crew.cannot_start == 0
        assert len(crew.running()) == 2
        assert other in crew.running()
        supervisor.stop()


async def test_worker_that_hangs_while_starting_is_killed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It gets its time, and then counts as one that has failed."""
    crew = Crew(starts_in=10 * START_SECONDS)
    with pytest.RaisesGroup(WorkersFailed, flatten_subgroups=True):
        await make_supervisor(crew, workers=1).run()
    assert [worker.signals for _, worker in crew.started] == [
        [signal.SIGKILL] for _ in range(MOST_FAILED_STARTS)
    ]


async def test_worker_that_is_silent_is_killed_and_replaced(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Ten seconds after its last word, and not the one that speaks."""
    crew = Crew(ignores=frozenset([signal.SIGTERM]))
    supervisor = make_supervisor(crew)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        await trio.sleep(100.5)
        hung, well = crew.running()
        hung.is_hung = True
        await trio.sleep(8)
        assert hung in crew.running()
        await trio.sleep(4)
        assert hung.signals == [signal.SIGKILL]
        assert well.signals == []
        assert {worker.number for worker in crew.running()} == {0, 1}
        nursery.cancel_scope.cancel()


async def test_worker_that_speaks_again_is_left_alone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Silence has to be in one piece."""
    crew = Crew()
    supervisor = make_supervisor(crew)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        slow, _ = crew.running()
        await trio.sleep(0.5)  # not at the moments of words and looks
        for _ in range(5):
            slow.is_hung = True
            await trio.sleep(7)
            slow.is_hung = False
            await trio.sleep(3)
        assert slow.signals == []
        nursery.cancel_scope.cancel()


async def test_main_process_that_was_stopped_itself_kills_nobody(
    mock_clock: trio.testing.MockClock,
) -> None:
    """What was said meanwhile is there to be heard; time that nobody listened in does not count."""
    crew = Crew()
    supervisor = make_supervisor(crew)
    async with trio.open_nursery() as nursery:
        mock_clock.autojump_threshold = 0
        await nursery.start(supervisor.run)
        mock_clock.autojump_threshold = float("inf")
        for worker in crew.running():
            worker.is_hung = True  # for the scripted ones' own sleeping would not end either
        for _ in range(3):
            mock_clock.jump(3600)
            await trio.testing.wait_all_tasks_blocked()
        assert all(worker.signals == [] for worker in crew.running())
        nursery.cancel_scope.cancel()


async def test_silent_worker_that_is_to_stop_has_its_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """While it drains it is killed when its patience is over, and no sooner."""
    crew = Crew(ignores=frozenset([signal.SIGTERM]))
    supervisor = make_supervisor(crew, workers=1)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        (worker,) = crew.running()
        worker.is_hung = True
        supervisor.stop()
        began = trio.current_time()
        await worker.ended.wait()
        assert trio.current_time() - began == pytest.approx(PATIENCE)


async def test_stop_passes_signals_on_and_replaces_nobody(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Every signal reaches every worker, and `run` ends with the last of them."""
    crew = Crew(ignores=frozenset([signal.SIGTERM]))
    supervisor = make_supervisor(crew)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        supervisor.stop(signal.SIGTERM)
        await trio.sleep(5)
        assert len(crew.running()) == 2
        supervisor.stop(signal.SIGINT)
    assert [worker.signals for _, worker in crew.started] == [[signal.SIGTERM, signal.SIGINT]] * 2


async def test_stop_kills_who_does_not_go(autojump_clock: trio.testing.MockClock) -> None:
    """Patience is counted from the first signal."""
    crew = Crew(ignores=frozenset([signal.SIGTERM]))
    supervisor = make_supervisor(crew)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        began = trio.current_time()
        supervisor.stop()
        await trio.sleep(PATIENCE / 2)
        supervisor.stop()
    assert trio.current_time() - began == pytest.approx(PATIENCE)
    assert all(worker.signals[-1] == signal.SIGKILL for _, worker in crew.started)


async def test_stop_ends_the_wait_for_a_replacement(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Nobody is started again once it stops, and nobody waits to do so."""
    crew = Crew()
    supervisor = make_supervisor(crew)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        for _ in range(8):
            for worker in crew.running():
                worker.end(1)
            await trio.sleep(LONGEST_DELAY_SECONDS / 2)
        started, began = len(crew.started), trio.current_time()
        supervisor.stop()
    assert trio.current_time() == began
    assert len(crew.started) == started


async def test_stop_reaches_a_worker_that_is_being_launched(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Whoever comes when all others have been told is told as well."""
    crew = Crew()
    supervisor = make_supervisor(crew)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        crew.launch_takes = 2.0
        crew.running()[0].end(1)
        await trio.sleep(1.0)
        began = trio.current_time()
        supervisor.stop()
    assert len(crew.started) == 3
    assert crew.started[-1][1].signals == [signal.SIGTERM]
    assert trio.current_time() - began < 2


async def test_cancelled_supervisor_leaves_no_worker(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Wherever it is cancelled, every worker that was launched has been left."""

    async def scenario(point: CancellationPoint) -> None:
        crew = Crew()
        supervisor = make_supervisor(crew)
        with point:
            async with trio.open_nursery() as nursery:
                await nursery.start(supervisor.run)
                crew.running()[0].end(1)
                await trio.sleep(2)
                supervisor.stop()
        assert crew.running() == []
        assert crew.left == len(crew.started)
        assert supervisor.pids == {}

    assert await sweep_cancellations(scenario) >= 3
