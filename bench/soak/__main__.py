"""``python -m bench.soak memory`` and ``python -m bench.soak cancel``."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import trio
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bench.database import Database, open_database_server
from bench.failures import RunFailed, run_explained
from bench.server import Server, ServerFailed, open_server
from bench.soak.cancel import CancelResult, CancelSoak
from bench.soak.checks import MEGABYTE, growth_bytes
from bench.soak.memory import MemoryResult, MemorySoak
from bench.soak.traffic import CANCEL_SETTINGS, MEMORY_SETTINGS, QUERY_SECONDS

GROWTH_LIMIT_BYTES = 10 * MEGABYTE

T = TypeVar("T")
OnProgress = Callable[[int], None]
_console = Console()


@asynccontextmanager
async def open_stage(
    settings: Mapping[str, str],
) -> AsyncIterator[tuple[Server, Database]]:
    """A PostgreSQL and a server with these settings; both are gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="bulkhead-soak-") as temporary:
        root = Path(temporary)
        root.chmod(0o711)  # PostgreSQL, which refuses to run as root, must get at its own part
        async with open_database_server(root / "postgres") as databases:
            database = await databases.create("soak")
            async with open_server(settings, database_url=database.url, directory=root) as server:
                yield server, database


@click.group()
def main() -> None:
    """Does the server stay the same over very many requests? Exit code 1 if not."""


@main.command()
@click.option("--requests", default=100_000, show_default=True, type=click.IntRange(min=1_000))
@click.option("--warm-up", default=5_000, show_default=True, help="Requests not yet judged.")
@click.option("--every", default=5_000, show_default=True, help="Requests between two samples.")
@click.option("--seed", default="1", show_default=True)
def memory(requests: int, warm_up: int, every: int, seed: str) -> None:
    """Watch the server's resident memory over 100,000 requests of every kind."""
    if requests < warm_up + 2 * every:
        raise click.UsageError("too few requests for two samples after the warm-up")

    async def soak(on_progress: OnProgress) -> MemoryResult:
        async with open_stage(MEMORY_SETTINGS) as (server, _):
            return await MemorySoak(
                server, requests=requests, every=every, seed=seed, on_progress=on_progress
            ).run()

    result = _run(soak, "Memory", requests)
    _console.print(_answers_table(result.answers))
    _console.print(_memory_table(result))
    failures = [f"{n} x {kind} answered {status}" for (kind, status), n in result.wrong.items()]
    growth = growth_bytes(result.samples, warm_up)
    if growth > GROWTH_LIMIT_BYTES:
        failures.append(f"memory grew by more than {GROWTH_LIMIT_BYTES // MEGABYTE} MB")
    _console.print(f"After {warm_up:,} requests, memory grew by {growth / MEGABYTE:.1f} MB.")
    _conclude(failures)


@main.command()
@click.option("--requests", default=10_000, show_default=True, type=click.IntRange(min=10))
@click.option("--seed", default="1", show_default=True)
def cancel(requests: int, seed: str) -> None:
    """Abandon a third of 10,000 requests anywhere, then look for anything left of them."""

    async def soak(on_progress: OnProgress) -> CancelResult:
        async with open_stage(CANCEL_SETTINGS) as (server, database):
            await database.slow_down(QUERY_SECONDS)
            return await CancelSoak(
                server, database, requests=requests, seed=seed, on_progress=on_progress
            ).run()

    result = _run(soak, "Cancellation", requests)
    _console.print(_answers_table(result.outcomes))
    if result.rest_seconds is not None:
        _console.print(f"At rest {result.rest_seconds:.1f} s after the last request.")
    _conclude(result.failures)


def _run(soak: Callable[[OnProgress], Awaitable[T]], title: str, total: int) -> T:
    """Run ``soak`` under a progress bar; end the process where it cannot be run to its end."""
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=_console, refresh_per_second=4) as bar:
            task = bar.add_task(title, total=total)
            return run_explained(
                lambda: trio.run(soak, lambda done: bar.update(task, completed=done)),
                (ServerFailed, ProcessLookupError),
            )
    except RunFailed as failed:
        _console.print(f"FAILED: {failed}", markup=False, style="bold red")
        sys.exit(failed.exit_code)


def _answers_table(counts: Counter[tuple[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("requests", "answer"):
        table.add_column(column)
    table.add_column("count", justify="right")
    for (kind, answer), count in sorted(counts.items(), key=str):
        table.add_row(kind, str(answer), f"{count:,}")
    return table


def _memory_table(result: MemoryResult) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("requests", "resident MB"):
        table.add_column(column, justify="right")
    for sample in result.samples:
        table.add_row(f"{sample.requests:,}", f"{sample.resident_bytes / MEGABYTE:.1f}")
    return table


def _conclude(failures: Sequence[str]) -> NoReturn:
    for failure in failures:
        _console.print(f"FAILED: {failure}", markup=False, style="bold red")
    if not failures:
        _console.print("Passed.", style="bold green")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
