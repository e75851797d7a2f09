"""What the commands of `bench.http` and `bench.gateway` have in common beyond `bench.command`."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from rich.console import Console

from bench.command import (
    Command,
    connections_option,
    end,
    print_tables,
    seconds_option,
    seed_option,
    timestamp,
    write_results,
)
from bench.failures import RunFailed
from bench.http import pinning, wrk
from bench.http.report import Run, conclusion, document, legends, makeup, markdown, terminal_tables
from bench.http.run import Gathered
from bench.http.throughput import Load
from bench.http.watching import Watch
from bench.isolation.generator import GeneratorFailed
from bench.machine import Machine
from bench.server import ServerFailed
from bench.verdict import Verdict

RATE = 50.0
"""Requests a second of the caller, or the tenant, who is watched."""
WATCHED_TURNS = 2
"""How many turns' length they are watched alone, and beside the others: a p99 needs more."""
EXPECTED = (ServerFailed, GeneratorFailed, RunFailed)
"""What a run may fail with."""


def turn_options(command: Command) -> Command:
    """``--seconds``, ``--connections`` and ``--seed``."""
    for option in (  # as decorators go: the last is the first of the help text
        seed_option("Of the paced requests' instants."),
        connections_option("Connections of the load, each with one request at a time."),
        seconds_option(
            "Length of one turn; alone and flooded twice that each.  [default: 5, quick: 2]"
        ),
    ):
        command = option(command)
    return command


def load_of(*, quick: bool, rounds: int | None, seconds: int | None, connections: int) -> Load:
    """The load that the options ask for."""
    return Load(
        connections=connections,
        seconds=seconds or (2 if quick else 5),
        warm_up=1 if quick else 3,
        rounds=rounds or (3 if quick else 5),
    )


def watch_of(load: Load, *, connections: int, seed: str) -> Watch:
    """The watch that goes with ``load``, beside a flood on ``connections``."""
    return Watch(
        rate=RATE,
        connections=connections,
        seconds=WATCHED_TURNS * load.seconds,
        rounds=load.rounds,
        seed=seed,
    )


def pin() -> tuple[str, ...]:
    """Put the load on its cores; returns what puts a command on the server's core.

    Raises:
        RunFailed: wrk or what pins is not there.
    """
    wrk.require()
    pinning.require()
    return pinning.pin_load()


def run_of(gathered: Gathered, load: Load, watch: Watch, machine: Machine, verdict: Verdict) -> Run:
    """The run that ends now."""
    return Run(
        finished_at=timestamp(),
        machine=machine,
        postgresql=gathered.postgresql,
        load=load,
        watch=watch,
        jobs=gathered.jobs,
        scenarios=gathered.scenarios,
        verdict=verdict,
    )


def report_and_end(name: str, run: Run, output: Path, console: Console) -> NoReturn:
    """Write ``name``.json and ``name``.md, print the run, and end the process by its verdict."""
    written = write_results(output, name, document(run), markdown(run))
    print_tables(terminal_tables(run), (*legends(run), *makeup(run)), console)
    end(run.verdict, conclusion(run.verdict), written, console)
