"""Everything that a run measures, one part after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from bench.delivery import accepting, deliveries
from bench.delivery.accepting import AcceptJob
from bench.delivery.backlogs import SHAPES, measure_claims
from bench.delivery.claiming import ClaimResult
from bench.delivery.deliveries import DeliveryJob
from bench.delivery.figures import RateResult
from bench.delivery.world import open_world

OnStep = Callable[[str], None]


@attrs.frozen
class Plan:
    """What a run consists of.

    Attributes:
        delivery_jobs: each delivers ``events`` in each round.
        accept_jobs: each sends events for ``seconds`` in each round, from ``connections``.
        backlogs: rows that wait while claims are measured; empty: claims are not.
        rounds: of each job.
    """

    delivery_jobs: Sequence[DeliveryJob]
    accept_jobs: Sequence[AcceptJob]
    backlogs: Sequence[int]
    events: int
    connections: int
    seconds: float
    rounds: int


@attrs.frozen
class Gathered:
    """What was measured, and the version of the PostgreSQL that took part."""

    postgresql: str
    rates: tuple[RateResult, ...]
    claims: tuple[ClaimResult, ...]


async def gather(plan: Plan, on_part: Callable[[str, int], OnStep]) -> Gathered:
    """Do all of ``plan``.

    Args:
        plan: what to do.
        on_part: called with a part's title and its number of steps; returns what is called at each
            of them.

    Raises:
        ServerFailed: a server did not start or did not end as it should.
        RunFailed: something did not do what it says, or the load could not be made.
        ReceiverFailed: the receiver did not start.
    """
    rates = []
    async with open_world() as world:
        for job in plan.accept_jobs:
            rates.append(
                await accepting.measure(
                    job,
                    world,
                    connections=plan.connections,
                    seconds=plan.seconds,
                    rounds=plan.rounds,
                    on_step=on_part(job.title, plan.rounds),
                )
            )
        for delivery_job in plan.delivery_jobs:
            rates.append(
                await deliveries.measure(
                    delivery_job,
                    world,
                    events=plan.events,
                    rounds=plan.rounds,
                    on_step=on_part(delivery_job.title, plan.rounds),
                )
            )
        claims: tuple[ClaimResult, ...] = ()
        if plan.backlogs:
            on_step = on_part("Claims", len(SHAPES) * len(plan.backlogs))
            database = await world.databases.create("bench_claims")
            claims = await measure_claims(database, plan.backlogs, on_step=on_step)
        return Gathered(world.postgresql, tuple(rates), claims)
