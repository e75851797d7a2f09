"""Everything that a run measures, one part after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from bench.gateway import neighbours, throughput
from bench.gateway.jobs import GatewayJob
from bench.gateway.neighbours import Neighbourhood
from bench.gateway.world import open_world
from bench.http.run import Gathered
from bench.http.throughput import Load, OnStep
from bench.http.watching import Watch


@attrs.frozen
class Plan:
    """What a run consists of.

    Attributes:
        jobs: of throughput, with ``load``.
        scenarios: of neighbours, with ``watch``.
        prefix: what puts a command on the server's core.
    """

    jobs: Sequence[GatewayJob]
    load: Load
    scenarios: Sequence[Neighbourhood]
    watch: Watch
    prefix: tuple[str, ...]


async def gather(plan: Plan, on_part: Callable[[str, int], OnStep]) -> Gathered:
    """Do all of ``plan``.

    Args:
        plan: what to do.
        on_part: called with a part's title and its number of steps; returns what is called at each
            of them.

    Raises:
        ServerFailed: a server did not start or did not end as it should.
        GeneratorFailed: a load generator did not deliver.
        RunFailed: a subject does not do what it says, or the load could not be made.
    """
    async with open_world(plan.prefix) as world:
        jobs = []
        for job in plan.jobs:
            on_step = on_part(job.title, (1 + plan.load.rounds) * len(job.entries))
            jobs.append(await throughput.measure(job, plan.load, world, on_step))
        scenarios = []
        for scenario in plan.scenarios:
            on_step = on_part(scenario.title, plan.watch.rounds)
            scenarios.append(await neighbours.measure(scenario, plan.watch, world, on_step))
        return Gathered(world.postgresql, tuple(jobs), tuple(scenarios))
