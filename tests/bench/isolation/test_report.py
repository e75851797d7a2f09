"""What a run shows, for the terminal, for a README and for programs."""

from __future__ import annotations

import io
import json

import attrs
import msgspec
from rich.console import Console

from bench.isolation.messages import Recording
from bench.isolation.plan import LoadSettings
from bench.isolation.report import (
    COLUMNS,
    Run,
    conclusion,
    details,
    document,
    markdown,
    rows,
    terminal_table,
)
from bench.machine import Machine, describe_machine
from bench.verdict import Verdict

from .builders import sample, scenario_result, steady_samples

MACHINE = Machine(
    cores=2,
    processor="A processor",
    memory_bytes=8 << 30,
    system="Linux x86_64",
    python="CPython 3.11.7",
    packages={"trio": "0.30.0"},
)
LOAD = LoadSettings(rate=10, flood_connections=100, flood_seconds=2, seed="1")
CLEAN = Verdict((), ())


def run() -> Run:
    result = scenario_result()
    recordings = {result.scenario.name: (Recording("pro", steady_samples()),)}
    return Run("2026-01-01T00:00:00+00:00", MACHINE, "18.0", LOAD, (result,), recordings, CLEAN)


def test_rows_give_each_tier_alone_flooded_and_their_ratio() -> None:
    """The steady tiers have three rows each, the flooded one a single one."""
    table = list(rows(scenario_result()))
    assert [row[:2] for row in table] == [
        ("pro", "alone"),
        ("pro", "flooded"),
        ("pro", "ratio"),
        ("enterprise", "alone"),
        ("enterprise", "flooded"),
        ("enterprise", "ratio"),
        ("free", "flooded"),
    ]
    assert {len(row) for row in table} == {len(COLUMNS)}
    assert table[0] == ("pro", "alone", "20", "20", "0", "0", "0", "2.0", "2.0", "2.0", "2.0")
    assert table[2][-4:] == ("×2.0",) * 4
    assert table[6][2:7] == ("1,000", "10", "990", "0", "0")


def test_rows_of_an_unanswered_flood_have_no_figures() -> None:
    """Where nothing was measured a dash stands, and no row raises."""
    *_, free = rows(scenario_result(flood=[]))
    assert free == ("free", "flooded", "0", "0", "0", "0", "0", "-", "-", "-", "-")


def test_table_fits_a_terminal_of_80_columns() -> None:
    """No cell is cut off, with thousands of answers and a latency of seconds too."""
    flood = [sample(3.0, latency=12.3456, status=503, code="bulkhead_full")] * 12_345
    result = scenario_result(flood=flood)
    output = io.StringIO()
    Console(file=output, width=80).print(terminal_table(result))
    text = output.getvalue()
    assert "…" not in text
    assert "12,345" in text
    assert "12,346" in text


def test_markdown_holds_the_table_and_the_conditions() -> None:
    """A reader sees what was done, on what, with which result."""
    text = markdown([scenario_result()], MACHINE, LOAD, CLEAN)
    assert "| pro | alone | 20 | 20 | 0 | 0 | 0 | 2.0 | 2.0 | 2.0 | 2.0 |" in text
    assert "2 cores (A processor)" in text
    assert "1.6 s alone, then 2 s beside 100 flooding connections" in text
    assert "answered 200 in every scenario" in text


def test_details_name_what_the_flood_met() -> None:
    """The codes of the refusals are shown, not their status alone."""
    assert "990 x 429 rate_limited" in next(details(scenario_result()))


def test_conclusion_of_a_failed_run_says_why() -> None:
    """Each failure is in it."""
    text = conclusion(Verdict(("saturation: pro flooded: 1 of 2 not answered 200",), ()))
    assert text.startswith("FAILED: saturation: pro flooded")


def test_document_is_json_with_the_aggregates() -> None:
    """It survives JSON and holds settings, figures and the timeline."""
    decoded = json.loads(msgspec.json.encode(document(run())))
    (scenario,) = decoded["scenarios"]
    pro = scenario["tiers"][0]
    assert pro["alone"]["latencyMs"] == {"p50": 2.0, "p95": 2.0, "p99": 2.0, "max": 2.0}
    assert pro["ratio"]["p99"] == 2.0
    assert scenario["settings"]["environment"] == {"BULKHEAD_TIERS__PRO__RATE_LIMIT": ""}
    assert [piece["second"] for piece in scenario["timeline"]["pro"]] == [0, 1, 2, 3, 4]
    assert decoded["load"]["seconds"] == {"warmUp": 2.0, "alone": 1.6, "flooded": 2}


def test_machine_facts_hold_no_path() -> None:
    """What a run publishes of this machine says nothing of where it is or whose."""
    facts = describe_machine()
    assert facts.cores >= 1
    assert facts.memory_bytes > 0
    assert not any("/" in str(value) for value in attrs.astuple(facts)), facts
