"""Taking turns: against a plain list of queues, and as a bound on how much anybody is overtaken."""

from __future__ import annotations

import math
from collections import Counter, deque

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from bulkhead_trio.policies.queue._fair_rules import FairOrder

KEYS = "abcd"
WEIGHTS = {"a": 1.0, "b": 1.0, "c": 2.0, "d": 3.5}


@attrs.define
class ModelFlow:
    """One key of the model."""

    key: str
    credit: float = 0.0
    entries: deque[int] = attrs.Factory(deque)


class FairOrderMachine(RuleBasedStateMachine):
    """Adds, takes and removes at random; the model is a list of flows, searched from the front."""

    def __init__(self) -> None:
        super().__init__()
        self.flows: list[ModelFlow] = []
        self.numbers = 0

    @initialize(places=st.integers(1, 12), places_a_key=st.integers(1, 6))
    def begin(self, places: int, places_a_key: int) -> None:
        self.order = FairOrder[int](places, places_a_key)

    def flow(self, key: str) -> ModelFlow | None:
        return next((flow for flow in self.flows if flow.key == key), None)

    def size(self) -> int:
        return sum(len(flow.entries) for flow in self.flows)

    @rule(key=st.sampled_from(KEYS))
    def add(self, key: str) -> None:
        flow = self.flow(key)
        own = 0 if flow is None else len(flow.entries)
        assert self.order.is_full() is (self.size() >= self.order.places)
        assert self.order.has_share(key) is (own >= self.order.places_a_key)
        if self.order.is_full() or self.order.has_share(key):
            return
        self.numbers += 1
        self.order.add(self.numbers, key, WEIGHTS[key])
        if flow is None:
            flow = ModelFlow(key)
            self.flows.append(flow)
        flow.entries.append(self.numbers)

    @precondition(lambda self: self.flows)
    @rule()
    def take(self) -> None:
        flow = self.flows[0]
        if flow.credit < 1:
            flow.credit += WEIGHTS[flow.key]
        flow.credit -= 1
        assert self.order.pop_next() == flow.entries.popleft()
        if not flow.entries:
            self.flows.remove(flow)
        elif flow.credit < 1:
            self.flows.append(self.flows.pop(0))

    @precondition(lambda self: self.flows)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        flow = data.draw(st.sampled_from(self.flows))
        entry = data.draw(st.sampled_from(list(flow.entries)))
        self.order.remove(entry, flow.key)
        flow.entries.remove(entry)
        if not flow.entries:
            self.flows.remove(flow)

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "order"):
            return
        assert len(self.order) == self.size() <= self.order.places
        assert self.order.keys == len(self.flows)
        for key in KEYS:
            flow = self.flow(key)
            own = 0 if flow is None else len(flow.entries)
            assert self.order.count(key) == own <= self.order.places_a_key
            assert self.order.weight(key) == (None if flow is None else WEIGHTS[key])
            others = sum(math.ceil(WEIGHTS[each.key]) for each in self.flows if each.key != key)
            rounds = math.ceil((own + 1) / WEIGHTS[key])
            expected = min(self.size(), own + rounds * others)
            assert self.order.ahead(key, WEIGHTS[key]) == expected


TestFairOrderMachine = FairOrderMachine.TestCase
TestFairOrderMachine.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, derandomize=True
)


def filled(entries: list[str]) -> FairOrder[int]:
    order = FairOrder[int](10_000, 10_000)
    for number, key in enumerate(entries):
        order.add(number, key, WEIGHTS[key])
    return order


def test_fair_order_takes_turns() -> None:
    """Whoever came first with much does not keep those waiting who came later with little."""
    entries = ["a"] * 5 + ["b"] * 2 + ["c"] * 5
    order = filled(entries)
    taken = "".join(entries[order.pop_next()] for _ in entries)
    assert taken == "abccabccacaa"


def test_fair_order_keeps_the_fraction_of_a_weight() -> None:
    """A weight of three and a half is three in one turn, and four in the next."""
    entries = ["d"] * 14 + ["a"] * 4
    order = filled(entries)
    taken = "".join(entries[order.pop_next()] for _ in entries)
    assert taken == "dddadddd" + "a" + "ddda" + "dddd" + "a"


def test_fair_order_saves_nothing_up_for_who_is_away() -> None:
    """A key that leaves in the middle of its turn comes back without what was left of it."""
    order = FairOrder[str](10, 10)
    order.add("d1", "d", 3.5)
    order.pop_next()  # two and a half were left
    for name in ("a1", "d2", "d3", "d4", "d5", "a2"):
        order.add(name, name[0], WEIGHTS[name[0]])
    assert [order.pop_next() for _ in range(6)] == ["a1", "d2", "d3", "d4", "a2", "d5"]


@given(
    before=st.lists(st.sampled_from(KEYS), max_size=30),
    key=st.sampled_from(KEYS),
    taken=st.integers(0, 10),
)
def test_fair_order_never_predicts_too_little(before: list[str], key: str, taken: int) -> None:
    """With nobody coming after it, an entry is taken when it was predicted, or before."""
    order = filled(before)
    for _ in range(min(taken, len(before))):
        order.pop_next()
    predicted = order.ahead(key, WEIGHTS[key])
    order.add(-1, key, WEIGHTS[key])
    ahead = 0
    while order.pop_next() != -1:
        ahead += 1
    assert ahead <= predicted


@given(
    backlog=st.integers(0, 20),
    steps=st.lists(st.tuples(st.sampled_from("abd"), st.booleans()), min_size=30, max_size=120),
)
def test_fair_order_bounds_overtaking(backlog: int, steps: list[tuple[str, bool]]) -> None:
    """Between two turns of a key that always has something, others take their weights at most.

    However much the others put in at the worst moments, and however often they go away and return.
    """
    order = FairOrder[tuple[str, int]](10_000, 10_000)
    for number in range(backlog):
        order.add(("d", -number - 1), "d", WEIGHTS["d"])
    for number in range(3):
        order.add(("c", -number - 1), "c", WEIGHTS["c"])
    waiting: list[tuple[str, int]] = []
    between: Counter[str] = Counter()
    turn = 0
    for number, (key, leaves) in enumerate(steps):
        entry = (key, number)
        order.add(entry, key, WEIGHTS[key])
        if leaves:
            order.remove(entry, key)
        else:
            waiting.append(entry)
        taken, _ = order.pop_next()
        if taken == "c":
            order.add(("c", number + 1_000), "c", WEIGHTS["c"])
            turn = turn % 2 + 1  # it takes two in each turn of its own
            if turn == 1:
                between.clear()
            else:
                assert not between, "nobody comes between the two of one turn"
        else:
            between[taken] += 1
            for other, count in between.items():
                assert count <= math.ceil(WEIGHTS[other])


def test_fair_order_forgets_keys_that_have_nothing() -> None:
    """What a key takes in memory goes with its last entry, however it goes."""
    order = FairOrder[int](10, 10)
    for number in range(1_000):
        order.add(number, f"taken {number}", 2.5)
        order.pop_next()
        order.add(number, f"left {number}", 1.0)
        order.remove(number, f"left {number}")
    assert order.keys == 0
    assert order.ahead("somebody", 1.0) == 0
    assert order._most_a_round == 0
