"""What the benchmarks' commands have in common: options, progress, results and their end."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar

import click
import msgspec
import trio
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.failures import RunFailed, run_explained
from bench.verdict import Verdict

RESULTS = Path(__file__).parent / "results"

OnPart = Callable[[str, int], Callable[[str], None]]
"""Called with a part's title and its number of steps; returns what is called at each of them."""


class Named(Protocol):
    """A part of a benchmark that the command line can name."""

    @property
    def name(self) -> str:
        """What to type."""


Command = TypeVar("Command", bound=Callable[..., Any])
Plan = TypeVar("Plan")
Gathered = TypeVar("Gathered")
Part = TypeVar("Part", bound=Named)


# --- options --------------------------------------------------------------------------------------


def only_option(names: Iterable[str]) -> Callable[[Command], Command]:
    """``--only``, given to the command as ``names``."""
    return click.option(
        "--only",
        "names",
        multiple=True,
        type=click.Choice(list(names)),
        help="Do this only; may be repeated. Default: all.",
    )


def chosen(parts: Iterable[Part], names: Sequence[str]) -> list[Part]:
    """Those of ``parts`` that `only_option` gave the names of: all if it gave none."""
    return [part for part in parts if not names or part.name in names]


def quick_option(rounds: str) -> Callable[[Command], Command]:
    """``--quick``, which makes a run of what ``rounds`` says."""
    text = f"{rounds}: for a look, not for the record."
    return click.option("--quick", is_flag=True, help=text)


def rounds_option(text: str) -> Callable[[Command], Command]:
    """``--rounds``; ``text`` also says its default, which depends on ``--quick``."""
    return click.option("--rounds", type=click.IntRange(1, 100), help=text)


def seconds_option(text: str) -> Callable[[Command], Command]:
    """``--seconds``; ``text`` also says its default, which depends on ``--quick``."""
    return click.option("--seconds", type=click.IntRange(1, 600), help=text)


def connections_option(text: str) -> Callable[[Command], Command]:
    """``--connections``, 50 by default."""
    return click.option(
        "--connections", default=50, show_default=True, type=click.IntRange(1, 1_000), help=text
    )


def seed_option(text: str) -> Callable[[Command], Command]:
    """``--seed``, any text."""
    return click.option("--seed", default="1", show_default=True, help=text)


def output_option(what: str) -> Callable[[Command], Command]:
    """``--output``, the directory that ``what`` is written into."""
    return click.option(
        "--output",
        default=RESULTS,
        type=click.Path(file_okay=False, path_type=Path),
        help=f"Directory for {what}.  [default: bench/results]",
    )


# --- the run --------------------------------------------------------------------------------------


@contextmanager
def ending_if_failed(console: Console) -> Iterator[None]:
    """Where `RunFailed` comes out of the block, say why and end the process with its exit code."""
    try:
        yield
    except RunFailed as failed:
        console.print(f"FAILED: {failed}", markup=False, style="bold red")
        sys.exit(failed.exit_code)


def gather_with_bar(
    gather: Callable[[Plan, OnPart], Awaitable[Gathered]],
    plan: Plan,
    expected: tuple[type[Exception], ...],
) -> Gathered:
    """What ``gather`` makes of ``plan`` on Trio, with a progress bar on standard error.

    Raises:
        RunFailed: it failed with nothing but ``expected`` errors, or Ctrl-C.
    """
    columns = (TextColumn("{task.description:<44}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)

    def run() -> Gathered:
        # Drawn seldom: it takes a core that what is measured could use.
        with Progress(*columns, console=console, refresh_per_second=1) as bar:

            def on_part(title: str, steps: int) -> Callable[[str], None]:
                task = bar.add_task(title, total=steps)
                return lambda _what: bar.advance(task)

            return trio.run(gather, plan, on_part)

    return run_explained(run, expected)


def timestamp() -> str:
    """Now, in UTC, to the second, as ISO 8601 has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


# --- its results ----------------------------------------------------------------------------------


def write_results(
    output: Path, name: str, document: Mapping[str, Any], markdown: str
) -> list[Path]:
    """Write ``name``.json and ``name``.md into the directory ``output``; returns their paths."""
    output.mkdir(parents=True, exist_ok=True)
    paths = [output / f"{name}.json", output / f"{name}.md"]
    paths[0].write_bytes(msgspec.json.format(msgspec.json.encode(document)) + b"\n")
    paths[1].write_text(markdown, encoding="utf-8")
    return paths


def print_tables(tables: Iterable[Table], sentences: Iterable[str], console: Console) -> None:
    """The tables with an empty line after each, then the sentences."""
    for table in tables:
        console.print(table)
        console.print()
    for sentence in sentences:
        console.print(sentence, markup=False, highlight=False)


def end(verdict: Verdict, conclusion: str, written: Sequence[Path], console: Console) -> NoReturn:
    """Print what comes of the run, and end the process: with 1 if it failed.

    Args:
        verdict: whether it failed, and the warnings.
        conclusion: the verdict in one sentence.
        written: the files, all in one directory.
        console: where to print.
    """
    for warning in verdict.warnings:
        console.print(f"Note: {warning}.", markup=False, style="yellow")
    style = "bold red" if verdict.failures else "bold green"
    console.print(conclusion, markup=False, style=style)
    console.print(f"Written to {written[0].parent}: {', '.join(path.name for path in written)}")
    sys.exit(1 if verdict.failures else 0)
