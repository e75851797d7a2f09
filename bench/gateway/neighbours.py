"""A quiet tenant, alone and beside a noisy one in the same tier, in rounds."""

from __future__ import annotations

import time

import attrs
import trio

from bench.gateway.caller import CallerSpec
from bench.gateway.population import Tenant, target_path
from bench.gateway.world import NOISY, QUIET, World
from bench.http import wrk
from bench.http.scenarios import Flood, Scenario
from bench.http.throughput import OnStep
from bench.http.watched import FloodSeen, ScenarioResult, SubjectResult, Watched
from bench.http.watching import LEAD_SECONDS, NICE, REQUEST_SECONDS, Watch
from bench.isolation.generator import Generator, open_generator
from bench.isolation.messages import Finished
from bench.isolation.summary import summarize_tier
from bench.machine import cpu_seconds
from bench.server import Server


@attrs.frozen
class Neighbourhood(Scenario):
    """Two tenants in one tier.

    Attributes:
        is_slow: whether the upstream takes its time, so that the tier's compartment is what they
            meet in; otherwise it is the processor.
    """

    is_slow: bool = attrs.field(kw_only=True)

    @property
    def path(self) -> str:
        """What both ask for."""
        return target_path(0) + ("/slow" if self.is_slow else "")


NEIGHBOURHOODS = (
    Neighbourhood(
        name="neighbour",
        title="A quiet tenant beside a noisy one: an upstream that takes 10 ms",
        flood=Flood.STEADY,
        bar=1.5,
        refused_share=0.0,
        is_slow=True,
    ),
    Neighbourhood(
        name="neighbour-fast",
        title="A quiet tenant beside a noisy one: an upstream that answers at once",
        flood=Flood.STEADY,
        bar=1.5,
        refused_share=0.0,
        is_slow=False,
    ),
)


@attrs.frozen
class NeighbourResult(SubjectResult):
    """The quiet tenant's turns; its p99 is what is promised."""

    def is_within(self, bar: float) -> bool:
        """Whether p99 is within ``bar`` times that alone."""
        return self.ratio.p99 <= bar


async def measure(
    scenario: Neighbourhood, watch: Watch, world: World, on_step: OnStep
) -> ScenarioResult:
    """Let the quiet tenant be watched, in each round on a server of its own.

    Args:
        scenario: how the two meet.
        watch: the quiet one's pace, and the noisy one's connections.
        world: where it is done.
        on_step: called once for each turn.

    Raises:
        ServerFailed: the server did not start or did not end as it should.
        GeneratorFailed: the caller's process did not deliver.
        RunFailed: the load could not be made.
    """
    database, tenants = await world.neighbours()
    turns = []
    for number in range(watch.rounds):
        on_step(scenario.name)
        async with world.open_gateway(database, {}) as server:
            turn = _Turn(scenario, watch, server, tenants, seed=f"{watch.seed}/{number}")
            turns.append(await turn.run())
    return ScenarioResult(scenario, (NeighbourResult(scenario.subjects[0], tuple(turns)),), {})


class _Turn:
    """One turn: warm-up, alone, beside the flood."""

    def __init__(
        self,
        scenario: Neighbourhood,
        watch: Watch,
        server: Server,
        tenants: dict[str, Tenant],
        *,
        seed: str,
    ) -> None:
        self._scenario = scenario
        self._watch = watch
        self._server = server
        self._tenants = tenants
        self._seed = seed
        self._plan = watch.plan
        self._finished: list[Finished] = []
        self._floods: list[FloodSeen] = []
        self._cores = 0.0

    async def run(self) -> Watched:
        async with open_generator(self._spec(), module="bench.gateway.caller") as caller:
            await caller.wait_ready()
            start_at = time.monotonic() + LEAD_SECONDS
            flood_start = trio.current_time() + LEAD_SECONDS + self._plan.flood_start
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow, caller, start_at)
                nursery.start_soon(self._flood, flood_start)
                nursery.start_soon(self._observe, flood_start)
        samples = self._finished[0].recordings[0].samples
        return Watched(summarize_tier(QUIET, samples, self._plan), self._floods[0], self._cores)

    async def _follow(self, caller: Generator, start_at: float) -> None:
        self._finished.append(await caller.run(start_at, self._plan.end, _ignore))

    async def _flood(self, start: float) -> None:
        await trio.sleep_until(start)
        count = await wrk.load(
            self._server.address,
            self._scenario.path,
            {"X-API-Key": self._tenants[NOISY].key},
            connections=self._watch.connections,
            seconds=self._plan.flooded,
            prefix=NICE,
        )
        good = count.requests - count.refused
        self._floods.append(FloodSeen(good, count.refused, count.errors, count.per_second))

    async def _observe(self, start: float) -> None:
        await trio.sleep_until(start)
        used, began = cpu_seconds(self._server.pid), trio.current_time()
        await trio.sleep_until(start + self._plan.flooded)
        used = cpu_seconds(self._server.pid) - used
        self._cores = used / (trio.current_time() - began)

    def _spec(self) -> CallerSpec:
        address = self._server.address
        return CallerSpec(
            host=address.host,
            port=address.port,
            name=QUIET,
            path=self._scenario.path,
            key=self._tenants[QUIET].key,
            rate=self._watch.rate,
            seconds=self._plan.end,
            timeout=REQUEST_SECONDS,
            seed=self._seed,
        )


def _ignore(_answered: int) -> None:
    """Progress is shown by turns."""
