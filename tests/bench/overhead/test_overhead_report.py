"""What a run shows, for the terminal, for a README and for programs."""

from __future__ import annotations

import io
import json

import attrs
import msgspec
from rich.console import Console

from bench.machine import Machine
from bench.overhead import jobs
from bench.overhead.exactness import Finding
from bench.overhead.harness import Measurement
from bench.overhead.memory import KeyMemory
from bench.overhead.report import (
    Run,
    conclusion,
    document,
    exactness_rows,
    experiments,
    markdown,
    memory_rows,
    sentences,
    speed_rows,
    terminal_tables,
    trial_rows,
)
from bench.overhead.stages import Trial
from bench.overhead.subjects import Role
from bench.verdict import Verdict

from .builders import OURS, figure, measured, subject

BREAKER = jobs.BREAKER
MACHINE = Machine(2, "A processor", 8 << 30, "Linux x86_64", "CPython 3.11.7", {"peer": "1.2.3"})
FINDINGS = (
    Finding("many at once", OURS, "call", True, "1 of 100 ran"),
    Finding("many at once", "peer", "call", False, "100 of 100 ran"),
)


def run() -> Run:
    return Run(
        finished_at="2026-01-01T00:00:00+00:00",
        machine=MACHINE,
        rounds=5,
        on_trio=Measurement(
            (
                measured(BREAKER, 1.0),
                measured(BREAKER, 2.5, label="async with"),
                measured(BREAKER, 4.0, "peer"),
                measured(BREAKER, 0.5, "trio", "Semaphore", role=Role.REFERENCE),
                measured(jobs.FAIR_QUEUE, 2.0, label="10 keys"),
                measured(jobs.FAIR_QUEUE, 2.4, label="100,000 keys"),
            ),
            figure(3.6),
        ),
        on_asyncio=Measurement((measured(BREAKER, 3.0, "other", is_on_trio=False),), figure(2.9)),
        trials=(
            Trial(subject(BREAKER, "peer"), None),
            Trial(subject(jobs.BREAKER_REFUSAL, "peer"), None),
            Trial(subject(BREAKER, "other"), "RuntimeError: no running event loop"),
        ),
        memory=(
            KeyMemory(OURS, "TokenBucket", 100_000, 134.4, 300.0),
            KeyMemory("peer", "FixedWindow", 100_000, None, None, "not installed (peer)"),
        ),
        findings=FINDINGS,
        verdict=Verdict(("breaker, async with: 2.50 us, and 2 are allowed",), ("busy",)),
    )


def test_speed_rows_put_ours_first_and_the_others_by_cost() -> None:
    """With the median, the quartiles, the ratio to our first row, and what is to be said of it."""
    rows = list(speed_rows(run().contests[0], FINDINGS))
    assert rows == [
        (OURS, "call", "1.00", "1.00 - 1.00", "×1.0", "<= 2: pass, ahead of all"),
        (OURS, "async with", "2.50", "2.50 - 2.50", "×2.5", "<= 2: FAIL"),
        ("trio", "Semaphore", "0.50", "0.50 - 0.50", "×0.5", "for reference"),
        ("other", "call", "3.00", "3.00 - 3.00", "×3.0", "asyncio only"),
        ("peer", "call", "4.00", "4.00 - 4.00", "×4.0", "not exact: see below"),
    ]
    wrong_on_trio = [Finding("many at once", "other", "call", False, "OSError")]
    assert list(speed_rows(run().contests[0], wrong_on_trio))[3][-1] == "asyncio only"


def test_memory_rows_say_why_a_figure_is_missing() -> None:
    """A dash, and the reason where the bar would be."""
    assert list(memory_rows(run().memory)) == [
        (OURS, "TokenBucket", "134", "<= 300: pass"),
        ("peer", "FixedWindow", "-", "not installed (peer)"),
    ]


def test_exactness_rows_say_what_was_seen() -> None:
    """One experiment at a time, each named once."""
    assert experiments(FINDINGS) == ["many at once"]
    assert list(exactness_rows(FINDINGS, "many at once")) == [
        (OURS, "call", "1 of 100 ran", "yes"),
        ("peer", "call", "100 of 100 ran", "no"),
    ]


def test_trial_rows_gather_the_jobs_of_a_peer() -> None:
    """One row a peer and outcome, with the version that was tried."""
    missing = "not installed (absent)"
    trials = (
        *run().trials,
        Trial(subject(BREAKER, "absent"), missing, missing),
        Trial(subject(BREAKER, "broken"), "OSError: one", "OSError: two"),
    )
    assert list(trial_rows(trials, MACHINE.packages)) == [
        ("absent", "", "breaker", missing),
        ("broken", "", "breaker", "neither: OSError: one; on asyncio OSError: two"),
        ("other", "", "breaker", "asyncio only: RuntimeError: no running event loop"),
        ("peer", "1.2.3", "breaker, breaker-refusal", "works"),
    ]


def test_tables_fit_a_terminal_of_80_columns() -> None:
    """Nothing is cut off."""
    output = io.StringIO()
    console = Console(file=output, width=80)
    for table in terminal_tables(run()):
        console.print(table)
    text = output.getvalue()
    assert "…" not in text
    assert "Circuit breaker: a call succeeds" in text
    assert "100 of 100 ran" in text


def test_sentences_name_the_checkpoint_and_the_step_ratio() -> None:
    """Both are needed to read the tables."""
    first, second = sentences(run())
    assert "3.60 us" in first
    assert "1.20 times" in second


def test_markdown_holds_the_tables_and_the_conditions() -> None:
    """A reader sees what was done, on what, with which result."""
    text = markdown(run())
    assert "5 rounds, A processor, CPython 3.11.7." in text
    assert "| bulkhead-trio | async with | 2.50 | 2.50 - 2.50 | ×2.5 | <= 2: FAIL |" in text
    assert "| --- | --- | --: | --: | --: | --: |" in text
    assert "- Note: busy." in text
    assert text.endswith("FAILED: breaker, async with: 2.50 us, and 2 are allowed.\n")


def test_conclusion_of_a_clean_run_says_so() -> None:
    """One sentence."""
    assert conclusion(Verdict((), ())).startswith("Every bar is met")


def test_document_is_json_with_the_figures() -> None:
    """It survives JSON, and holds no path."""
    decoded = json.loads(msgspec.json.encode(document(run())))
    breaker, fair = decoded["jobs"]
    assert breaker["barMicroseconds"] == 2.0
    assert breaker["isAheadOfPeersOnTrio"] is True
    assert [entry["loop"] for entry in breaker["entries"]] == ["trio"] * 4 + ["asyncio"]
    assert [entry["isWithinBar"] for entry in breaker["entries"][:3]] == [True, False, None]
    assert fair["isAheadOfPeersOnTrio"] is None
    assert decoded["fairQueueStepRatio"] == 1.2
    assert decoded["checkpointMicroseconds"]["asyncio"]["median"] == 2.9
    assert [trial["onAsyncio"] for trial in decoded["trials"]] == [None, None, "works"]
    assert decoded["keyMemory"][0]["isMet"] is True
    without = attrs.evolve(run(), on_asyncio=None)
    assert document(without)["checkpointMicroseconds"]["asyncio"] is None
    assert len(document(without)["jobs"][0]["entries"]) == 4
