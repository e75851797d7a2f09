"""What a run shows, for the terminal, for a README and for programs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import attrs
from rich import box
from rich.table import Table

from bench.machine import Machine, machine_document
from bench.overhead.exactness import Finding
from bench.overhead.figures import Figure
from bench.overhead.harness import Measured, Measurement
from bench.overhead.jobs import JOBS
from bench.overhead.memory import KeyMemory
from bench.overhead.stages import Trial
from bench.overhead.subjects import Role
from bench.overhead.verdict import Contest, contests, is_inexact, is_within_bar, step_ratio
from bench.tables import markdown_table
from bench.verdict import Verdict

SPEED_COLUMNS = ("who", "what", "us", "quartiles", "ratio", "bar")
MEMORY_COLUMNS = ("who", "what", "bytes a key", "bar")
EXACTNESS_COLUMNS = ("who", "what", "seen", "exact")
TRIAL_COLUMNS = ("who", "version", "jobs", "on Trio")
FIRST_SPEED_NUMBER, FIRST_MEMORY_NUMBER = 2, 2

LEGEND = (
    "Microseconds of processor time an operation, less a bare call with as many checkpoints: the"
    " median of all rounds; ratio: in multiples of our first row."
)
ON_ASYNCIO = "asyncio only"
INEXACT = "not exact: see below"
PASSED, FAILED = "pass", "FAIL"


@attrs.frozen
class Run:
    """All that one run of the benchmark gathered.

    Attributes:
        on_asyncio: what runs on asyncio alone; ``None`` where nothing of it was measured.
    """

    finished_at: str
    machine: Machine
    rounds: int
    on_trio: Measurement
    on_asyncio: Measurement | None
    trials: tuple[Trial, ...]
    memory: tuple[KeyMemory, ...]
    findings: tuple[Finding, ...]
    verdict: Verdict

    @property
    def contests(self) -> list[Contest]:
        """Every job with all who do it."""
        others = () if self.on_asyncio is None else self.on_asyncio.measured
        return contests(JOBS, [*self.on_trio.measured, *others])


# --- rows -----------------------------------------------------------------------------------------


def speed_rows(contest: Contest, findings: Sequence[Finding]) -> Iterator[tuple[str, ...]]:
    """The cells of a job's table, in the order of `SPEED_COLUMNS`: ours first, then by cost."""
    ours = [entry for entry in contest.entries if entry.subject.role is Role.OURS]
    others = [entry for entry in contest.entries if entry.subject.role is not Role.OURS]
    for entry in [*ours, *sorted(others, key=lambda entry: entry.cost.median)]:
        ratio = contest.ratio(entry)
        yield (
            entry.subject.package,
            entry.subject.label,
            f"{entry.cost.median:.2f}",
            f"{entry.cost.low:.2f} - {entry.cost.high:.2f}",
            "-" if ratio is None else f"×{ratio:.1f}",
            _remark(contest, entry, findings),
        )


def _remark(contest: Contest, entry: Measured, findings: Sequence[Finding]) -> str:
    if entry.subject.role is Role.REFERENCE:
        return "for reference"
    remarks = [] if entry.is_on_trio else [ON_ASYNCIO]
    if is_inexact(entry, findings):
        remarks.append(INEXACT)
    is_within = is_within_bar(entry)
    if is_within is not None:
        remarks.append(f"<= {contest.job.bar:g}: {_word(is_within)}")
    if entry is contest.lead and contest.fastest is not None:
        remarks.append("ahead of all" if contest.is_ahead else "not ahead of all")
    return ", ".join(remarks)


def _word(is_passed: bool) -> str:
    return PASSED if is_passed else FAILED


def memory_rows(memory: Sequence[KeyMemory]) -> Iterator[tuple[str, ...]]:
    """The cells of the table of memory, in the order of `MEMORY_COLUMNS`."""
    for entry in memory:
        figure = "-" if entry.bytes_a_key is None else f"{entry.bytes_a_key:.0f}"
        bar = "" if entry.bar is None else f"<= {entry.bar:g}: {_word(entry.is_met)}"
        yield (entry.package, entry.label, figure, entry.problem or bar)


def exactness_rows(findings: Sequence[Finding], experiment: str) -> Iterator[tuple[str, ...]]:
    """The cells of one experiment's table, in the order of `EXACTNESS_COLUMNS`."""
    for finding in findings:
        if finding.experiment == experiment:
            is_exact = "yes" if finding.is_exact else "no"
            yield (finding.package, finding.label, finding.seen, is_exact)


def experiments(findings: Sequence[Finding]) -> list[str]:
    """The experiments, in the order they were made."""
    return list(dict.fromkeys(finding.experiment for finding in findings))


def trial_rows(trials: Sequence[Trial], packages: dict[str, str]) -> Iterator[tuple[str, ...]]:
    """Each peer: its version, the jobs that it was tried at, and what came of it on Trio."""
    jobs: dict[tuple[str, str], list[str]] = {}
    for trial in trials:
        names = jobs.setdefault((trial.subject.package, _outcome(trial)), [])
        if trial.subject.job.name not in names:
            names.append(trial.subject.job.name)
    for package, outcome in sorted(jobs):
        yield (
            package,
            packages.get(package.partition(".")[0], ""),
            ", ".join(jobs[package, outcome]),
            outcome,
        )


def _outcome(trial: Trial) -> str:
    if trial.on_trio is None:
        return "works"
    if trial.on_trio == trial.on_asyncio:
        return trial.on_trio
    if trial.on_asyncio is None:
        return f"{ON_ASYNCIO}: {trial.on_trio}"
    return f"neither: {trial.on_trio}; on asyncio {trial.on_asyncio}"


def sentences(run: Run) -> Iterator[str]:
    """What else there is to say, a sentence each."""
    yield f"A full checkpoint of Trio costs {run.on_trio.checkpoint.median:.2f} us here."
    ratio = step_ratio(run.contests)
    if ratio is not None:
        yield f"A fair queue's step takes {ratio:.2f} times as long with 100,000 keys as with 10."


def conclusion(verdict: Verdict) -> str:
    """One sentence: whether the run met its bars, and if not, which it did not."""
    if not verdict.failures:
        return "Every bar is met, and no peer on Trio that does the same job is as fast."
    return "FAILED: " + "; ".join(verdict.failures) + "."


# --- for the terminal -----------------------------------------------------------------------------


def terminal_tables(run: Run) -> Iterator[Table]:
    """Every table of a run."""
    for contest in run.contests:
        yield _table(
            contest.job.title, SPEED_COLUMNS, speed_rows(contest, run.findings), FIRST_SPEED_NUMBER
        )
    if run.memory:
        title = f"Memory: {run.memory[0].keys:,} keys, beyond the keys themselves"
        yield _table(title, MEMORY_COLUMNS, memory_rows(run.memory), FIRST_MEMORY_NUMBER)
    for experiment in experiments(run.findings):
        rows = exactness_rows(run.findings, experiment)
        yield _table(f"Exactness: {experiment}", EXACTNESS_COLUMNS, rows, len(EXACTNESS_COLUMNS))
    rows = trial_rows(run.trials, run.machine.packages)
    yield _table("Peers, as tried", TRIAL_COLUMNS, rows, len(TRIAL_COLUMNS))


def _table(
    title: str, columns: Sequence[str], rows: Iterator[tuple[str, ...]], first_number: int
) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    table.padding = (0, 1)
    for index, column in enumerate(columns):
        is_number = first_number <= index < len(columns) - 1
        justify: Literal["left", "right"] = "right" if is_number else "left"
        table.add_column(column, justify=justify, overflow="fold")
    for row in rows:
        is_bad = FAILED in row[-1]
        table.add_row(*row, style="bold red" if is_bad else None)
    return table


# --- as Markdown ----------------------------------------------------------------------------------


def markdown(run: Run) -> str:
    """The whole run as Markdown."""
    machine = run.machine
    parts = [f"{LEGEND} {run.rounds} rounds, {machine.processor}, {machine.python}."]
    for contest in run.contests:
        parts.append(f"**{contest.job.title}**")
        parts.append(
            _markdown(SPEED_COLUMNS, speed_rows(contest, run.findings), FIRST_SPEED_NUMBER)
        )
    if run.memory:
        parts.append(f"**Memory of {run.memory[0].keys:,} keys, beyond the keys themselves**")
        parts.append(_markdown(MEMORY_COLUMNS, memory_rows(run.memory), FIRST_MEMORY_NUMBER))
    for experiment in experiments(run.findings):
        parts.append(f"**Exactness: {experiment}**")
        rows = exactness_rows(run.findings, experiment)
        parts.append(_markdown(EXACTNESS_COLUMNS, rows, len(EXACTNESS_COLUMNS)))
    parts.append("**Peers, as tried**")
    rows = trial_rows(run.trials, machine.packages)
    parts.append(_markdown(TRIAL_COLUMNS, rows, len(TRIAL_COLUMNS)))
    notes = [*sentences(run), *(f"Note: {text}." for text in run.verdict.warnings)]
    parts.append("\n".join(f"- {text}" for text in notes))
    parts.append(conclusion(run.verdict))
    return "\n\n".join(parts) + "\n"


def _markdown(columns: Sequence[str], rows: Iterator[tuple[str, ...]], first_number: int) -> str:
    cells = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    return markdown_table(columns, cells, first_number=first_number)


# --- for programs ---------------------------------------------------------------------------------


def document(run: Run) -> dict[str, Any]:
    """The whole run as JSON-able values; members are camelCase; no host name and no path."""
    return {
        "finishedAt": run.finished_at,
        "machine": machine_document(run.machine),
        "rounds": run.rounds,
        "checkpointMicroseconds": {
            "trio": _figure(run.on_trio.checkpoint),
            "asyncio": _figure(run.on_asyncio.checkpoint) if run.on_asyncio else None,
        },
        "jobs": [_job(contest) for contest in run.contests],
        "fairQueueStepRatio": step_ratio(run.contests),
        "keyMemory": [
            {
                "package": entry.package,
                "what": entry.label,
                "keys": entry.keys,
                "bytesAKey": entry.bytes_a_key,
                "bar": entry.bar,
                "isMet": entry.is_met,
            }
            for entry in run.memory
        ],
        "exactness": [
            {
                "experiment": finding.experiment,
                "package": finding.package,
                "what": finding.label,
                "isExact": finding.is_exact,
                "seen": finding.seen,
            }
            for finding in run.findings
        ],
        "trials": [
            {
                "package": trial.subject.package,
                "job": trial.subject.job.name,
                "what": trial.subject.label,
                "onTrio": trial.on_trio or "works",
                "onAsyncio": None if trial.on_trio is None else trial.on_asyncio or "works",
            }
            for trial in run.trials
        ],
        "failures": list(run.verdict.failures),
        "warnings": list(run.verdict.warnings),
    }


def _job(contest: Contest) -> dict[str, Any]:
    return {
        "name": contest.job.name,
        "title": contest.job.title,
        "barMicroseconds": contest.job.bar,
        "isAheadOfPeersOnTrio": None if contest.fastest is None else contest.is_ahead,
        "entries": [
            {
                "package": entry.subject.package,
                "what": entry.subject.label,
                "role": entry.subject.role.value,
                "loop": "trio" if entry.is_on_trio else "asyncio",
                "checkpoints": entry.checkpoints,
                "microseconds": _figure(entry.cost),
                "ratio": contest.ratio(entry),
                "isWithinBar": is_within_bar(entry),
            }
            for entry in contest.entries
        ],
    }


def _figure(figure: Figure) -> dict[str, float]:
    return {"median": figure.median, "low": figure.low, "high": figure.high}
