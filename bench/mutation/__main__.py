"""``python -m bench.mutation [FILE...]``."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click
import trio
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.failures import RunFailed, run_explained
from bench.mutation.mutants import mutants_of
from bench.mutation.results import LEAST_RATE, FileResult, as_json, total_rate
from bench.mutation.run import check_all, copy_tree
from bench.mutation.targets import NoTests, Target, find_rules, target_of

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "bench" / "results" / "mutation.json"

_console = Console()


@click.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--list", "only_list", is_flag=True, help="Print the mutants; run nothing.")
def main(files: Sequence[Path], only_list: bool) -> None:
    """Do the tests notice a wrong comparison in a rule? Exit code 1 below 95 %.

    FILES are modules of rules; all of them if none is given, and then the results are kept in
    bench/results/mutation.json.
    """
    try:
        chosen = [file.resolve().relative_to(ROOT) for file in files] or find_rules(ROOT)
        targets = [target_of(file, ROOT) for file in chosen]
    except (NoTests, ValueError) as error:
        raise click.UsageError(str(error)) from None
    if only_list:
        _print_mutants(targets)
        return
    results = _run(targets)
    _console.print(_table(results))
    for result in results:
        for found in result.survivors:
            text = f"survived: {result.file}:{found.line}: {found.before}  ->  {found.after}"
            _console.print(text, markup=False, highlight=False, soft_wrap=True)
    if not files:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(as_json(results), encoding="utf-8")
    rate = total_rate(results)
    if rate < LEAST_RATE:
        _fail(f"{rate:.1%} of the mutants were killed; {LEAST_RATE:.0%} have to be")
    _console.print(f"Passed: {rate:.1%} of the mutants were killed.", style="bold green")


def _run(targets: Sequence[Target]) -> list[FileResult]:
    total = sum(len(list(mutants_of(_source(t), str(t.file)))) for t in targets)
    columns = (TextColumn("Mutants"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with (
            tempfile.TemporaryDirectory(prefix="bulkhead-mutation-") as temporary,
            Progress(*columns, console=_console, refresh_per_second=4) as bar,
        ):
            copy = Path(temporary) / "tree"
            copy_tree(ROOT, copy)
            task = bar.add_task("mutants", total=total)
            return run_explained(
                lambda: trio.run(check_all, copy, targets, lambda: bar.advance(task)),
                (RunFailed,),
            )
    except RunFailed as failed:
        _fail(str(failed), failed.exit_code)


def _source(target: Target) -> str:
    return (ROOT / target.file).read_text(encoding="utf-8")


def _print_mutants(targets: Sequence[Target]) -> None:
    for target in targets:
        for mutant in mutants_of(_source(target), str(target.file)):
            click.echo(f"{target.file}:{mutant.line}: {mutant.before}  ->  {mutant.after}")


def _table(results: Sequence[FileResult]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("rules", overflow="fold")
    for column in ("mutants", "killed", "survived", "rate", "seconds"):
        table.add_column(column, justify="right")
    for result in results:
        table.add_row(
            result.file.removeprefix("bulkhead_trio/policies/"),
            str(result.mutants),
            str(result.killed),
            str(len(result.survivors)),
            f"{result.rate:.1%}",
            f"{result.seconds:.0f}",
        )
    return table


def _fail(message: str, exit_code: int = 1) -> NoReturn:
    _console.print(f"FAILED: {message}", markup=False, style="bold red")
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
