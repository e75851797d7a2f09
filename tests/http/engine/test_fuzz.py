"""The fuzz of the core, for a short time, from a fixed seed; ``make fuzz`` goes on for longer."""

from __future__ import annotations

import os

from .fuzz import without_coverage

SECONDS = float(os.environ.get("FUZZ_SECONDS", "20"))


def test_fuzz_finds_nothing() -> None:
    """No exception but a refusal, no unbounded buffer, no doubt about what was meant."""
    assert without_coverage(SECONDS, seed=9112) > 100 * SECONDS
