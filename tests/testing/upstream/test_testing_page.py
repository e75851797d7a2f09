"""The page's examples do what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from trio.testing import MockClock

from bulkhead_trio.testing.upstream import read_script


def blocks(repository: Path, language: str) -> list[str]:
    text = (repository / "docs" / "testing.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


async def test_example_prints_what_it_says(
    repository: Path, capsys: pytest.CaptureFixture[str], autojump_clock: MockClock
) -> None:
    """Every line, in virtual time."""
    (code,) = blocks(repository, "python")
    names: dict[str, object] = {}
    exec(compile(code, "docs/testing.md", "exec"), names)  # noqa: S102  our own page
    await names["main"]()  # type: ignore[operator]
    assert capsys.readouterr().out.split("\n") == [
        "500", "500", "200", "500", "b'at last'", "30", "broken", "broken", "200",
        "/anything?a=b 1", "",
    ]  # fmt: skip


def test_script_of_the_page_can_be_read(repository: Path) -> None:
    """As JSON, with all its rules."""
    (text,) = blocks(repository, "json")
    assert len(read_script(text).rules) == 4
