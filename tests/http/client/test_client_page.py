"""The client's page: its programs run, and print what they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import trio

from ._upstream import Talk, ok, upstream

PROGRAMS = re.findall(
    r"```python\n(.*?)```",
    (Path(__file__).resolve().parents[3] / "docs/http-client.md").read_text(),
    re.DOTALL,
)


async def service(talk: Talk) -> None:
    while (request := await talk.request()) is not None:
        await talk.send(ok(b"hello" if request.method == "GET" else request.body))


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
async def test_program_of_the_page_prints_what_it_says(
    program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each line that has a comment beside its ``print`` is printed, in that order."""
    assert program.endswith("\n\n\ntrio.run(main)\n")
    async with upstream(service) as there:
        # The page's port is anybody's; the one here is free.
        source = program.removesuffix("trio.run(main)\n").replace(":8000", f":{there.port}")
        names: dict[str, Any] = {"trio": trio}
        exec(compile(source, "http-client.md", "exec"), names)  # noqa: S102
        await names["main"]()
        expected = re.findall(r"^ *print\(.*\)  # (.*)$", source, re.MULTILINE)
    printed = capsys.readouterr().out.splitlines()
    assert expected
    assert [line for line in printed if line in expected] == expected


def test_page_has_programs() -> None:
    """The test above has something to run."""
    assert len(PROGRAMS) >= 4
