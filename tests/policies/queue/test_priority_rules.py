"""The order of priorities, against a list that is sorted anew at every step."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from bulkhead_trio.policies.queue._priority_rules import PriorityOrder

PRIORITIES = st.integers(-2, 3)


class PriorityOrderMachine(RuleBasedStateMachine):
    """Adds, takes and removes at random; the model is a list of (priority, number)."""

    def __init__(self) -> None:
        super().__init__()
        self.model: list[tuple[int, int]] = []
        self.numbers = 0

    @initialize(places=st.integers(0, 6))
    def begin(self, places: int) -> None:
        self.order = PriorityOrder[int](places)

    @rule(priority=PRIORITIES)
    def add(self, priority: int) -> None:
        is_full = len(self.model) >= self.order.places
        least = max((each for each, _ in self.model), default=priority)
        room = not is_full or priority < least
        assert self.order.has_room(priority) is room
        if not room:
            return
        self.numbers += 1
        displaced = self.order.add(self.numbers, priority)
        if is_full:
            loser = max(self.model)  # the newest of the least urgent
            self.model.remove(loser)
            assert displaced == loser[1]
        else:
            assert displaced is None
        self.model.append((priority, self.numbers))

    @precondition(lambda self: self.model)
    @rule()
    def take(self) -> None:
        first = min(self.model)
        self.model.remove(first)
        assert self.order.pop_next() == first[1]

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        leaver = data.draw(st.sampled_from(self.model))
        self.model.remove(leaver)
        self.order.remove(leaver[1], leaver[0])

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "order"):
            return
        assert len(self.order) == len(self.model) <= self.order.places
        for priority in range(-3, 5):
            ahead = sum(each <= priority for each, _ in self.model)
            assert self.order.ahead(priority) == ahead


TestPriorityOrderMachine = PriorityOrderMachine.TestCase
TestPriorityOrderMachine.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, derandomize=True
)


def test_priority_order_keeps_nothing_of_what_has_left() -> None:
    """However much has come and gone, only what is there takes room."""
    order = PriorityOrder[int](10)
    for number in range(1_000):
        order.add(number, priority=number)
        order.remove(number, priority=number)
    assert len(order) == 0
    assert order._priorities == []
    assert order._by_priority == {}


@pytest.mark.parametrize("places", [1, 3])
def test_priority_order_displaces_the_newest_of_the_least_urgent(places: int) -> None:
    """Who has waited longest among the least urgent is the last of them to go."""
    order = PriorityOrder[str](places)
    for number in range(places):
        order.add(f"low {number}", priority=2)
    gone = [order.add(f"high {number}", priority=0) for number in range(places)]
    assert gone == [f"low {number}" for number in reversed(range(places))]
    assert not order.has_room(0)
    assert order.has_room(-1)
