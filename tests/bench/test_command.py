"""What the benchmarks' commands share: how a run is written, and how the process ends."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from bench.command import OnPart, end, ending_if_failed, gather_with_bar, write_results
from bench.failures import RunFailed
from bench.verdict import Verdict


def console() -> tuple[Console, io.StringIO]:
    """A console, and what is printed on it."""
    printed = io.StringIO()
    return Console(file=printed, width=100), printed


def test_results_are_written_into_a_directory_that_was_not_there(tmp_path: Path) -> None:
    """As JSON and as Markdown, by the benchmark's name."""
    as_json, as_markdown = write_results(tmp_path / "a" / "b", "http", {"rounds": 3}, "# É\n")
    assert json.loads(as_json.read_bytes()) == {"rounds": 3}
    assert as_markdown.read_text(encoding="utf-8") == "# É\n"
    assert [as_json.name, as_markdown.name] == ["http.json", "http.md"]


@pytest.mark.parametrize(("failures", "code"), [((), 0), (("too slow",), 1)])
def test_process_ends_as_the_verdict_has_it(failures: tuple[str, ...], code: int) -> None:
    """Warnings, the conclusion and where to look are printed in both cases."""
    to, printed = console()
    with pytest.raises(SystemExit) as ended:
        end(Verdict(failures, ("busy",)), "So it is.", [Path("out/a.json"), Path("out/a.md")], to)
    assert ended.value.code == code
    assert printed.getvalue() == "Note: busy.\nSo it is.\nWritten to out: a.json, a.md\n"


def test_failed_run_ends_the_process_with_its_exit_code() -> None:
    """Its text is printed as it is, brackets and all."""
    to, printed = console()
    with pytest.raises(SystemExit) as ended, ending_if_failed(to):
        raise RunFailed("no [wrk]", exit_code=7)
    assert ended.value.code == 7
    assert printed.getvalue() == "FAILED: no [wrk]\n"


def test_gathering_with_a_bar_returns_what_was_gathered() -> None:
    """Parts and steps are the bar's; an expected error is a failed run."""

    async def gather(plan: int, on_part: OnPart) -> int:
        on_part("A part", 1)("a step")
        if plan < 0:
            raise ValueError("too little")
        return plan + 1

    assert gather_with_bar(gather, 1, (ValueError,)) == 2
    with pytest.raises(RunFailed, match="too little"):
        gather_with_bar(gather, -1, (ValueError,))
