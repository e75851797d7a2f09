"""From processor times to microseconds an operation."""

from __future__ import annotations

import pytest

from bench.overhead.figures import (
    Figure,
    Plan,
    Round,
    operations_for,
    overhead,
    per_operation,
    summarise,
    turn,
)

BARE = {"loop": 1_000, "await": 500, "checkpoint": 100}


def rounds(*own: int, slow: int = 1) -> list[Round]:
    """Rounds in which 100 operations of the subject take ``own`` ns; all of it ``slow`` times."""
    bare = {"loop": 20_000, "await": 50_000, "checkpoint": 402_000}
    return [Round({n: t * slow for n, t in {**bare, "subject": ns}.items()}) for ns in own]


def cost(plan: Plan, measured: list[Round]) -> Figure:
    return overhead("subject", {"subject": plan}, BARE, "checkpoint", measured)


def test_figure_is_the_median_between_its_quartiles() -> None:
    """One round that went wrong moves none of the three far."""
    assert summarise([1.0, 2.0, 3.0, 4.0, 500.0]) == Figure(3.0, 2.0, 4.0, 5)


def test_figure_of_too_few_rounds_is_refused() -> None:
    """Two values have no median worth the name."""
    with pytest.raises(ValueError, match="3 rounds or more"):
        summarise([1.0, 2.0])
    assert summarise([1.0, 2.0, 3.0]).median == 2.0


def test_operation_is_a_block_divided_by_its_operations() -> None:
    """Nanoseconds of a block come out as microseconds of an operation."""
    assert per_operation(4_000_000, 2_000) == 2.0


def test_overhead_is_what_is_above_the_bare_call() -> None:
    """3 us less the 0.1 us of the bare call."""
    assert cost(Plan(100, "await"), rounds(300_000, 300_000, 300_000)).median == pytest.approx(2.9)


def test_overhead_leaves_the_checkpoints_out() -> None:
    """A checkpoint is 4.02 us less 0.02 of the loop round it; two of them are subtracted."""
    found = cost(Plan(100, "await", checkpoints=2), rounds(*(1_000_000,) * 3))
    assert found.median == pytest.approx(10.0 - 0.1 - 2 * 4.0)


def test_overhead_takes_each_round_by_itself() -> None:
    """A round in which all was ten times slower counts as one bad round, not in a mixture."""
    found = cost(Plan(100, "await"), [*rounds(*(300_000,) * 4), *rounds(300_000, slow=10)])
    assert found.median == found.high == pytest.approx(2.9)


def test_turns_begin_one_further_each_round() -> None:
    """Everybody is first once, and nobody is left out."""
    names = ["a", "b", "c"]
    orders = [turn(names, number) for number in range(4)]
    assert orders == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]
    assert turn([], 3) == []


def test_blocks_are_filled_within_limits() -> None:
    """4 ms at 2 us are 2,000 operations; what is very slow or very fast has its bounds."""
    assert operations_for(0.004, 2e-6) == 2_000
    assert operations_for(0.004, 1.0) == 20
    assert operations_for(0.004, 1e-9) == 50_000
    assert operations_for(0.004, 0.0) == 50_000
