"""What a run shows, for people and for programs."""

from __future__ import annotations

import io
import json

import attrs
import msgspec
from rich.console import Console

from bench.http.jobs import CONSTANT, REFUSALS
from bench.http.report import (
    SPEED_COLUMNS,
    WATCH_COLUMNS,
    Run,
    conclusion,
    document,
    legends,
    makeup,
    markdown,
    speed_rows,
    terminal_tables,
    watch_rows,
)
from bench.http.scenarios import SCENARIOS
from bench.http.throughput import Load
from bench.machine import Machine, describe_machine
from bench.verdict import Verdict

from .builders import WATCH, job_result, scenario_result, watched

MACHINE = Machine(
    cores=2,
    processor="A processor",
    memory_bytes=8 << 30,
    system="Linux x86_64",
    python="CPython 3.11.7",
    packages={"trio": "0.30.0"},
)
LOAD = Load(connections=50, seconds=2, warm_up=1, rounds=1)


def run() -> Run:
    speeds = {"bulkhead-trio": [18_500.0], "uvicorn": [37_000.0], "Hypercorn": [1_850.0]}
    refusals = {"bulkhead-trio": [30_000.0], "uvicorn": [37_000.0]}
    return Run(
        finished_at="2026-01-01T00:00:00+00:00",
        machine=MACHINE,
        postgresql="18.0",
        load=LOAD,
        watch=WATCH,
        jobs=(job_result(CONSTANT, speeds), job_result(REFUSALS, refusals)),
        scenarios=(scenario_result(SCENARIOS[0], watched(2.0, 5.0)),),
        verdict=Verdict(("constant: slow",), ("a note",)),
    )


def test_speed_rows_say_who_how_fast_and_how_near_the_bar() -> None:
    """Ours first, then a row a peer with its ratio and what comes of its bar."""
    assert list(speed_rows(run().jobs[0])) == [
        ("bulkhead-trio", "18,500", "0%", "19,474", "1.00", "2.00", "0.95", "-", ""),
        ("uvicorn", "37,000", "0%", "38,947", "1.00", "2.00", "0.95", "×0.50", ">= 1 FAIL"),
        ("Hypercorn", "1,850", "0%", "1,947", "1.00", "2.00", "0.95", "×10.0", ">= 10 pass"),
    ]


def test_watch_rows_give_alone_flooded_and_ratio() -> None:
    """Ours is held to the bar."""
    assert list(watch_rows(run().scenarios[0])) == [
        ("bulkhead-trio", "2.00", "5.00", "×2.50", "2.00", "5.00", "×2.50", "500", "<= 1.2 FAIL"),
    ]


def test_terminal_tables_fit_80_columns() -> None:
    """No cell is folded, and the floor is told below its table."""
    output = io.StringIO()
    console = Console(file=output, width=80)
    shown = attrs.evolve(run(), scenarios=(scenario_result(SCENARIOS[0], watched(2.0, 345.0)),))
    for table in terminal_tables(shown):
        console.print(table)
    lines = output.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("bulkhead-trio") for line in lines) == 3
    assert sum(line.startswith("who ") for line in lines) >= 2
    assert "30,000 a second reaches the 25,000" in output.getvalue()


def test_markdown_has_every_table_and_the_conclusion() -> None:
    """A table a part, what each is made of, the notes, and what comes of it all."""
    text = markdown(run())
    assert text.count("| who |") == 3
    assert "| bulkhead-trio | 18,500 |" in text
    assert "- uvicorn: bare ASGI; uvloop, httptools" in text
    assert "- Note: a note." in text
    assert text.endswith("FAILED: constant: slow.\n")


def test_legends_are_those_of_the_tables_that_there_are() -> None:
    """A run of jobs alone explains nothing about a caller who is watched."""
    assert len(list(legends(run()))) == 2
    assert len(list(legends(attrs.evolve(run(), scenarios=())))) == 1


def test_makeup_names_each_once() -> None:
    """Who is in several tables is explained once."""
    lines = makeup(run())
    assert len(lines) == len(set(lines)) == 4


def test_document_is_json_and_names_no_place() -> None:
    """Programs get every figure; neither host nor path is in it."""
    written = json.loads(msgspec.json.encode(document(run())))
    constant = written["jobs"][0]["entries"]
    assert [entry["isMet"] for entry in constant] == [None, False, True]
    assert constant[0]["ratio"] is None
    assert constant[1]["bar"] == 1.0
    subject = written["scenarios"][0]["subjects"][0]
    assert subject["ratio"] == {"p50": 2.5, "p99": 2.5}
    assert subject["isMet"] is False
    assert subject["rounds"][0]["flood"]["refused"] == 95
    assert written["failures"] == ["constant: slow"]
    assert "/" not in json.dumps(written["machine"])


def test_document_of_this_machine_can_be_written() -> None:
    """The real machine's facts are JSON too."""
    real = attrs.evolve(run(), machine=describe_machine())
    assert msgspec.json.encode(document(real))


def test_conclusion_of_a_clean_run_is_one_sentence() -> None:
    """It claims no more than the bars."""
    assert conclusion(Verdict((), ("a note",))) == "Every bar is met."
    assert set(SPEED_COLUMNS).isdisjoint({"what"})
    assert len(WATCH_COLUMNS) == len(SPEED_COLUMNS)
