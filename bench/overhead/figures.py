"""From the blocks' processor times to microseconds an operation. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import attrs

NANOSECONDS_A_MICROSECOND = 1000.0
LEAST_ROUNDS = 3


@attrs.frozen
class Figure:
    """A cost in microseconds over all rounds: the median, and the quartiles on both sides of it."""

    median: float
    low: float
    high: float
    rounds: int


@attrs.frozen
class Plan:
    """What a subject's blocks consist of, and what is to be subtracted from them.

    Attributes:
        operations: in a block.
        bare: name of the bare block that does the same without the subject.
        checkpoints: how many full checkpoints an operation has.
    """

    operations: int
    bare: str
    checkpoints: int = 0


@attrs.frozen
class Round:
    """Nanoseconds of processor time of every block in one round, by name."""

    blocks: Mapping[str, int]


def summarise(values: Sequence[float]) -> Figure:
    """The median of ``values``, and the quartiles.

    Raises:
        ValueError: there are fewer than `LEAST_ROUNDS`.
    """
    if len(values) < LEAST_ROUNDS:
        raise ValueError(f"{LEAST_ROUNDS} rounds or more are needed, not {len(values)}")
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Figure(median=median, low=low, high=high, rounds=len(values))


def per_operation(nanoseconds: int, operations: int) -> float:
    """Microseconds of one operation in a block."""
    return nanoseconds / operations / NANOSECONDS_A_MICROSECOND


def overhead(
    name: str,
    plans: Mapping[str, Plan],
    bare_operations: Mapping[str, int],
    checkpoint: str,
    rounds: Sequence[Round],
) -> Figure:
    """What subject ``name`` costs an operation, in microseconds.

    From each block the round's own bare block is subtracted, and the round's own cost of a
    checkpoint as often as the subject has one: what slows a machine down for a while slows both.

    Args:
        name: of the subject.
        plans: of all subjects.
        bare_operations: operations in each bare block, by its name.
        checkpoint: name of the bare block of which each operation is one checkpoint and nothing
            else; the bare block ``loop`` is subtracted from it.
        rounds: what was measured.
    """
    plan = plans[name]

    def bare(block: str, times: Round) -> float:
        return per_operation(times.blocks[block], bare_operations[block])

    costs = []
    for times in rounds:
        cost = per_operation(times.blocks[name], plan.operations) - bare(plan.bare, times)
        if plan.checkpoints:
            cost -= plan.checkpoints * (bare(checkpoint, times) - bare("loop", times))
        costs.append(cost)
    return summarise(costs)


def turn(names: Sequence[str], round_number: int) -> list[str]:
    """The order of one round: each begins one further, so that nobody always follows the same."""
    if not names:
        return []
    first = round_number % len(names)
    return [*names[first:], *names[:first]]


def operations_for(block_seconds: float, operation_seconds: float) -> int:
    """How many operations fill a block of that length; between 20 and 50,000."""
    if operation_seconds <= 0:
        return 50_000
    return max(20, min(50_000, round(block_seconds / operation_seconds)))
