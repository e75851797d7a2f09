"""``python -m bench.isolation``: run the scenarios, print and write what they show."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import click
import trio
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bench.command import (
    end,
    ending_if_failed,
    output_option,
    seed_option,
    timestamp,
    write_results,
)
from bench.database import open_database_server
from bench.failures import run_explained
from bench.isolation.generator import GeneratorFailed
from bench.isolation.picture import Panel, draw
from bench.isolation.plan import LoadSettings
from bench.isolation.report import Run, conclusion, details, document, markdown, terminal_table
from bench.isolation.run import Measured, measure
from bench.isolation.scenarios import SCENARIOS, Scenario, scenario_named
from bench.isolation.verdict import judge
from bench.machine import describe_machine
from bench.server import ServerFailed
from bench.verdict import Verdict, joined, load_warnings

OnTick = Callable[[float, int], None]


@attrs.frozen
class Gathered:
    """The scenarios' measurements, and the version of the PostgreSQL that took part."""

    postgresql: str
    measured: tuple[Measured, ...]


async def gather(
    scenarios: Sequence[Scenario], load: LoadSettings, on_scenario: Callable[[Scenario], OnTick]
) -> Gathered:
    """Measure each scenario, one after another, on one PostgreSQL server.

    ``on_scenario`` is called as one begins and returns what is called as it goes on.
    """
    with tempfile.TemporaryDirectory(prefix="bulkhead-bench-") as temporary:
        root = Path(temporary)
        root.chmod(0o711)  # PostgreSQL, which refuses to run as root, must get at its own part
        async with open_database_server(root / "postgres") as databases:
            measured = []
            for scenario in scenarios:
                directory = root / scenario.name
                directory.mkdir()
                on_tick = on_scenario(scenario)
                measured.append(await measure(scenario, load, databases, directory, on_tick))
            return Gathered(await databases.version(), tuple(measured))


def run_with_bar(scenarios: Sequence[Scenario], load: LoadSettings, console: Console) -> Gathered:
    """Like `gather`, with a progress bar."""
    bar = Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(),
        TextColumn("{task.fields[answered]:>9,} answered"),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=4,  # drawing takes a core that the server could use
    )
    with bar:
        total = load.plan.end

        def on_scenario(scenario: Scenario) -> OnTick:
            task = bar.add_task(scenario.title, total=total, answered=0)
            return lambda passed, n: bar.update(task, completed=passed, answered=n)

        return trio.run(gather, scenarios, load, on_scenario)


def judge_all(measured: Sequence[Measured], warnings: Sequence[str]) -> Verdict:
    """The verdicts of all scenarios in one, each text under its scenario's name.

    ``warnings`` are those of the run as a whole.
    """
    verdicts = [(m.result.scenario.name, judge(m.result)) for m in measured]
    return joined(verdicts, warnings)


def write_all(run: Run, output: Path) -> list[Path]:
    """Write JSON, Markdown and the picture into the directory ``output``; returns their paths."""
    text = markdown(run.results, run.machine, run.load, run.verdict)
    written = write_results(output, "isolation", document(run), text)
    picture = output / "isolation.png"
    panels = [Panel(r.scenario.title, run.recordings[r.scenario.name]) for r in run.results]
    draw(panels, run.load.plan, picture)
    return [*written, picture]


@click.command()
@click.option(
    "--scenario",
    "names",
    multiple=True,
    type=click.Choice([scenario.name for scenario in SCENARIOS]),
    help="Run this scenario only; may be repeated. Default: all.",
)
@click.option(
    "--seconds",
    default=10.0,
    show_default=True,
    type=click.FloatRange(1, 600),
    help="Length of the flood; alone is four fifths of it.",
)
@click.option(
    "--flood-connections",
    default=100,
    show_default=True,
    type=click.IntRange(1, 10_000),
    help="Connections that flood the free tier, each asking again as soon as it is answered.",
)
@click.option(
    "--rate",
    default=50.0,
    show_default=True,
    type=click.FloatRange(1, 5_000),
    help="Requests a second to pro, and as many to enterprise.",
)
@seed_option("Of the steady requests' instants.")
@output_option("JSON, Markdown and picture")
def main(
    names: tuple[str, ...],
    seconds: float,
    flood_connections: int,
    rate: float,
    seed: str,
    output: Path,
) -> None:
    """Flood the free tier and measure what pro and enterprise notice of it.

    Starts a PostgreSQL and the server, once a scenario. Exit code 1 if a request of a steady tier
    was not answered 200, or a scenario did not come about.
    """
    console = Console()
    scenarios = [scenario_named(name) for name in names] or list(SCENARIOS)
    load = LoadSettings(rate, flood_connections, seconds, seed)
    busy = load_warnings(os.getloadavg()[0])
    with ending_if_failed(console):
        gathered = run_explained(
            lambda: run_with_bar(scenarios, load, console), (ServerFailed, GeneratorFailed)
        )
    run = Run(
        finished_at=timestamp(),
        machine=describe_machine(),
        postgresql=gathered.postgresql,
        load=load,
        results=tuple(m.result for m in gathered.measured),
        recordings={m.result.scenario.name: m.recordings for m in gathered.measured},
        verdict=judge_all(gathered.measured, busy),
    )
    written = write_all(run, output)
    for result in run.results:
        console.print(terminal_table(result))
        for sentence in details(result):
            console.print(f"  {sentence}", markup=False, highlight=False)
        console.print()
    end(run.verdict, conclusion(run.verdict), written, console)


if __name__ == "__main__":
    main()
