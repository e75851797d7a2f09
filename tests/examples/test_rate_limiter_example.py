"""The rate limiter's example does what its page says."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import trio.testing


async def test_rate_limiter_example_prints_what_it_should(
    autojump_clock: trio.testing.MockClock, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run on the mock clock, it allows, refuses and paces just so."""
    example = runpy.run_path(str(repository / "docs" / "examples" / "rate_limiter.py"))
    await example["main"]()
    assert capsys.readouterr().out.splitlines() == [
        "report: 1 of 2 left",
        "report: 0 of 2 left",
        "report: refused, again in 1.0 s",
        "hello, ada",
        "ada: api for 'ada' allows 1 per 1 seconds",
        "hello, bob",
        "hello, monitoring",
        "hello, monitoring",
        "mail 0 after 0.00 s",
        "mail 1 after 0.05 s",
        "mail 2 after 0.10 s",
        "mail 3 after 0.15 s",
    ]
