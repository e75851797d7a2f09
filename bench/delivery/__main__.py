"""``python -m bench.delivery``: measure, print and write what deliveries cost."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
import trio
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench.delivery.accepting import ACCEPT_JOBS
from bench.delivery.deliveries import DELIVERY_JOBS
from bench.delivery.report import Run, document, legends, limits, markdown, terminal_tables
from bench.delivery.run import Gathered, OnStep, Plan, gather
from bench.delivery.verdict import judge
from bench.failures import RunFailed, run_explained
from bench.http import wrk
from bench.http.report import conclusion
from bench.machine import PACKAGES, describe_machine
from bench.server import ServerFailed
from bench.verdict import load_warnings
from bulkhead_trio.testing.receiver import ReceiverFailed

RESULTS = Path(__file__).parent.parent / "results"
CLAIMS = "claims"
BACKLOGS = (1_000, 10_000, 100_000, 1_000_000)
QUICK_BACKLOGS = (1_000, 100_000)
MORE_PACKAGES = ("cryptography", "httptools", "msgspec")


def gather_with_bar(plan: Plan, console: Console) -> Gathered:
    """Like `gather`, with a progress bar."""
    columns = (TextColumn("{task.description:<44}"), BarColumn(), TimeElapsedColumn())
    # Drawn seldom: it takes a core that what is measured could use.
    with Progress(*columns, console=console, refresh_per_second=1) as bar:

        def on_part(title: str, steps: int) -> OnStep:
            task = bar.add_task(title, total=steps)

            def on_step(_what: str) -> None:
                bar.advance(task)

            return on_step

        return trio.run(gather, plan, on_part)


def write_results(run: Run, output: Path) -> None:
    """Write JSON and Markdown into the directory ``output``."""
    output.mkdir(parents=True, exist_ok=True)
    encoded = msgspec.json.format(msgspec.json.encode(document(run)))
    (output / "delivery.json").write_bytes(encoded + b"\n")
    (output / "delivery.md").write_text(markdown(run), encoding="utf-8")


@click.command()
@click.option(
    "--only",
    "names",
    multiple=True,
    type=click.Choice([*(job.name for job in (*ACCEPT_JOBS, *DELIVERY_JOBS)), CLAIMS]),
    help="Do this only; may be repeated. Default: all.",
)
@click.option("--quick", is_flag=True, help="One short round: for a look, not for the record.")
@click.option("--rounds", type=click.IntRange(1, 100), help="[default: 3, quick: 1]")
@click.option(
    "--events",
    type=click.IntRange(1_000),
    help="To deliver, a round. [default: 30000, quick: 5000]",
)
@click.option(
    "--seconds",
    type=click.IntRange(1, 600),
    help="To send events, a round. [default: 10, quick: 3]",
)
@click.option(
    "--connections",
    default=50,
    show_default=True,
    type=click.IntRange(1, 1_000),
    help="That events are sent on, each with one request at a time.",
)
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
    events: int | None,
    seconds: int | None,
    connections: int,
    output: Path,
) -> None:
    """Measure events, deliveries and claims; server, PostgreSQL and receiver share the machine.

    For a look while tuning: python -m bench.delivery --only deliveries --quick. To see where the
    server's time goes, run that while `py-spy top --pid` or `perf top` looks at it.

    Exit code 1 if a bar is not met.
    """
    console = Console()
    plan = Plan(
        delivery_jobs=[job for job in DELIVERY_JOBS if not names or job.name in names],
        accept_jobs=[job for job in ACCEPT_JOBS if not names or job.name in names],
        backlogs=(QUICK_BACKLOGS if quick else BACKLOGS) if not names or CLAIMS in names else (),
        events=events or (5_000 if quick else 30_000),
        connections=connections,
        seconds=seconds or (3 if quick else 10),
        rounds=rounds or (1 if quick else 3),
    )
    busy = load_warnings(os.getloadavg()[0])
    machine = describe_machine((*PACKAGES, *MORE_PACKAGES))
    try:
        if plan.accept_jobs:
            wrk.require()
        bar_console = Console(stderr=True)
        gathered = run_explained(
            lambda: gather_with_bar(plan, bar_console), (ServerFailed, ReceiverFailed, RunFailed)
        )
    except RunFailed as failed:
        console.print(f"FAILED: {failed}", markup=False, style="bold red")
        sys.exit(failed.exit_code)
    run = Run(
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine,
        postgresql=gathered.postgresql,
        rates=gathered.rates,
        claims=gathered.claims,
        verdict=judge(gathered.rates, gathered.claims, busy),
    )
    write_results(run, output)
    _print(run, output, console)
    sys.exit(1 if run.verdict.failures else 0)


def _print(run: Run, output: Path, console: Console) -> None:
    for table in terminal_tables(run):
        console.print(table)
        console.print()
    for text in (*legends(run), *limits(run)):
        console.print(text, markup=False, highlight=False)
    for warning in run.verdict.warnings:
        console.print(f"Note: {warning}.", markup=False, style="yellow")
    style = "bold red" if run.verdict.failures else "bold green"
    console.print(conclusion(run.verdict), markup=False, style=style)
    console.print(f"Written to {output}: delivery.json, delivery.md")


if __name__ == "__main__":
    main()
