"""What a mutation check found. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence

import attrs

LEAST_RATE = 0.95
"""Share of all mutants that the tests have to catch."""


@attrs.frozen
class Survivor:
    """A change that no test noticed."""

    line: int
    before: str
    after: str


@attrs.frozen
class FileResult:
    """What became of the mutants of one module.

    Attributes:
        timed_out: those of the killed that did not end.
        seconds: how long it took.
    """

    file: str
    mutants: int
    killed: int
    timed_out: int
    survivors: tuple[Survivor, ...]
    seconds: float

    @property
    def rate(self) -> float:
        """Share of the mutants that the tests caught; 1 where there are none."""
        return rate(self.killed, self.mutants)


def rate(killed: int, mutants: int) -> float:
    """Share of ``mutants`` that were killed; 1 where there are none."""
    return killed / mutants if mutants else 1.0


def total_rate(results: Sequence[FileResult]) -> float:
    """Share of all mutants of all modules that the tests caught."""
    return rate(sum(r.killed for r in results), sum(r.mutants for r in results))


def as_json(results: Sequence[FileResult]) -> str:
    """The results as a document, one object a module, and the total."""
    files = [{**attrs.asdict(result), "rate": round(result.rate, 4)} for result in results]
    total = {
        "mutants": sum(result.mutants for result in results),
        "killed": sum(result.killed for result in results),
        "rate": round(total_rate(results), 4),
        "least_rate": LEAST_RATE,
    }
    return json.dumps({"total": total, "files": files}, indent=2) + "\n"
