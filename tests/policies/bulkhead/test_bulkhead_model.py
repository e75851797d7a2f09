"""Random schedules against a model of the bulkhead that is a list and a set.

The machine writes a schedule, and beside each step what the model says must be so after it; at the
end the schedule is played on a real bulkhead on the mock clock. Steps may follow each other without
any task running in between, so that hand-overs, cancellations and resizes meet.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import trio
import trio.testing
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from bulkhead_trio.errors import Rejected
from bulkhead_trio.policies.bulkhead import Bulkhead, BulkheadStatistics, Permit


@attrs.define
class Model:
    """What a bulkhead is, without any of its means."""

    permits: int
    places: int
    now: float = 0.0
    holding: dict[int, float] = attrs.Factory(dict)  # since when, by caller
    line: dict[int, float] = attrs.Factory(dict)  # patience ends when, by caller, in order
    entered: list[int] = attrs.Factory(list)
    refusals: dict[int, str] = attrs.Factory(dict)
    completed: int = 0
    mean: float | None = None

    def arrive(self, caller: int, patience: float) -> None:
        if len(self.holding) < self.permits:
            self._enter(caller)
        elif patience == 0 or len(self.line) >= self.places:
            self.refusals[caller] = "bulkhead_full"
        else:
            self.line[caller] = self.now + patience

    def leave(self, caller: int) -> None:
        service = self.now - self.holding.pop(caller)
        self.mean = service if self.mean is None else self.mean + 0.2 * (service - self.mean)
        self.completed += 1
        self._hand_over()

    def resize(self, permits: int) -> None:
        self.permits = permits
        self._hand_over()

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for caller, until in list(self.line.items()):
            if until <= self.now:
                del self.line[caller]
                self.refusals[caller] = "queue_timeout"

    def _hand_over(self) -> None:
        while self.line and len(self.holding) < self.permits:
            first = next(iter(self.line))
            del self.line[first]
            self._enter(first)

    def _enter(self, caller: int) -> None:
        self.holding[caller] = self.now
        self.entered.append(caller)

    def statistics(self) -> BulkheadStatistics:
        return BulkheadStatistics(
            name="model",
            active=len(self.holding),
            queued=len(self.line),
            max_concurrent=self.permits,
            max_queued=self.places,
            completed=self.completed,
            refused=len(self.refusals),
            mean_service=self.mean,
        )


@attrs.frozen
class Expected:
    """What must be so after a step; what callers know only once the tasks have run."""

    statistics: BulkheadStatistics
    entered: tuple[int, ...]
    refusals: dict[int, str]
    is_settled: bool


class Player:
    """Does the steps on a real bulkhead."""

    def __init__(self, bulkhead: Bulkhead, nursery: trio.Nursery, clock: trio.testing.MockClock):
        self.bulkhead = bulkhead
        self.nursery = nursery
        self.clock = clock
        self.permits: dict[int, Permit] = {}
        self.scopes: dict[int, trio.CancelScope] = {}
        self.entered: list[int] = []
        self.refusals: dict[int, str] = {}

    def nothing(self) -> None:
        """Let the tasks run."""

    def arrive(self, caller: int, patience: float) -> None:
        self.scopes[caller] = trio.CancelScope()
        self.nursery.start_soon(self._caller, caller, patience)

    async def _caller(self, caller: int, patience: float) -> None:
        with self.scopes[caller]:
            try:
                async with self.bulkhead.acquire(timeout=patience) as permit:
                    self.permits[caller] = permit
                    self.entered.append(caller)
                    await trio.sleep_forever()
            except Rejected as refusal:
                self.refusals[caller] = refusal.reason

    def release(self, caller: int) -> None:
        self.permits[caller].release()

    def cancel(self, caller: int) -> None:
        self.scopes[caller].cancel()

    def check(self, expected: Expected) -> None:
        assert self.bulkhead.statistics() == expected.statistics
        if expected.is_settled:
            # Who is handed permits at one moment runs in any order, as Trio has it.
            assert sorted(self.entered) == sorted(expected.entered)
            assert self.refusals == expected.refusals


Step = Callable[[Player], None]


class BulkheadMachine(RuleBasedStateMachine):
    """Writes the schedule; `teardown` plays it."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule: list[tuple[Step, Expected]] = []
        self.callers = 0
        self.is_settled = True
        self.ran_as_holder: set[int] = set()

    @initialize(permits=st.integers(1, 4), places=st.integers(0, 5))
    def begin(self, permits: int, places: int) -> None:
        self.model = Model(permits, places)
        self.first = permits

    def step(self, do: Step, *, settle: bool) -> None:
        if settle:
            self.ran_as_holder = set(self.model.holding)
        self.is_settled = settle
        model = self.model
        expected = Expected(
            model.statistics(), tuple(model.entered), dict(model.refusals), self.is_settled
        )
        self.schedule.append((do, expected))

    def settle(self) -> None:
        if not self.is_settled:
            self.step(Player.nothing, settle=True)

    @rule(patience=st.sampled_from([0.0, 1.0, 2.0, 5.0, math.inf]))
    def arrive(self, patience: float) -> None:
        self.settle()
        caller = self.callers
        self.callers += 1
        self.model.arrive(caller, patience)
        self.step(lambda player: player.arrive(caller, patience), settle=True)

    @precondition(lambda self: self.model.holding)
    @rule(data=st.data(), settle=st.booleans())
    def release(self, data: st.DataObject, settle: bool) -> None:
        caller = data.draw(st.sampled_from(sorted(self.model.holding)))
        if caller not in self.ran_as_holder:
            self.settle()  # it has been handed a permit, and does not know yet
        self.model.leave(caller)
        self.step(lambda player: player.release(caller), settle=settle)

    @precondition(lambda self: self.model.line)
    @rule(data=st.data(), settle=st.booleans())
    def cancel_waiting(self, data: st.DataObject, settle: bool) -> None:
        caller = data.draw(st.sampled_from(sorted(self.model.line)))
        del self.model.line[caller]
        self.step(lambda player: player.cancel(caller), settle=settle)

    @precondition(lambda self: self.model.holding)
    @rule(data=st.data())
    def cancel_running(self, data: st.DataObject) -> None:
        caller = data.draw(st.sampled_from(sorted(self.model.holding)))
        self.model.leave(caller)
        self.step(lambda player: player.cancel(caller), settle=True)

    @rule(permits=st.integers(1, 5), settle=st.booleans())
    def resize(self, permits: int, settle: bool) -> None:
        self.model.resize(permits)
        self.step(lambda player: player.bulkhead.resize(permits), settle=settle)

    @rule(seconds=st.integers(1, 3))
    def advance(self, seconds: int) -> None:
        self.settle()
        self.model.advance(seconds)
        self.step(lambda player: player.clock.jump(seconds), settle=True)

    def teardown(self) -> None:
        if self.schedule:
            clock = trio.testing.MockClock()
            trio.run(self.play, clock, clock=clock)

    async def play(self, clock: trio.testing.MockClock) -> None:
        bulkhead = Bulkhead("model", self.first, max_queued=self.model.places)
        async with trio.open_nursery() as nursery:
            player = Player(bulkhead, nursery, clock)
            before = 0
            for do, expected in self.schedule:
                do(player)
                if expected.is_settled:
                    await trio.testing.wait_all_tasks_blocked()
                player.check(expected)
                active = bulkhead.statistics().active
                assert active <= max(bulkhead.max_concurrent, before)  # above it after a resize
                before = active
            nursery.cancel_scope.cancel()
        assert bulkhead.is_at_rest
        assert bulkhead.statistics().queued == 0
        for _ in range(bulkhead.max_concurrent):
            bulkhead.acquire_nowait()  # no permit is lost


TestBulkheadMachine = BulkheadMachine.TestCase
TestBulkheadMachine.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, derandomize=True
)
