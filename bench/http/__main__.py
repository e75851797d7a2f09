"""``python -m bench.http``: measure, print and write what the HTTP data plane does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import attrs
import click
from rich.console import Console

from bench.command import (
    chosen,
    ending_if_failed,
    gather_with_bar,
    only_option,
    output_option,
    quick_option,
    rounds_option,
)
from bench.http import node
from bench.http.command import (
    EXPECTED,
    load_of,
    pin,
    report_and_end,
    run_of,
    turn_options,
    watch_of,
)
from bench.http.jobs import JOBS
from bench.http.run import Gathered, Plan, gather
from bench.http.scenarios import SCENARIOS
from bench.http.verdict import judge_job, judge_scenario
from bench.machine import PACKAGES, Machine, describe_machine
from bench.verdict import Verdict, joined, load_warnings

FLOOD_CONNECTIONS = 100
PEER_PACKAGES = ("httptools", "uvicorn", "uvloop", "fastapi", "asyncpg", "httpx")


def judge_all(gathered: Gathered, warnings: Sequence[str]) -> Verdict:
    """The verdicts of all parts in one, each text under its part's name.

    ``warnings`` are those of the run as a whole.
    """
    verdicts = [(result.job.name, judge_job(result)) for result in gathered.jobs]
    verdicts += [(r.scenario.name, judge_scenario(r)) for r in gathered.scenarios]
    return joined(verdicts, warnings)


def describe() -> Machine:
    """This machine, with the peers' versions."""
    machine = describe_machine((*PACKAGES, *PEER_PACKAGES))
    return attrs.evolve(machine, packages=machine.packages | node.versions())


@click.command()
@only_option(part.name for part in (*JOBS, *SCENARIOS))
@quick_option("Three short rounds")
@rounds_option("Rounds in each of which every subject has its turn.  [default: 5, quick: 3]")
@turn_options
@output_option("JSON and Markdown")
def main(
    names: tuple[str, ...],
    quick: bool,
    rounds: int | None,
    seconds: int | None,
    connections: int,
    seed: str,
    output: Path,
) -> None:
    """Measure the HTTP data plane beside its peers, one core for each server in its turn.

    For a look while tuning: python -m bench.http --only data --quick

    Exit code 1 if a bar is not met or a job was not what it says.
    """
    console = Console()
    load = load_of(quick=quick, rounds=rounds, seconds=seconds, connections=connections)
    watch = watch_of(load, connections=FLOOD_CONNECTIONS, seed=seed)
    busy = load_warnings(os.getloadavg()[0])
    machine = describe()
    with ending_if_failed(console):
        plan = Plan(
            jobs=chosen(JOBS, names),
            load=load,
            scenarios=chosen(SCENARIOS, names),
            watch=watch,
            prefix=pin(),
        )
        gathered = gather_with_bar(gather, plan, EXPECTED)
    run = run_of(gathered, load, watch, machine, judge_all(gathered, busy))
    report_and_end("http", run, output, console)


if __name__ == "__main__":
    main()
