"""Single flight's rules: how long a result lives, which are kept, whose failure it was."""

from __future__ import annotations

import math

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bulkhead_trio.policies._single_flight_rules import (
    Age,
    Kept,
    Lifetime,
    Shelf,
    may_still_make_it,
)


@pytest.mark.parametrize(
    ("now", "age"),
    [
        (100.0, Age.FRESH),
        (109.9, Age.FRESH),
        (110.0, Age.STALE),
        (114.9, Age.STALE),
        (115.0, Age.GONE),
        (999.0, Age.GONE),
    ],
)
def test_lifetime_ages_at_its_bounds(now: float, age: Age) -> None:
    """Fresh before the ttl has passed, stale before the rest has, gone from then on."""
    assert Lifetime(ttl=10.0, stale=5.0).age(100.0, now) is age


def test_lifetime_without_a_stale_time_goes_from_fresh_to_gone() -> None:
    """There is no moment between."""
    assert Lifetime(ttl=10.0).age(0.0, 9.9) is Age.FRESH
    assert Lifetime(ttl=10.0).age(0.0, 10.0) is Age.GONE


def test_shelf_the_one_kept_longest_ago_makes_room() -> None:
    """Keeping a key again makes it the newest; looking does not."""
    shelf = Shelf[str](2, Lifetime(10.0))
    shelf.keep("a", "1", 0.0)
    shelf.keep("b", "2", 1.0)
    assert len(shelf) == 2
    shelf.keep("a", "3", 2.0)
    assert shelf.look("b", 2.0) == (Age.FRESH, Kept("2", 1.0))
    shelf.keep("c", "4", 3.0)
    assert shelf.look("b", 3.0) == (Age.GONE, None)
    assert shelf.look("a", 3.0) == (Age.FRESH, Kept("3", 2.0))
    assert len(shelf) == 2


def test_shelf_of_one_place_keeps_the_newest() -> None:
    """One place is a place."""
    shelf = Shelf[int](1, Lifetime(10.0))
    shelf.keep("a", 1, 0.0)
    assert len(shelf) == 1
    shelf.keep("b", 2, 0.0)
    assert (len(shelf), shelf.look("b", 0.0)[1]) == (1, Kept(2, 0.0))


def test_shelf_lets_go_of_what_is_gone() -> None:
    """When it is looked for, and when something else is kept."""
    shelf = Shelf[int](9, Lifetime(10.0, 5.0))
    for number in range(3):
        shelf.keep(number, number, float(number))
    assert shelf.look(1, 11.0) == (Age.STALE, Kept(1, 1.0))
    assert shelf.look(2, 17.0) == (Age.GONE, None)
    assert len(shelf) == 2
    shelf.keep("new", 9, 16.0)
    assert len(shelf) == 1
    shelf.drop("new")
    shelf.drop("new")
    assert len(shelf) == 0


class ShelfMachine(RuleBasedStateMachine):
    """Three places, five keys, against a list of what was kept."""

    def __init__(self) -> None:
        super().__init__()
        self.shelf = Shelf[int](3, Lifetime(4, 3))
        self.model: list[tuple[int, int, int]] = []
        self.now = 0
        self.count = 0

    def held(self) -> dict[int, tuple[int, int]]:
        return {key: (value, at) for key, value, at in self.model[-3:] if self.now < at + 7}

    @rule(seconds=st.integers(1, 8))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(key=st.integers(0, 4))
    def keep(self, key: int) -> None:
        self.count += 1
        self.shelf.keep(key, self.count, self.now)
        self.model = [one for one in self.model if one[0] != key][-3:]
        self.model = [one for one in self.model if self.now < one[2] + 7]
        self.model.append((key, self.count, self.now))
        self.model = self.model[-3:]

    @rule(key=st.integers(0, 4))
    def drop(self, key: int) -> None:
        self.shelf.drop(key)
        self.model = [one for one in self.model if one[0] != key]

    @rule(key=st.integers(0, 4))
    def look(self, key: int) -> None:
        age, kept = self.shelf.look(key, self.now)
        held = self.held().get(key)
        if held is None:
            assert (age, kept) == (Age.GONE, None)
        else:
            assert kept == Kept(*held)
            assert age is (Age.FRESH if self.now < held[1] + 4 else Age.STALE)

    @invariant()
    def is_bounded(self) -> None:
        assert len(self.held()) <= len(self.shelf) <= 3


TestShelf = ShelfMachine.TestCase


@pytest.mark.parametrize(
    ("waiter", "leader", "now", "was_refused", "may"),
    [
        (20.0, 10.0, 10.0, False, True),  # the leader's time is up, the waiter's is not
        (20.0, 10.0, 9.9, False, False),  # a limit further in has ended it
        (10.0, 10.0, 10.0, False, False),  # the waiter has no more than the leader had
        (9.0, 10.0, 10.0, False, False),
        (20.0, 10.0, 5.0, True, True),  # refused for what the leader had left
        (10.0, 10.0, 5.0, True, False),
        (math.inf, math.inf, 5.0, True, False),
        (math.inf, -math.inf, 5.0, False, True),  # the leader was cancelled meanwhile
    ],
)
def test_failure_for_want_of_time_is_the_leaders_own_where_the_waiter_has_more(
    waiter: float, leader: float, now: float, was_refused: bool, may: bool
) -> None:
    """Everybody else would meet the same end, one after the other."""
    found = may_still_make_it(
        waiter_deadline=waiter, leader_deadline=leader, now=now, was_refused=was_refused
    )
    assert found is may
