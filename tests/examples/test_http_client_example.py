"""The HTTP client's example does what its page says."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import trio.testing


async def test_http_client_example_prints_what_it_should(
    autojump_clock: trio.testing.MockClock, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What hangs costs its own callers their time, and nobody else anything."""
    example = runpy.run_path(str(repository / "docs" / "examples" / "http_client.py"))
    await example["main"]()
    assert capsys.readouterr().out.splitlines() == [
        "news: bulkhead_full after 0 s",
        "weather: 24 degrees after 0 s",
        "weather: 24 degrees after 0 s",
        "weather: 24 degrees after 0 s",
        "news: upstream_timeout after 3 s",
        "news: upstream_timeout after 3 s",
        "news: 2 asked, 1 spared",
        "weather: 1 connection",
        "elsewhere: 2 endpoints, and none has it",
    ]
