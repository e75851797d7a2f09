"""``python -m bench.overhead``: measure, print and write what each policy costs a call."""

from __future__ import annotations

import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench.failures import RunFailed, run_explained
from bench.machine import describe_machine
from bench.overhead.picture import draw
from bench.overhead.report import (
    LEGEND,
    Run,
    conclusion,
    document,
    markdown,
    sentences,
    terminal_tables,
)
from bench.overhead.run import PACKAGES, Gathered, gather
from bench.overhead.subjects import WrongSubject
from bench.verdict import load_warnings

RESULTS = Path(__file__).parent.parent / "results"
LOOPS = 2


def gather_with_bar(rounds: int, console: Console) -> Gathered:
    """Measure, with a progress bar."""
    columns = (TextColumn("{task.description:<18}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, refresh_per_second=2) as bar:
        task = bar.add_task("", total=LOOPS * rounds)
        return gather(
            rounds,
            lambda step: bar.update(task, description=step),
            lambda: bar.advance(task),
        )


def write_results(run: Run, output: Path, picture: Path | None) -> None:
    """Write JSON, Markdown and the picture into the directory ``output``."""
    output.mkdir(parents=True, exist_ok=True)
    encoded = msgspec.json.format(msgspec.json.encode(document(run)))
    (output / "overhead.json").write_bytes(encoded + b"\n")
    (output / "overhead.md").write_text(markdown(run), encoding="utf-8")
    for path in (output / "overhead.png", picture):
        if path is not None:
            draw(run.contests, run.findings, path)


@click.command()
@click.option(
    "--rounds",
    default=40,
    show_default=True,
    type=click.IntRange(3, 1_000),
    help="Rounds in each of which every subject has its turn.",
)
@click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown instead of tables.")
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the picture there too, such as docs/images/overhead.png.",
)
@click.option(
    "--output",
    default=RESULTS,
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for JSON, Markdown and picture.  [default: bench/results]",
)
def main(rounds: int, as_markdown: bool, picture: Path | None, output: Path) -> None:
    """Measure what each policy costs a call, beside what people would use instead.

    Exit code 1 if a bar is not met, a peer that does the same job on Trio is faster, or one of our
    breakers or bulkheads was seen to be inexact.
    """
    console = Console()
    logging.getLogger("bulkman").setLevel(logging.CRITICAL)
    logging.getLogger("resilient_circuit").setLevel(logging.CRITICAL)
    busy = load_warnings(os.getloadavg()[0])
    try:
        bar_console = Console(stderr=True)
        gathered = run_explained(lambda: gather_with_bar(rounds, bar_console), (WrongSubject,))
    except RunFailed as failed:
        console.print(f"FAILED: {failed}", markup=False, style="bold red")
        sys.exit(failed.exit_code)
    run = Run(
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=describe_machine(PACKAGES),
        rounds=rounds,
        on_trio=gathered.on_trio,
        on_asyncio=gathered.on_asyncio,
        trials=gathered.trials,
        memory=gathered.memory,
        findings=gathered.findings,
        verdict=gathered.judged(busy),
    )
    write_results(run, output, picture)
    if as_markdown:
        click.echo(markdown(run))
    else:
        _print(run, output, console)
    sys.exit(1 if run.verdict.failures else 0)


def _print(run: Run, output: Path, console: Console) -> None:
    for table in terminal_tables(run):
        console.print(table)
        console.print()
    console.print(LEGEND, markup=False, highlight=False)
    for sentence in sentences(run):
        console.print(sentence, markup=False, highlight=False)
    for warning in run.verdict.warnings:
        console.print(f"Note: {warning}.", markup=False, style="yellow")
    style = "bold red" if run.verdict.failures else "bold green"
    console.print(conclusion(run.verdict), markup=False, style=style)
    console.print(f"Written to {output}: overhead.json, overhead.md, overhead.png")


if __name__ == "__main__":
    main()
