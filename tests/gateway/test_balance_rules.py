"""Sharing requests out: exact proportions, smoothly, and whoever is missing is passed over."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkhead_trio.gateway._balance_rules import (
    SLOWEST_START,
    Share,
    at_random,
    grown_weight,
    least_connections,
    smooth,
)

WEIGHTS = st.lists(st.integers(1, 20), min_size=1, max_size=8)


def shares(weights: list[int]) -> list[Share]:
    return [Share(float(weight)) for weight in weights]


def order(weights: list[int], times: int) -> list[int]:
    """Who is chosen, by index."""
    candidates = shares(weights)
    return [candidates.index(smooth(candidates)) for _ in range(times)]


def test_smooth_spreads_the_heavy_one_out() -> None:
    """The order that nginx gives in the description of the change that brought it."""
    assert "".join("abc"[each] for each in order([5, 1, 1], 14)) == "aabacaa" * 2


@given(count=st.integers(1, 9))
def test_smooth_of_equals_is_rotation(count: int) -> None:
    """Who weighs the same takes turns, in order."""
    assert order([3] * count, 3 * count) == [*range(count)] * 3


@given(weights=WEIGHTS, rounds=st.integers(1, 3))
def test_smooth_gives_exactly_what_is_due(weights: list[int], rounds: int) -> None:
    """After as many as the weights add up to, each has had as many as its weight says."""
    chosen = Counter(order(weights, rounds * sum(weights)))
    assert chosen == {index: rounds * weight for index, weight in enumerate(weights)}


@given(weights=st.lists(st.integers(1, 20), min_size=2, max_size=8))
def test_smooth_is_never_far_from_what_is_due(weights: list[int]) -> None:
    """At no time is anybody a whole request ahead; of two, nobody is a whole one behind either."""
    total = sum(weights)
    counts = [0] * len(weights)
    for number, index in enumerate(order(weights, 2 * total), start=1):
        counts[index] += 1
        for count, weight in zip(counts, weights, strict=True):
            ahead = count * total - number * weight
            assert -total * (len(weights) - 1) < ahead < total


@given(weights=st.lists(st.integers(1, 20), min_size=2, max_size=8), data=st.data())
def test_smooth_passes_over_who_is_missing(weights: list[int], data: st.DataObject) -> None:
    """While one is away, the others share what comes in their own proportions."""
    candidates = shares(weights)
    for _ in range(data.draw(st.integers(0, sum(weights)))):
        smooth(candidates)
    for each in candidates:
        each.credit = 0.0
    away = data.draw(st.integers(0, len(weights) - 1))
    rest = [each for index, each in enumerate(candidates) if index != away]
    due = sum(int(each.weight) for each in rest)
    chosen = Counter(smooth(rest) for _ in range(due))
    assert chosen == {each: each.weight for each in rest}


@given(weights=WEIGHTS)
def test_random_choice_is_in_proportion(weights: list[int]) -> None:
    """Points spread evenly hit each as often as its weight says."""
    candidates = shares(weights)
    total = sum(weights)
    chosen = Counter(at_random(candidates, (number + 0.5) / total) for number in range(total))
    assert chosen == {each: each.weight for each in candidates}


def test_random_choice_survives_rounding() -> None:
    """The largest random number there is still hits somebody."""
    candidates = [Share(0.1) for _ in range(10)]
    assert at_random(candidates, 1 - 2**-53) is candidates[-1]


@settings(max_examples=200)
@given(loads=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5)), min_size=1, max_size=8))
def test_least_connections_chooses_the_least_loaded(loads: list[tuple[int, int]]) -> None:
    """Nobody has fewer requests for its weight than who is chosen."""
    candidates = shares([weight for _, weight in loads])
    for each, (in_flight, _) in zip(candidates, loads, strict=True):
        each.in_flight = in_flight
    chosen = least_connections(candidates)
    assert chosen.in_flight / chosen.weight == min(
        in_flight / weight for in_flight, weight in loads
    )


def test_least_connections_rotates_among_the_idle() -> None:
    """Who has equally little takes turns by weight, so that a trickle is shared out too."""
    candidates = shares([3, 1, 1])
    chosen = [candidates.index(least_connections(candidates)) for _ in range(10)]
    assert Counter(chosen) == {0: 6, 1: 2, 2: 2}
    candidates[0].in_flight = 1
    assert {candidates.index(least_connections(candidates)) for _ in range(4)} == {1, 2}


@pytest.mark.parametrize(
    ("elapsed", "expected"), [(0.0, 0.4), (1.0, 0.4), (2.0, 0.8), (5.0, 2.0), (10.0, 4.0), (99, 4)]
)
def test_grown_weight_is_linear_from_a_tenth(elapsed: float, expected: float) -> None:
    """It grows with the time that has passed, and neither begins at nothing nor exceeds its own."""
    assert grown_weight(4.0, 100.0, 10.0, 100.0 + elapsed) == pytest.approx(expected)
    assert SLOWEST_START == 0.1
