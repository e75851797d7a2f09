"""What a run shows, for the terminal, for a README and for programs. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import attrs
from rich import box
from rich.table import Table

from bench.http.figures import EntryResult, JobResult
from bench.http.jobs import FLOOR_MACHINE
from bench.http.subjects import Role
from bench.http.throughput import Load
from bench.http.verdict import bar_of, is_met
from bench.http.watched import Quantiles, ScenarioResult, SubjectResult
from bench.http.watching import Watch
from bench.isolation.summary import Summary
from bench.machine import Machine, machine_document
from bench.tables import markdown_table
from bench.verdict import Verdict

SPEED_COLUMNS = ("who", "requests/s", "spread", "a core", "p50", "p99", "cores", "ratio", "bar")
WATCH_COLUMNS = (
    "who", "p50 alone", "flooded", "ratio", "p99 alone", "flooded", "ratio", "flood/s", "bar",
)  # fmt: skip
FIRST_NUMBER = 1
SPEED_LEGEND = (
    "Requests a second on one core, the median of all rounds; spread: between the slowest and the"
    " fastest; a core: requests a processor second of the server; latency in milliseconds; cores:"
    " processor seconds a second that it used; ratio: ours a second in multiples of its."
)
WATCH_LEGEND = (
    "Latency of the paced caller in milliseconds, from when a request was due, the medians of all"
    " rounds; ratio: flooded in multiples of alone; flood/s: answers a second to the flood."
)
PASSED, FAILED = "pass", "FAIL"


@attrs.frozen
class Run:
    """All that one run of the benchmark gathered."""

    finished_at: str
    machine: Machine
    postgresql: str
    load: Load
    watch: Watch
    jobs: tuple[JobResult, ...]
    scenarios: tuple[ScenarioResult, ...]
    verdict: Verdict


# --- rows -----------------------------------------------------------------------------------------


def speed_rows(result: JobResult) -> Iterator[tuple[str, ...]]:
    """The cells of a job's table, in the order of `SPEED_COLUMNS`: ours first."""
    for entry in result.entries:
        ratio = None if entry is result.ours else result.ratio(entry)
        yield (
            entry.name,
            f"{entry.per_second:,.0f}",
            f"{entry.spread:.0%}",
            f"{entry.per_core_second:,.0f}",
            _short(entry.p50),
            _short(entry.p99),
            f"{entry.cores:.2f}",
            "-" if ratio is None else "×" + _short(ratio),
            _remark(result, entry),
        )


def _remark(result: JobResult, entry: EntryResult) -> str:
    if entry.entry.subject.role is Role.REFERENCE:
        return "reference"
    bar, met = bar_of(result, entry), is_met(result, entry)
    return "" if bar is None or met is None else f">= {bar.ratio:g} {_word(met)}"


def _short(value: float) -> str:
    """Three digits or so: a fourth would be noise."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _word(is_passed: bool) -> str:
    return PASSED if is_passed else FAILED


def watch_rows(result: ScenarioResult) -> Iterator[tuple[str, ...]]:
    """The cells of a scenario's table, in the order of `WATCH_COLUMNS`: ours first."""
    bar = result.scenario.bar
    for subject in result.subjects:
        alone, flooded, ratio = subject.alone, subject.flooded, subject.ratio
        is_ours = subject is result.ours
        yield (
            subject.subject.name,
            _short(alone.p50),
            _short(flooded.p50),
            "×" + _short(ratio.p50),
            _short(alone.p99),
            _short(flooded.p99),
            "×" + _short(ratio.p99),
            f"{subject.flood_per_second:,.0f}",
            f"<= {bar:g} {_word(subject.is_within(bar))}" if is_ours else "",
        )


def floor_sentence(result: JobResult) -> str:
    """How ours stands to the job's floor; ``""`` where there is none."""
    if result.job.floor is None:
        return ""
    ours, floor = result.ours.per_second, result.job.floor
    word = "reaches" if ours >= floor else "does not reach"
    return (
        f"{ours:,.0f} a second {word} the {floor:,.0f} that are asked of a machine on which"
        f" uvicorn's constant answer does {FLOOR_MACHINE:,.0f}; the ratio is what is judged."
    )


def makeup(run: Run) -> list[str]:
    """What each who of the tables is made of, a line each."""
    subjects = [entry.entry.subject for result in run.jobs for entry in result.entries]
    subjects += [s.subject for result in run.scenarios for s in result.subjects]
    lines: dict[tuple[str, str], None] = {(s.name, s.label): None for s in subjects}
    return [f"{name}: {label}" for name, label in lines]


def conclusion(verdict: Verdict) -> str:
    """One sentence: whether the run met its bars, and if not, which it did not."""
    if not verdict.failures:
        return "Every bar is met."
    return "FAILED: " + "; ".join(verdict.failures) + "."


# --- for the terminal -----------------------------------------------------------------------------


def terminal_tables(run: Run) -> Iterator[Table]:
    """Every table of a run; each fits 80 columns."""
    for job in run.jobs:
        yield _table(job.job.title, SPEED_COLUMNS, speed_rows(job), floor_sentence(job))
    for scenario in run.scenarios:
        yield _table(scenario.scenario.title, WATCH_COLUMNS, watch_rows(scenario), "")


def legends(run: Run) -> Iterator[str]:
    """What the columns mean, for the tables that there are."""
    if run.jobs:
        yield SPEED_LEGEND
    if run.scenarios:
        yield WATCH_LEGEND


def _table(
    title: str, columns: Sequence[str], rows: Iterable[tuple[str, ...]], caption: str
) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    table.padding = 0
    table.caption, table.caption_justify = caption or None, "left"
    for index, column in enumerate(columns):
        is_number = FIRST_NUMBER <= index < len(columns) - 1
        justify: Literal["left", "right"] = "right" if is_number else "left"
        is_whole = index in (0, len(columns) - 1)
        header = column if is_whole else column.replace(" ", "\n")
        table.add_column(header, justify=justify, overflow="fold", no_wrap=is_whole)
    for row in rows:
        table.add_row(*row, style="bold red" if FAILED in row[-1] else None)
    return table


# --- as Markdown ----------------------------------------------------------------------------------


def markdown(run: Run) -> str:
    """The whole run as Markdown."""
    load, watch = run.load, run.watch
    parts = [f"{run.machine.processor}, {run.machine.python}; one core for the server."]
    if run.jobs:
        parts.append(
            f"{SPEED_LEGEND} {load.connections} connections, {load.rounds} rounds of"
            f" {load.seconds:g} s."
        )
    for job in run.jobs:
        parts += [f"**{job.job.title}**", _markdown(SPEED_COLUMNS, speed_rows(job))]
        if sentence := floor_sentence(job):
            parts.append(sentence)
    if run.scenarios:
        parts.append(
            f"{WATCH_LEGEND} {watch.rate:g} requests a second, {watch.connections} flooding"
            f" connections, {watch.rounds} rounds of {watch.seconds:g} s alone and"
            f" {watch.seconds:g} s flooded."
        )
    for scenario in run.scenarios:
        parts += [f"**{scenario.scenario.title}**", _markdown(WATCH_COLUMNS, watch_rows(scenario))]
    notes = [*makeup(run), *(f"Note: {text}." for text in run.verdict.warnings)]
    parts.append("\n".join(f"- {text}" for text in notes))
    parts.append(conclusion(run.verdict))
    return "\n\n".join(parts) + "\n"


def _markdown(columns: Sequence[str], rows: Iterable[tuple[str, ...]]) -> str:
    return markdown_table(columns, rows, first_number=FIRST_NUMBER)


# --- for programs ---------------------------------------------------------------------------------


def document(run: Run) -> dict[str, Any]:
    """The whole run as JSON-able values; members are camelCase; no host name and no path."""
    return {
        "finishedAt": run.finished_at,
        "machine": {**machine_document(run.machine), "postgresql": run.postgresql},
        "load": {
            "connections": run.load.connections,
            "rounds": run.load.rounds,
            "seconds": run.load.seconds,
            "warmUpSeconds": run.load.warm_up,
        },
        "watch": {
            "ratePerSecond": run.watch.rate,
            "floodConnections": run.watch.connections,
            "rounds": run.watch.rounds,
            "seconds": run.watch.seconds,
            "seed": run.watch.seed,
        },
        "jobs": [_job(result) for result in run.jobs],
        "scenarios": [_scenario(result) for result in run.scenarios],
        "failures": list(run.verdict.failures),
        "warnings": list(run.verdict.warnings),
    }


def _job(result: JobResult) -> dict[str, Any]:
    return {
        "name": result.job.name,
        "title": result.job.title,
        "absent": result.absent,
        "entries": [_entry(result, entry) for entry in result.entries],
    }


def _entry(result: JobResult, entry: EntryResult) -> dict[str, Any]:
    bar = bar_of(result, entry)
    return {
        "who": entry.name,
        "what": entry.entry.subject.label,
        "role": entry.entry.subject.role.name.lower(),
        "path": entry.entry.path,
        "headers": dict(entry.entry.headers),
        "requestsPerSecond": round(entry.per_second, 1),
        "rounds": [round(turn.count.per_second, 1) for turn in entry.turns],
        "requestsPerCoreSecond": round(entry.per_core_second, 1),
        "latencyMs": {"p50": round(entry.p50, 3), "p99": round(entry.p99, 3)},
        "serverCores": round(entry.cores, 2),
        "ratio": None if entry is result.ours else result.ratio(entry),
        "bar": None if bar is None else bar.ratio,
        "isMet": is_met(result, entry),
    }


def _scenario(result: ScenarioResult) -> dict[str, Any]:
    return {
        "name": result.scenario.name,
        "title": result.scenario.title,
        "bar": result.scenario.bar,
        "absent": result.absent,
        "subjects": [_subject(result, subject) for subject in result.subjects],
    }


def _subject(result: ScenarioResult, subject: SubjectResult) -> dict[str, Any]:
    is_ours = subject is result.ours
    return {
        "who": subject.subject.name,
        "what": subject.subject.label,
        "aloneMs": _quantiles(subject.alone),
        "floodedMs": _quantiles(subject.flooded),
        "ratio": _quantiles(subject.ratio),
        "isMet": subject.is_within(result.scenario.bar) if is_ours else None,
        "serverCores": round(subject.cores, 2),
        "rounds": [
            {
                "aloneMs": _latency(turn.tier.alone),
                "floodedMs": _latency(turn.tier.flooded),
                "lagP99Ms": round(turn.lag_p99, 3),
                "flood": attrs.asdict(turn.flood),
            }
            for turn in subject.turns
        ],
    }


def _quantiles(quantiles: Quantiles) -> dict[str, float | None]:
    return {
        name: None if math.isnan(value) else round(value, 3)
        for name, value in attrs.asdict(quantiles).items()
    }


def _latency(summary: Summary | None) -> dict[str, float] | None:
    return attrs.asdict(summary.latency) if summary and summary.latency else None
