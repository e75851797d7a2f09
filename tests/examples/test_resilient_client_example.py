"""The example of a whole resilient client."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from trio.testing import MockClock


async def test_resilient_client_example(
    repository: Path, capsys: pytest.CaptureFixture[str], autojump_clock: MockClock
) -> None:
    """It answers within its deadline throughout, stops calling what hangs, and comes back."""
    example = runpy.run_path(str(repository / "docs/examples/resilient_client.py"))
    await example["main"]()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "price client"
    rounds = [line for line in lines if " s: " in line]
    assert len(rounds) == 12
    assert "3.99" in rounds[0]
    assert "2 tries" in rounds[0], "the first failure is retried"
    assert any("OPEN" in line and "unknown" in line for line in rounds)
    assert any("0 tries" in line for line in rounds), "an open breaker is not asked through"
    assert all("3.99" in line and "CLOSED" in line for line in rounds[-2:])
    assert all(float(line.split(" in ")[1].split()[0]) <= 1.0 for line in rounds)
