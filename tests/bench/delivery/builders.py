"""Runs that never took place."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from bench.delivery.claiming import ClaimPoint, ClaimResult
from bench.delivery.figures import RateResult, Turn
from bench.delivery.report import Run
from bench.delivery.verdict import judge
from bench.machine import Machine

MACHINE = Machine(2, "a processor", 1 << 33, "Linux x86_64", "CPython 3.11.7", {"trio": "0.30"})


def a_turn(per_second: float, *, seconds: float = 10, refused: int = 0, **cpu: float) -> Turn:
    """A turn at this rate; the processor time of whom is named, in cores."""
    used = {who: cores * seconds for who, cores in cpu.items()}
    return Turn(int(per_second * seconds), seconds, used, refused, 1.5, 9.25)


def a_rate(*rates: float, bar: float | None = 1_000.0, **changes: object) -> RateResult:
    """A result with turns at these rates."""
    turns = [a_turn(rate, server=0.95, PostgreSQL=0.5, receiver=0.2) for rate in rates]
    result = RateResult("one-process", "Deliveries, one process", "deliveries", bar, turns)
    return attrs.evolve(result, **changes)  # type: ignore[arg-type]


def some_claims(*medians: float) -> ClaimResult:
    """Claims over ten times as much each."""
    points = [
        ClaimPoint(1_000 * 10**n, 20.0, each, 2 * each, 3 * each) for n, each in enumerate(medians)
    ]
    return ClaimResult("many", points)


def a_run(*rates: RateResult, claims: Sequence[ClaimResult] = ()) -> Run:
    """A run of these."""
    verdict = judge(rates, claims, ["the machine was busy"])
    return Run("2026-02-11T12:00:00+00:00", MACHINE, "18.0", rates, claims, verdict)
