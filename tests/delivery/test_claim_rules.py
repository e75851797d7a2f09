"""How much a pipeline takes at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.delivery._claim_rules import MOST_LOOK_AHEAD, Pace, claim_size


@pytest.mark.parametrize(
    ("mean_seconds", "expected"),
    [(None, 0), (0.0, 40), (0.001, 40), (0.05, 40), (0.1, 20), (0.5, 4), (2.0, 1), (15.0, 0)],
)
def test_look_ahead_is_a_tenth_of_a_second(mean_seconds: float | None, expected: int) -> None:
    """As many as 20 workers get through in that time, and never more than two for each."""
    assert Pace(mean_seconds).look_ahead(20) == expected


def test_pace_follows_a_change() -> None:
    """Within some twenty sends it has most of it."""
    pace = Pace().sent(0.01)
    assert pace.mean_seconds == 0.01
    for _ in range(22):
        pace = pace.sent(1.0)
    assert pace.mean_seconds is not None
    assert pace.mean_seconds > 0.9


@pytest.mark.parametrize(
    ("held", "look_ahead", "expected"),
    [
        (0, 0, 20),  # everybody is free
        (19, 0, 1),  # slow sends: each free worker at once
        (20, 0, 0),
        (20, 40, 40),
        (40, 40, 20),  # quick ones: half of the look-ahead is worth a claim
        (41, 40, 0),
        (70, 40, 0),  # the look-ahead has shrunk meanwhile
    ],
)
def test_claim_is_as_large_as_there_is_room(held: int, look_ahead: int, expected: int) -> None:
    """And is worth its round trip, where sends are quick."""
    assert claim_size(parallel=20, held=held, look_ahead=look_ahead) == expected


@given(
    parallel=st.integers(1, 100),
    held=st.integers(0, 300),
    mean=st.none() | st.floats(0, 1e6),
)
def test_claim_never_overfills_nor_starves(parallel: int, held: int, mean: float | None) -> None:
    """Never more than can be held; and something, whenever a worker has nothing."""
    look_ahead = Pace(mean).look_ahead(parallel)
    size = claim_size(parallel=parallel, held=held, look_ahead=look_ahead)
    assert 0 <= look_ahead <= MOST_LOOK_AHEAD * parallel
    assert size == 0 or size + held <= parallel + look_ahead
    if held < parallel:
        assert size >= 1
