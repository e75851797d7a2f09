"""Random schedules against a model of the pool that is a set of running jobs and a sorted list.

The machine writes a schedule, and beside each step what must be so after it; at the end it is
played on a real pool, which is then closed one way or the other.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio
import trio.testing
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from bulkhead_trio.errors import Rejected
from bulkhead_trio.policies.worker_pool import WorkerPool, WorkerPoolStatistics


class Failed(Exception):
    """What a job raises that is told to fail."""


@attrs.define
class Model:
    """What a pool is, without any of its means."""

    workers: int
    places: int
    running: set[int] = attrs.Factory(set)
    line: list[tuple[int, int]] = attrs.Factory(list)  # priority and number
    outcomes: dict[int, str] = attrs.Factory(dict)
    begun: list[int] = attrs.Factory(list)
    completed: int = 0
    failed: int = 0
    refused: int = 0
    shed: int = 0

    def arrive(self, job: int, priority: int) -> None:
        if len(self.running) < self.workers:
            self._begin(job)
            return
        if len(self.line) >= self.places:
            if not self.line or priority >= max(self.line)[0]:
                self.refused += 1
                self.outcomes[job] = "bulkhead_full"
                return
            _, loser = max(self.line)
            self.line.remove(max(self.line))
            self.shed += 1
            self.outcomes[loser] = "shed"
        self.line.append((priority, job))

    def end(self, job: int, outcome: str) -> None:
        self.running.remove(job)
        self.completed += 1
        self.failed += outcome == "failed"
        self.outcomes[job] = outcome
        if self.line:
            first = min(self.line)
            self.line.remove(first)
            self._begin(first[1])

    def withdraw(self, job: int) -> None:
        self.line = [each for each in self.line if each[1] != job]
        self.outcomes[job] = "cancelled"

    def break_off(self) -> None:
        self.shed += len(self.line)
        self.outcomes |= {job: "shed" for _, job in self.line}
        self.line.clear()

    def _begin(self, job: int) -> None:
        self.running.add(job)
        self.begun.append(job)

    def expected(self) -> Expected:
        statistics = WorkerPoolStatistics(
            name="model",
            active=len(self.running),
            queued=len(self.line),
            workers=self.workers,
            places=self.places,
            completed=self.completed,
            failed=self.failed,
            refused=self.refused,
            shed=self.shed,
        )
        return Expected(statistics, dict(self.outcomes), sorted(self.begun))


@attrs.frozen
class Expected:
    """What must be so after a step."""

    statistics: WorkerPoolStatistics
    outcomes: dict[int, str]
    begun: list[int]


class Player:
    """Does the steps on a real pool."""

    def __init__(self, pool: WorkerPool, nursery: trio.Nursery) -> None:
        self.pool = pool
        self.nursery = nursery
        self.scopes: dict[int, trio.CancelScope] = {}
        self.ends: dict[int, trio.Event] = {}
        self.failing: set[int] = set()
        self.outcomes: dict[int, str] = {}
        self.begun: list[int] = []

    def run_job(self, job: int, priority: int) -> None:
        self.ends[job] = trio.Event()
        self.nursery.start_soon(self._owner, job, priority)

    async def _owner(self, job: int, priority: int) -> None:
        with trio.CancelScope() as self.scopes[job]:
            try:
                result = await self.pool.run_job(self._awaited, job, priority=priority)
            except Rejected as refusal:
                self._note(job, refusal.reason)
            except Failed:
                self._note(job, "failed")
            except trio.ClosedResourceError:
                self._note(job, "closed")
            else:
                assert result == job
                self._note(job, "done")
        if self.scopes[job].cancelled_caught:
            self._note(job, "cancelled")

    def submit(self, job: int, priority: int) -> None:
        self.ends[job] = trio.Event()
        try:
            self.pool.submit_nowait(
                self._forgotten,
                job,
                priority=priority,
                on_shed=lambda reason: self._note(job, reason.reason),
            )
        except Rejected as refusal:
            self._note(job, refusal.reason)

    async def _awaited(self, job: int) -> int:
        self.begun.append(job)
        await self.ends[job].wait()
        if job in self.failing:
            raise Failed
        return job

    async def _forgotten(self, job: int) -> None:
        outcome = "closed"
        try:
            await self._awaited(job)
            outcome = "done"
        except Failed:
            outcome = "failed"
            raise
        finally:
            self._note(job, outcome)

    def _note(self, job: int, outcome: str) -> None:
        assert job not in self.outcomes, "an owner hears how it ended once"
        self.outcomes[job] = outcome

    def end(self, job: int, outcome: str) -> None:
        if outcome == "failed":
            self.failing.add(job)
        self.ends[job].set()

    def cancel(self, job: int) -> None:
        self.scopes[job].cancel()

    def check(self, expected: Expected) -> None:
        assert self.pool.statistics() == expected.statistics
        assert self.outcomes == expected.outcomes
        assert sorted(self.begun) == expected.begun


Step = Callable[[Player], None]


class WorkerPoolMachine(RuleBasedStateMachine):
    """Writes the schedule; `teardown` plays it."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule: list[tuple[Step, Expected | None]] = []
        self.jobs = 0
        self.awaited: set[int] = set()

    @initialize(workers=st.integers(1, 3), places=st.integers(0, 4), drain=st.booleans())
    def begin(self, workers: int, places: int, drain: bool) -> None:
        self.model = Model(workers, places)
        self.drain = drain

    def step(self, do: Step, *, settle: bool = True) -> None:
        self.schedule.append((do, self.model.expected() if settle else None))

    @rule(priority=st.integers(0, 2))
    def run_job(self, priority: int) -> None:
        job = self.jobs
        self.jobs += 1
        self.awaited.add(job)
        self.model.arrive(job, priority)
        self.step(lambda player: player.run_job(job, priority))

    @rule(priorities=st.lists(st.integers(0, 2), min_size=1, max_size=4))
    def submit(self, priorities: list[int]) -> None:
        """Several in one go, before any worker hears of the first."""
        for number, priority in enumerate(priorities, start=1):
            self._submit(priority, settle=number == len(priorities))

    def _submit(self, priority: int, *, settle: bool) -> None:
        job = self.jobs
        self.jobs += 1
        self.model.arrive(job, priority)
        self.step(lambda player: player.submit(job, priority), settle=settle)

    @precondition(lambda self: self.model.running)
    @rule(data=st.data(), outcome=st.sampled_from(["done", "failed"]))
    def end(self, data: st.DataObject, outcome: str) -> None:
        job = data.draw(st.sampled_from(sorted(self.model.running)))
        self.model.end(job, outcome)
        self.step(lambda player: player.end(job, outcome))

    @precondition(lambda self: self.model.running & self.awaited)
    @rule(data=st.data())
    def cancel_running(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(sorted(self.model.running & self.awaited)))
        self.model.end(job, "cancelled")
        self.step(lambda player: player.cancel(job))

    @precondition(lambda self: self.awaited & {job for _, job in self.model.line})
    @rule(data=st.data())
    def cancel_waiting(self, data: st.DataObject) -> None:
        waiting = self.awaited & {job for _, job in self.model.line}
        job = data.draw(st.sampled_from(sorted(waiting)))
        self.model.withdraw(job)
        self.step(lambda player: player.cancel(job))

    def teardown(self) -> None:
        if self.schedule:
            trio.run(self.play, clock=trio.testing.MockClock(autojump_threshold=0))

    async def play(self) -> None:
        pool = WorkerPool("model", workers=self.model.workers, queue=self.model.places)
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            player = Player(pool, nursery)
            for do, expected in self.schedule:
                do(player)
                assert pool.statistics().active <= pool.statistics().workers
                if expected is not None:
                    await trio.testing.wait_all_tasks_blocked()
                    player.check(expected)
            if self.drain:
                nursery.start_soon(pool.aclose)
                while self.model.running:
                    job = min(self.model.running)
                    player.end(job, "done")
                    self.model.end(job, "done")
            else:
                self.model.break_off()
                for job in set(self.model.running):
                    self.model.end(job, "closed")
                await pool.aclose(drain=False)
        player.check(self.model.expected())


TestWorkerPoolMachine = WorkerPoolMachine.TestCase
TestWorkerPoolMachine.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, derandomize=True
)
