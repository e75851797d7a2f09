"""One scenario from start to figures: a paced caller, alone and beside a flood, in rounds."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import AsyncExitStack

import attrs
import trio

from bench.http import wrk
from bench.http.floods import BadFloodSpec
from bench.http.scenarios import FLOODED_TIER, PATH, WATCHED_TIER, Flood, Scenario
from bench.http.setup import Setup, missing, open_subject
from bench.http.throughput import OnStep
from bench.http.watched import FloodSeen, ScenarioResult, SubjectResult, Watched
from bench.isolation.generator import Generator, open_generator
from bench.isolation.messages import Finished, SteadySpec
from bench.isolation.plan import Plan
from bench.isolation.summary import summarize_tier
from bench.machine import cpu_seconds
from bench.server import Server

LEAD_SECONDS = 0.5
"""From the generators being ready to the turn's start: time to open the connections."""
WARM_UP_SECONDS = 1.0
REQUEST_SECONDS = 15.0
"""When a request is given up: longer than any deadline of the server's tiers."""
NICE = ("nice", "-n", "10")
"""The flood shares its core with the caller that is watched: it must not delay that itself."""


@attrs.frozen
class Watch:
    """How a caller is watched.

    Attributes:
        rate: its requests a second.
        connections: of the flood.
        seconds: alone, and as many beside the flood.
        rounds: in each of which every subject has its turn.
        seed: of the instants at which requests are due.
    """

    rate: float
    connections: int
    seconds: float
    rounds: int
    seed: str

    @property
    def plan(self) -> Plan:
        """The phases of one turn."""
        return Plan(warm_up=WARM_UP_SECONDS, alone=self.seconds, flooded=self.seconds)


async def measure(
    scenario: Scenario, watch: Watch, setup: Setup, on_step: OnStep
) -> ScenarioResult:
    """Start every subject of ``scenario`` that can run here, and let them take turns.

    Args:
        scenario: what is done to the flooded tier.
        watch: how the other tier's caller is watched.
        setup: where the subjects run and with what.
        on_step: called with what is done next, once for each turn.

    Raises:
        ServerFailed: a subject did not start or did not end as it should.
        GeneratorFailed: a load generator did not deliver.
        RunFailed: the load could not be made.
    """
    absent = {s.name: what for s in scenario.subjects if (what := missing(s))}
    subjects = [subject for subject in scenario.subjects if subject.name not in absent]
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(open_subject(subject, setup, {}))
            for subject in subjects
        ]
        turns: list[list[Watched]] = [[] for _ in subjects]
        for number in range(watch.rounds):
            for subject, server, taken in zip(subjects, servers, turns, strict=True):
                on_step(subject.name)
                turn = _Turn(scenario, watch, server, seed=f"{watch.seed}/{number}")
                taken.append(await turn.run())
    results = [SubjectResult(s, tuple(t)) for s, t in zip(subjects, turns, strict=True)]
    return ScenarioResult(scenario, tuple(results), absent)


class _Turn:
    """One subject's turn: warm-up, alone, beside the flood."""

    def __init__(self, scenario: Scenario, watch: Watch, server: Server, *, seed: str) -> None:
        self._scenario = scenario
        self._watch = watch
        self._server = server
        self._seed = seed
        self._plan = watch.plan
        self._finished: dict[Generator, Finished] = {}
        self._seen: FloodSeen | None = None
        self._cores = 0.0

    async def run(self) -> Watched:
        async with AsyncExitStack() as stack:
            steady = await stack.enter_async_context(open_generator(self._steady_spec()))
            await steady.wait_ready()
            flood = None
            if self._scenario.flood is not Flood.STEADY:
                flood = await stack.enter_async_context(
                    open_generator(self._flood_spec(), module="bench.http.floods", prefix=NICE)
                )
                await flood.wait_ready()
            await self._execute(steady, flood)
        recording = self._finished[steady].recordings[0]
        assert self._seen is not None, "seen, or the nursery would have raised"
        return Watched(
            tier=summarize_tier(WATCHED_TIER, recording.samples, self._plan),
            flood=self._seen,
            cores=self._cores,
        )

    async def _execute(self, steady: Generator, flood: Generator | None) -> None:
        start_at = time.monotonic() + LEAD_SECONDS
        flood_start = trio.current_time() + LEAD_SECONDS + self._plan.flood_start
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow, steady, start_at)
            nursery.start_soon(self._observe, flood_start)
            if flood is None:
                nursery.start_soon(self._flood_with_wrk, flood_start)
            else:
                nursery.start_soon(self._follow, flood, start_at)
        if flood is not None:
            self._seen = _seen(self._finished[flood], self._plan.flooded)

    async def _follow(self, generator: Generator, start_at: float) -> None:
        self._finished[generator] = await generator.run(start_at, self._plan.end, _ignore)

    async def _flood_with_wrk(self, flood_start: float) -> None:
        await trio.sleep_until(flood_start)
        count = await wrk.load(
            self._server.address,
            PATH,
            {"X-Tenant-Tier": FLOODED_TIER},
            connections=self._watch.connections,
            seconds=self._plan.flooded,
            prefix=NICE,
        )
        good = count.requests - count.refused
        self._seen = FloodSeen(good, count.refused, count.errors, count.per_second)

    async def _observe(self, flood_start: float) -> None:
        await trio.sleep_until(flood_start)
        used, began = cpu_seconds(self._server.pid), trio.current_time()
        await trio.sleep_until(flood_start + self._plan.flooded)
        used = cpu_seconds(self._server.pid) - used
        self._cores = used / (trio.current_time() - began)

    def _steady_spec(self) -> SteadySpec:
        address = self._server.address
        return SteadySpec(
            host=address.host,
            port=address.port,
            tiers=[WATCHED_TIER],
            rate=self._watch.rate,
            seconds=self._plan.end,
            timeout=REQUEST_SECONDS,
            seed=self._seed,
        )

    def _flood_spec(self) -> BadFloodSpec:
        address = self._server.address
        return BadFloodSpec(
            host=address.host,
            port=address.port,
            tier=FLOODED_TIER,
            path=PATH,
            connections=self._watch.connections,
            after=self._plan.flood_start,
            seconds=self._plan.flooded,
            timeout=REQUEST_SECONDS,
            is_garbage=self._scenario.flood is Flood.GARBAGE,
            seed=self._seed,
        )


def _ignore(_answered: int) -> None:
    """Progress is shown by turns."""


def _seen(finished: Finished, seconds: float) -> FloodSeen:
    statuses = Counter(sample.status for sample in finished.recordings[0].samples)
    none, good = statuses.pop(0, 0), statuses.pop(200, 0)
    refused = sum(statuses.values())
    return FloodSeen(good, refused, none, (good + refused) / seconds)
