"""The example of a circuit breaker."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from trio.testing import MockClock


async def test_breaker_example(
    repository: Path, capsys: pytest.CaptureFixture[str], autojump_clock: MockClock
) -> None:
    """It opens, probes in vain, probes again later, and closes; in between nobody waits."""
    example = runpy.run_path(str(repository / "docs/examples/breaker.py"))
    await example["main"]()
    lines = capsys.readouterr().out.splitlines()
    moves = [line.split(": ")[1] for line in lines if " -> " in line]
    assert moves == [
        "CLOSED -> OPEN", "OPEN -> HALF_OPEN", "HALF_OPEN -> OPEN", "OPEN -> HALF_OPEN",
        "HALF_OPEN -> CLOSED",
    ]  # fmt: skip
    rounds = [line for line in lines if " s " in line[:6]]
    assert len(rounds) == 16
    assert [line for line in rounds if "not asked" in line] == [
        "3.0 s not asked, again in 0.7 s",
        "3.5 s not asked, again in 0.2 s",
        "4.5 s not asked, again in 1.7 s",
        "5.0 s not asked, again in 1.2 s",
        "5.5 s not asked, again in 0.7 s",
        "6.0 s not asked, again in 0.2 s",
    ]
    assert rounds[0] == "0.0 s 24 degrees"
    assert rounds[-1] == "7.5 s 24 degrees"
    assert lines[-1] == "10 calls, 3 failed, 6 spared"
