"""The example of a request and what is done for it."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock


async def test_request_context_example(
    repository: Path, capsys: pytest.CaptureFixture[str], autojump_clock: MockClock
) -> None:
    """Every line knows its request, what is too late is not begun, and the deadline ends the rest.

    The two tasks of a request begin in any order.
    """
    example = runpy.run_path(str(repository / "docs/examples/request_context.py"))
    await example["main"]()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[nobody] nothing to do yet"
    assert lines[1:5] == [
        "[r-1 of acme] rows: 1.0 s left for them",
        "[r-1 of acme] rows: done",
        "[r-1 of acme/reports] report: done",
        "[r-1 of acme] answered",
    ]
    assert sorted(lines[5:7]) == [
        "[r-2 of umbrella/reports] report: not begun, the deadline is 1.000 s away,"
        " the report needs 3.000 s",
        "[r-2 of umbrella] rows: 1.0 s left for them",
    ]
    assert lines[7:] == ["[nobody] r-2: too late, the deadline has passed"]
    assert trio.current_time() == 1.5
