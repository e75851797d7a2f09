"""Everything that a run measures, one job after another, on one PostgreSQL."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import attrs

from bench.database import DatabaseServer, open_database_server
from bench.http import throughput, watching
from bench.http.figures import JobResult
from bench.http.jobs import Job
from bench.http.scenarios import Scenario
from bench.http.setup import Setup, open_subject
from bench.http.subjects import UVICORN, TierLimits
from bench.http.throughput import Load, OnStep
from bench.http.watched import ScenarioResult
from bench.http.watching import Watch

MAX_CONNECTIONS = 600
"""Six servers with up to 100 each at the same time."""


@attrs.frozen
class Plan:
    """What a run consists of.

    Attributes:
        jobs: of throughput, with ``load``.
        scenarios: of isolation, with ``watch``.
        prefix: what puts a command on the server's core.
    """

    jobs: Sequence[Job]
    load: Load
    scenarios: Sequence[Scenario]
    watch: Watch
    prefix: tuple[str, ...]


@attrs.frozen
class Gathered:
    """What was measured, and the version of the PostgreSQL that took part."""

    postgresql: str
    jobs: tuple[JobResult, ...]
    scenarios: tuple[ScenarioResult, ...]


async def gather(plan: Plan, on_part: Callable[[str, int], OnStep]) -> Gathered:
    """Do all of ``plan``, one part after another.

    Args:
        plan: what to do.
        on_part: called with a part's title and its number of steps; returns what is called at
            each of them.

    Raises:
        ServerFailed: a server did not start or did not end as it should.
        GeneratorFailed: a load generator did not deliver.
        RunFailed: a subject does another job than it says, or the load could not be made.
    """
    with tempfile.TemporaryDirectory(prefix="bulkhead-bench-") as temporary:
        root = Path(temporary)
        root.chmod(0o711)  # PostgreSQL, which refuses to run as root, must get at its own part
        async with open_database_server(
            root / "postgres", max_connections=MAX_CONNECTIONS
        ) as databases:
            parts = _Parts(plan, root, databases, on_part)
            jobs = [await parts.job(job) for job in plan.jobs]
            scenarios = [await parts.scenario(scenario) for scenario in plan.scenarios]
            return Gathered(await databases.version(), tuple(jobs), tuple(scenarios))


class _Parts:
    """Does one part after another, each with a directory and a database of its own."""

    def __init__(
        self,
        plan: Plan,
        root: Path,
        databases: DatabaseServer,
        on_part: Callable[[str, int], OnStep],
    ) -> None:
        self._plan = plan
        self._root = root
        self._databases = databases
        self._on_part = on_part

    async def job(self, job: Job) -> JobResult:
        load = self._plan.load
        on_step = self._on_part(job.title, (1 + load.rounds) * len(job.entries))
        async with self._open_setup(job.name, job.tiers, has_upstream=job.has_upstream) as setup:
            return await throughput.measure(job, load, setup, on_step)

    async def scenario(self, scenario: Scenario) -> ScenarioResult:
        watch = self._plan.watch
        on_step = self._on_part(scenario.title, watch.rounds * len(scenario.subjects))
        async with self._open_setup(scenario.name, scenario.tiers) as setup:
            return await watching.measure(scenario, watch, setup, on_step)

    @asynccontextmanager
    async def _open_setup(
        self, name: str, tiers: Mapping[str, TierLimits] | None, *, has_upstream: bool = False
    ) -> AsyncIterator[Setup]:
        directory = self._root / name
        directory.mkdir()
        setup = Setup(self._plan.prefix, directory)
        async with AsyncExitStack() as stack:
            if tiers is not None:
                database = await self._databases.create(f"bench_{name}")
                setup = attrs.evolve(setup, database=database, tiers=tiers)
            if has_upstream:
                # Not on the server's core: what is measured is the proxy in front of it.
                beside = Setup((), directory / "upstream")
                beside.directory.mkdir()
                upstream = await stack.enter_async_context(open_subject(UVICORN, beside, {}))
                address = upstream.address
                setup = attrs.evolve(setup, upstream=f"http://{address.host}:{address.port}")
            yield setup
