"""The worker pool's example does what its page says."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import trio.testing


async def test_worker_pool_example_prints_what_it_should(
    autojump_clock: trio.testing.MockClock, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run on the mock clock: results, places taken by the urgent, turns, and a drained end."""
    example = runpy.run_path(str(repository / "docs" / "examples" / "worker_pool.py"))
    await example["main"]()
    assert capsys.readouterr().out.splitlines() == [
        "result: <home>",
        "error: no such page",
        "report was shed: something more urgent came",
        "another report was refused",
        "running after 0 s",
        "password reset after 1 s",
        "newsletter after 2 s",
        "refused: 200; modest was number 2 of 801",
        "completed: 3",
        "the worker pool last is closed",
    ]
