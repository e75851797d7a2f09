"""Restarts: at once for who lived long, later and later for who did not, and not for ever."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.workers._restart_rules import (
    FIRST_DELAY_SECONDS,
    LONGEST_DELAY_SECONDS,
    MOST_FAILED_STARTS,
    YOUNG_SECONDS,
    Restarts,
)


def test_old_worker_is_replaced_at_once() -> None:
    """A worker that has served for long says nothing of the next one."""
    young = Restarts().ended(lived=1.0, was_ready=True)
    assert young.delay == FIRST_DELAY_SECONDS
    assert young.ended(lived=YOUNG_SECONDS, was_ready=True).delay == 0


@given(st.lists(st.floats(0, YOUNG_SECONDS, exclude_max=True), min_size=1, max_size=100))
def test_young_deaths_in_a_row_wait_longer_and_longer(lives: list[float]) -> None:
    """The delay doubles up to its bound; nobody who has served is given up."""
    restarts = [Restarts()]
    for lived in lives:
        restarts.append(restarts[-1].ended(lived=lived, was_ready=True))
    for before, after in pairwise(restarts[1:]):
        assert after.delay == min(2 * before.delay, LONGEST_DELAY_SECONDS)
    assert not any(each.is_hopeless for each in restarts)


def test_worker_that_is_never_ready_is_hopeless_after_some_starts() -> None:
    """However long each try takes; one that serves in between begins the count anew."""
    restarts = Restarts()
    for number in range(MOST_FAILED_STARTS):
        assert not restarts.is_hopeless, number
        restarts = restarts.ended(lived=60.0, was_ready=False)
        assert restarts.delay > 0
    assert restarts.is_hopeless
    assert not restarts.ended(lived=0.1, was_ready=True).is_hopeless
