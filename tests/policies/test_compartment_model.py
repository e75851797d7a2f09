"""Random schedules against a model of the compartment, with each of the lines.

The machine writes a schedule, and beside each step what must be so after it; at the end it is
played on a real compartment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs
import trio
import trio.testing
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from bulkhead_trio.errors import Rejected
from bulkhead_trio.policies.compartment import Compartment, CompartmentStatistics, Slot
from bulkhead_trio.policies.queue import BoundedQueue, FairQueue, PriorityQueue, WaitingLine

KEYS = "xyz"
WHO = st.tuples(st.integers(0, 2), st.sampled_from(KEYS))


@attrs.frozen
class Waiting:
    """A caller in line."""

    caller: int
    priority: int
    key: str


class ModelLine:
    """First come, first served."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.waiting: list[Waiting] = []

    def make(self) -> WaitingLine[Slot]:
        return BoundedQueue(self.places)

    def add(self, new: Waiting) -> Waiting | None:
        """Answers with who has to go, which may be the new one."""
        if len(self.waiting) >= self.places:
            return new
        self.waiting.append(new)
        return None

    def next(self) -> Waiting:
        return self.waiting.pop(0)

    def remove(self, leaver: Waiting) -> None:
        self.waiting.remove(leaver)


class ModelPriorities(ModelLine):
    """The most urgent first."""

    def make(self) -> WaitingLine[Slot]:
        return PriorityQueue(self.places)

    def add(self, new: Waiting) -> Waiting | None:
        self.waiting.append(new)
        if len(self.waiting) <= self.places:
            return None
        # Kept in order of arrival: the last of the least urgent, the new one if it is among them.
        least = max(each.priority for each in self.waiting)
        loser = [each for each in self.waiting if each.priority == least][-1]
        self.waiting.remove(loser)
        return loser

    def next(self) -> Waiting:
        first = min(self.waiting, key=lambda each: each.priority)
        self.waiting.remove(first)
        return first


class ModelTurns(ModelLine):
    """Keys in turn, half of the places at most for each."""

    def __init__(self, places: int) -> None:
        super().__init__(places)
        self.turns: deque[str] = deque()

    def make(self) -> WaitingLine[Slot]:
        return FairQueue(self.places, reserved_share=0.5)

    def own(self, key: str) -> list[Waiting]:
        return [each for each in self.waiting if each.key == key]

    def add(self, new: Waiting) -> Waiting | None:
        share = max(1, self.places // 2)
        if len(self.waiting) >= self.places or len(self.own(new.key)) >= share:
            return new
        self.waiting.append(new)
        if new.key not in self.turns:
            self.turns.append(new.key)
        return None

    def next(self) -> Waiting:
        self.turns.rotate(-1)
        first = self.own(self.turns[-1])[0]
        self.remove(first)
        return first

    def remove(self, leaver: Waiting) -> None:
        self.waiting.remove(leaver)
        if not self.own(leaver.key):
            self.turns.remove(leaver.key)


@attrs.define
class Model:
    """A number of workers before a line."""

    workers: int
    line: ModelLine
    inside: set[int] = attrs.Factory(set)
    served: list[int] = attrs.Factory(list)
    refusals: dict[int, str] = attrs.Factory(dict)
    completed: int = 0

    def arrive(self, new: Waiting) -> None:
        if len(self.inside) < self.workers:
            self._enter(new.caller)
        elif (loser := self.line.add(new)) is not None:
            self.refusals[loser.caller] = "bulkhead_full" if loser is new else "shed"

    def leave(self, caller: int) -> None:
        self.inside.remove(caller)
        self.completed += 1
        self.hand_over()

    def hand_over(self) -> None:
        while self.line.waiting and len(self.inside) < self.workers:
            self._enter(self.line.next().caller)

    def _enter(self, caller: int) -> None:
        self.inside.add(caller)
        self.served.append(caller)

    def expected(self) -> Expected:
        statistics = CompartmentStatistics(
            active=len(self.inside),
            queued=len(self.line.waiting),
            workers=self.workers,
            places=self.line.places,
            completed=self.completed,
            refused=len(self.refusals),
            crashes=0,
        )
        return Expected(statistics, sorted(self.served), dict(self.refusals))


@attrs.frozen
class Expected:
    """What must be so after a step; who enters at one moment goes on in any order."""

    statistics: CompartmentStatistics
    served: list[int]
    refusals: dict[int, str]


class Player:
    """Does the steps on a real compartment."""

    def __init__(self, compartment: Compartment, nursery: trio.Nursery) -> None:
        self.compartment = compartment
        self.nursery = nursery
        self.scopes: dict[int, trio.CancelScope] = {}
        self.ends: dict[int, trio.Event] = {}
        self.served: list[int] = []
        self.refusals: dict[int, str] = {}

    def arrive(self, new: Waiting) -> None:
        self.scopes[new.caller] = trio.CancelScope()
        self.ends[new.caller] = trio.Event()
        self.nursery.start_soon(self._caller, new)

    async def _caller(self, new: Waiting) -> None:
        with self.scopes[new.caller]:
            try:
                with await self.compartment.acquire(priority=new.priority, key=new.key):
                    self.served.append(new.caller)
                    await self.ends[new.caller].wait()
            except Rejected as refusal:
                assert new.caller not in self.refusals
                self.refusals[new.caller] = refusal.reason

    def end(self, caller: int) -> None:
        self.ends[caller].set()

    def cancel(self, caller: int) -> None:
        self.scopes[caller].cancel()

    def check(self, expected: Expected) -> None:
        assert self.compartment.statistics() == expected.statistics
        assert sorted(self.served) == expected.served
        assert self.refusals == expected.refusals


Step = Callable[[Player], None]


class CompartmentMachine(RuleBasedStateMachine):
    """Writes the schedule; `teardown` plays it."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule: list[tuple[Step, Expected]] = []
        self.callers = 0

    @initialize(
        workers=st.integers(1, 3),
        places=st.integers(0, 5),
        line=st.sampled_from([ModelLine, ModelPriorities, ModelTurns]),
    )
    def begin(self, workers: int, places: int, line: type[ModelLine]) -> None:
        self.first = workers
        self.model = Model(workers, line(places))

    def step(self, do: Step) -> None:
        self.schedule.append((do, self.model.expected()))

    @rule(who=WHO)
    def arrive(self, who: tuple[int, str]) -> None:
        new = Waiting(self.callers, *who)
        self.callers += 1
        self.model.arrive(new)
        self.step(lambda player: player.arrive(new))

    @precondition(lambda self: self.model.inside)
    @rule(data=st.data(), by_cancelling=st.booleans())
    def leave(self, data: st.DataObject, by_cancelling: bool) -> None:
        caller = data.draw(st.sampled_from(sorted(self.model.inside)))
        self.model.leave(caller)
        do = Player.cancel if by_cancelling else Player.end
        self.step(lambda player: do(player, caller))

    @precondition(lambda self: self.model.line.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        leaver = data.draw(st.sampled_from(self.model.line.waiting))
        self.model.line.remove(leaver)
        self.step(lambda player: player.cancel(leaver.caller))

    @rule(workers=st.integers(1, 4))
    def resize(self, workers: int) -> None:
        self.model.workers = workers
        self.model.hand_over()
        self.step(lambda player: player.compartment.resize(workers=workers))

    def teardown(self) -> None:
        if self.schedule:
            trio.run(self.play, clock=trio.testing.MockClock())

    async def play(self) -> None:
        compartment = Compartment("model", workers=self.first, queue=self.model.line.make())
        async with trio.open_nursery() as nursery:
            await nursery.start(compartment.run)
            player = Player(compartment, nursery)
            before = 0
            for do, expected in self.schedule:
                do(player)
                await trio.testing.wait_all_tasks_blocked()
                player.check(expected)
                active = compartment.statistics().active
                assert active <= max(compartment.statistics().workers, before)
                before = active
            nursery.cancel_scope.cancel()
        statistics = compartment.statistics()
        assert (statistics.active, statistics.queued) == (0, 0)


TestCompartmentMachine = CompartmentMachine.TestCase
TestCompartmentMachine.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, derandomize=True
)
