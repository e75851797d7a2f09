"""What the tests of the overhead benchmark are made of."""

from __future__ import annotations

from bench.overhead.figures import Figure
from bench.overhead.harness import Measured
from bench.overhead.subjects import Block, Job, Role, Stage, Subject, stepping

OURS = "bulkhead-trio"


async def _never_prepared(_: Stage) -> Block:
    return stepping(lambda: None)


def subject(
    job: Job, package: str = OURS, label: str = "call", role: Role | None = None
) -> Subject:
    whose = role or (Role.OURS if package == OURS else Role.PEER)
    return Subject(job, package, label, whose, _never_prepared)


def figure(median: float, *, low: float | None = None, high: float | None = None) -> Figure:
    return Figure(median, median if low is None else low, median if high is None else high, 5)


def measured(
    job: Job,
    median: float,
    package: str = OURS,
    label: str = "call",
    *,
    role: Role | None = None,
    is_on_trio: bool = True,
) -> Measured:
    return Measured(subject(job, package, label, role), figure(median), 0, is_on_trio)
