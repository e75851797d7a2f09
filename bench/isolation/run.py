"""One scenario from start to samples: a database, the server, the load generators, the figures."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import attrs
import trio

from bench.client import Address
from bench.database import DatabaseServer
from bench.isolation.generator import Generator, open_generator
from bench.isolation.messages import Finished, FloodSpec, Recording, SteadySpec
from bench.isolation.plan import LoadSettings, Plan
from bench.isolation.scenarios import FLOODED_TIER, STEADY_TIERS, Scenario
from bench.isolation.summary import summarize_tier
from bench.isolation.verdict import MetricsAnswer, ScenarioResult
from bench.machine import cpu_seconds
from bench.server import Server, ServerFailed, open_server

LEAD_SECONDS = 0.5
"""From the generators being ready to the run's start: time to open their connections."""
REQUEST_SECONDS = 15.0
"""When a request is given up: longer than any deadline of the server's tiers."""
TICK_SECONDS = 0.25


def steady_spec(load: LoadSettings, address: Address) -> SteadySpec:
    """What the steady generator is told."""
    return SteadySpec(
        host=address.host,
        port=address.port,
        tiers=list(STEADY_TIERS),
        rate=load.rate,
        seconds=load.plan.end,
        timeout=REQUEST_SECONDS,
        seed=load.seed,
    )


def flood_spec(load: LoadSettings, address: Address, path: str) -> FloodSpec:
    """What the flooding generator is told."""
    return FloodSpec(
        host=address.host,
        port=address.port,
        tier=FLOODED_TIER,
        path=path,
        connections=load.flood_connections,
        after=load.plan.flood_start,
        seconds=load.flood_seconds,
        timeout=REQUEST_SECONDS,
    )


@attrs.frozen
class Observation:
    """What was seen of the server amid the flood."""

    bulkheads: MetricsAnswer
    cpu_share: float


@attrs.frozen
class Measured:
    """A scenario's result, and the samples of the steady tiers that it was made from."""

    result: ScenarioResult
    recordings: tuple[Recording, ...]


async def measure(
    scenario: Scenario,
    load: LoadSettings,
    databases: DatabaseServer,
    directory: Path,
    on_tick: Callable[[float, int], None],
) -> Measured:
    """Run ``scenario`` on a server and a database of its own.

    Args:
        scenario: what is done to the flooded tier.
        load: how much, for how long.
        databases: the PostgreSQL server in which a database is made.
        directory: an existing, empty one, for the server's files.
        on_tick: called several times a second with the seconds of the run that have passed and
            the number of requests answered.

    Raises:
        ServerFailed: the server did not start or did not end as it should.
        GeneratorFailed: a load generator did not deliver.
    """
    database = await databases.create(f"bench_{scenario.name}")
    async with open_server(
        scenario.environment, database_url=database.url, directory=directory
    ) as server:
        if scenario.delays:
            await database.slow_down(scenario.delays)
        async with (
            open_generator(steady_spec(load, server.address)) as steady,
            open_generator(flood_spec(load, server.address, scenario.path)) as flood,
        ):
            await steady.wait_ready()
            await flood.wait_ready()
            run = _Run(server, load.plan, on_tick)
            steady_done, flood_done, seen = await run.execute(steady, flood)
    result = _result(scenario, load.plan, steady_done, flood_done, seen)
    return Measured(result, tuple(steady_done.recordings))


def _result(
    scenario: Scenario, plan: Plan, steady: Finished, flood: Finished, seen: Observation
) -> ScenarioResult:
    return ScenarioResult(
        scenario=scenario,
        steady=tuple(summarize_tier(r.tier, r.samples, plan) for r in steady.recordings),
        flood=summarize_tier(FLOODED_TIER, flood.recordings[0].samples, plan),
        bulkheads=seen.bulkheads,
        cpu={
            "server": seen.cpu_share,
            "flood generator": round(flood.cpu_seconds / plan.flooded, 2),
            "steady generator": round(steady.cpu_seconds / plan.end, 2),
        },
    )


def _count(finished: Finished) -> int:
    return sum(len(recording.samples) for recording in finished.recordings)


class _Run:
    """The generators at work and the server under observation, for the length of one plan."""

    def __init__(self, server: Server, plan: Plan, on_tick: Callable[[float, int], None]) -> None:
        self._server = server
        self._plan = plan
        self._on_tick = on_tick
        self._answered: dict[Generator, int] = {}
        self._finished: dict[Generator, Finished] = {}
        self._seen: Observation | None = None

    async def execute(
        self, steady: Generator, flood: Generator
    ) -> tuple[Finished, Finished, Observation]:
        start_at = time.monotonic() + LEAD_SECONDS
        start = trio.current_time() + LEAD_SECONDS
        async with trio.open_nursery() as ticking:
            ticking.start_soon(self._tick, start)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow, steady, start_at)
                nursery.start_soon(self._follow, flood, start_at)
                nursery.start_soon(self._observe, start)
            ticking.cancel_scope.cancel()
        self._on_tick(self._plan.end, sum(_count(done) for done in self._finished.values()))
        assert self._seen is not None, "observed, or the nursery would have raised"
        return self._finished[steady], self._finished[flood], self._seen

    async def _follow(self, generator: Generator, start_at: float) -> None:
        def note(answered: int) -> None:
            self._answered[generator] = answered

        self._finished[generator] = await generator.run(start_at, self._plan.end, note)

    async def _tick(self, start: float) -> None:
        while True:
            passed = min(max(trio.current_time() - start, 0.0), self._plan.end)
            self._on_tick(passed, sum(self._answered.values()))
            await trio.sleep(TICK_SECONDS)

    async def _observe(self, start: float) -> None:
        """Take the server's processor time over the flood, and its own account amid it."""
        flood_start = start + self._plan.flood_start
        await trio.sleep_until(flood_start)
        used = cpu_seconds(self._server.pid)
        await trio.sleep_until(flood_start + self._plan.flooded / 2)
        bulkheads = await self._ask_bulkheads()
        await trio.sleep_until(flood_start + self._plan.flooded)
        used = cpu_seconds(self._server.pid) - used
        seconds = trio.current_time() - flood_start  # longer where the metrics kept us waiting
        self._seen = Observation(bulkheads, round(used / seconds, 2))

    async def _ask_bulkheads(self) -> MetricsAnswer:
        status, content = 0, None
        asked = trio.current_time()
        with contextlib.suppress(ServerFailed):
            answer = await self._server.get("/metrics/bulkheads")
            status, content = answer.status, answer.json()
        return MetricsAnswer(status, content, round((trio.current_time() - asked) * 1000, 1))
