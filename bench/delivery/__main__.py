"""``python -m bench.delivery``: measure, print and write what deliveries cost."""

from __future__ import annotations

import os
from pathlib import Path

import click
from rich.console import Console

from bench.command import (
    chosen,
    connections_option,
    end,
    ending_if_failed,
    gather_with_bar,
    only_option,
    output_option,
    print_tables,
    quick_option,
    rounds_option,
    seconds_option,
    timestamp,
    write_results,
)
from bench.delivery.accepting import ACCEPT_JOBS
from bench.delivery.deliveries import DELIVERY_JOBS
from bench.delivery.report import Run, document, legends, limits, markdown, terminal_tables
from bench.delivery.run import Plan, gather
from bench.delivery.verdict import judge
from bench.failures import RunFailed
from bench.http import wrk
from bench.http.report import conclusion
from bench.machine import PACKAGES, describe_machine
from bench.server import ServerFailed
from bench.verdict import load_warnings
from bulkhead_trio.testing.receiver import ReceiverFailed

CLAIMS = "claims"
BACKLOGS = (1_000, 10_000, 100_000, 1_000_000)
QUICK_BACKLOGS = (1_000, 100_000)
MORE_PACKAGES = ("cryptography", "httptools", "msgspec")


@click.command()
@only_option([*(job.name for job in (*ACCEPT_JOBS, *DELIVERY_JOBS)), CLAIMS])
@quick_option("One short round")
@rounds_option("[default: 3, quick: 1]")
@click.option(
    "--events",
    type=click.IntRange(1_000),
    help="To deliver, a round. [default: 30000, quick: 5000]",
)
@seconds_option("To send events, a round. [default: 10, quick: 3]")
@connections_option("That events are sent on, each with one request at a time.")
@output_option("JSON and Markdown")
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
        delivery_jobs=chosen(DELIVERY_JOBS, names),
        accept_jobs=chosen(ACCEPT_JOBS, names),
        backlogs=(QUICK_BACKLOGS if quick else BACKLOGS) if not names or CLAIMS in names else (),
        events=events or (5_000 if quick else 30_000),
        connections=connections,
        seconds=seconds or (3 if quick else 10),
        rounds=rounds or (1 if quick else 3),
    )
    busy = load_warnings(os.getloadavg()[0])
    machine = describe_machine((*PACKAGES, *MORE_PACKAGES))
    with ending_if_failed(console):
        if plan.accept_jobs:
            wrk.require()
        gathered = gather_with_bar(gather, plan, (ServerFailed, ReceiverFailed, RunFailed))
    run = Run(
        finished_at=timestamp(),
        machine=machine,
        postgresql=gathered.postgresql,
        rates=gathered.rates,
        claims=gathered.claims,
        verdict=judge(gathered.rates, gathered.claims, busy),
    )
    written = write_results(output, "delivery", document(run), markdown(run))
    print_tables(terminal_tables(run), (*legends(run), *limits(run)), console)
    end(run.verdict, conclusion(run.verdict), written, console)


if __name__ == "__main__":
    main()
