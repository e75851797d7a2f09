"""The buckets in which keys wait to be forgotten."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.policies.rate._rest_rules import LARGEST_NUMBER, RestOrder


def test_order_width_is_a_part_of_the_longest_debt() -> None:
    """A 4096th of it, and never below a millisecond."""
    assert RestOrder[int](4096 * 3.0).width == 3.0
    assert RestOrder[int](0.5).width == 0.001


def test_order_key_is_due_after_its_moment() -> None:
    """Not before its moment, and within a bucket's width after it."""
    order = RestOrder[str](4096.0)
    assert order.first_due() == math.inf
    order.add("late", 7.5)
    order.add("soon", 2.0)
    order.add("soon too", 2.9)
    assert order.first_due() == 3.0
    assert order.take_due(2.999, 10) == []
    assert sorted(order.take_due(3.0, 10)) == ["soon", "soon too"]
    assert order.first_due() == 8.0
    assert order.take_due(8.0, 10) == ["late"]
    assert order.first_due() == math.inf


def test_order_gives_no_more_than_asked() -> None:
    """What is not taken stays due, across buckets."""
    order = RestOrder[int](4096.0)
    for key in range(5):
        order.add(key, key / 2)
    assert order.take_due(100.0, 0) == []
    taken = [order.take_due(100.0, 2) for _ in range(4)]
    assert [len(keys) for keys in taken] == [2, 2, 1, 0]
    assert sorted(key for keys in taken for key in keys) == [0, 1, 2, 3, 4]


def test_order_moment_at_the_end_of_floats() -> None:
    """A moment beyond all buckets is the last one."""
    order = RestOrder[int](1.0)
    order.add(1, 1e308)
    assert order.first_due() == (LARGEST_NUMBER + 1) * order.width


@given(st.lists(st.tuples(st.floats(0, 1000), st.integers(0, 5)), max_size=60))
def test_order_loses_no_key(steps: list[tuple[float, int]]) -> None:
    """Every key comes out once, not before its moment, in the order of buckets."""
    order, moments = RestOrder[int](500.0), dict[int, float]()
    for key, (moment, most) in enumerate(steps):
        order.add(key, moment)
        moments[key] = moment
        for due in order.take_due(500.0, most):
            assert moments.pop(due) <= 500.0
    rest = order.take_due(1e6, 1000)
    assert sorted(rest) == sorted(moments)
    numbers = [int(moments[key] / order.width) for key in rest]
    assert numbers == sorted(numbers)
