"""What comes of a run: what fails it, and what its reader should know. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

IDLE_LOAD = 0.5
"""The load average up to which a machine counts as idle: a desktop that nobody uses has less."""


@attrs.frozen
class Verdict:
    """``failures`` fail the run; ``warnings`` are for whoever reads its figures."""

    failures: tuple[str, ...]
    warnings: tuple[str, ...]


def joined(verdicts: Sequence[tuple[str, Verdict]], warnings: Sequence[str]) -> Verdict:
    """The verdicts of a run's parts in one, each text under its part's name.

    ``warnings`` are those of the run as a whole, and come first.
    """
    return Verdict(
        tuple(f"{name}: {text}" for name, v in verdicts for text in v.failures),
        (*warnings, *(f"{name}: {text}" for name, v in verdicts for text in v.warnings)),
    )


def load_warnings(load_average: float) -> list[str]:
    """What to say of a machine with this load average just before the run; best: nothing."""
    if load_average <= IDLE_LOAD:
        return []
    return [
        f"the machine was not idle when the run began (load average {load_average:.1f}), so"
        f" something else may have taken part in it"
    ]
