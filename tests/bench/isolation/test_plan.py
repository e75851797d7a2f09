"""The phases of a run and the schedule of its steady requests."""

from __future__ import annotations

import pytest

from bench.isolation.plan import ALONE, FLOODED, WARM_UP, Plan, due_times

PLAN = Plan(warm_up=2.0, alone=8.0, flooded=10.0)


@pytest.mark.parametrize(
    ("instant", "phase"),
    [(0.0, WARM_UP), (1.999, WARM_UP), (2.0, ALONE), (9.999, ALONE), (10.0, FLOODED)],
)
def test_plan_phase_begins_at_its_first_instant(instant: float, phase: str) -> None:
    """An instant at the border of two phases belongs to the later one."""
    assert PLAN.phase_at(instant) == phase


def test_plan_phases_add_up() -> None:
    """The flood starts when alone is over, and the end is the sum of all phases."""
    assert PLAN.flood_start == 10.0
    assert PLAN.end == 20.0 == sum(PLAN.duration(phase) for phase in (WARM_UP, ALONE, FLOODED))


def test_plan_for_flood_lasts_as_long_as_asked() -> None:
    """The length that is asked for is the flood's."""
    assert Plan.for_flood(10.0) == PLAN


@pytest.mark.parametrize(("rate", "seconds"), [(50.0, 20.0), (1.0, 3.0), (33.3, 10.0)])
def test_schedule_has_one_request_in_each_slot(rate: float, seconds: float) -> None:
    """The number of requests is exact, and each is due in the slot that is its own."""
    due = due_times(rate, seconds, seed="1")
    assert len(due) == round(rate * seconds)
    assert all(slot / rate <= at < (slot + 1) / rate for slot, at in enumerate(due))


def test_schedule_of_the_same_seed_is_the_same() -> None:
    """A run can be repeated; another seed gives another schedule."""
    assert due_times(50, 5, seed="1/pro") == due_times(50, 5, seed="1/pro")
    assert due_times(50, 5, seed="1/pro") != due_times(50, 5, seed="1/enterprise")
