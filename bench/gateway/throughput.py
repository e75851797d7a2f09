"""A throughput job from start to figures: the subjects side by side, taking turns."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import attrs
import trio

from bench.failures import RunFailed
from bench.gateway.jobs import GatewayEntry, GatewayJob
from bench.gateway.population import Target, target_path, wrk_script
from bench.gateway.world import World, missing
from bench.http import wrk
from bench.http.figures import EntryResult, JobResult, Turn
from bench.http.subjects import SERVE
from bench.http.throughput import Load, OnStep, ask, difference
from bench.machine import cpu_seconds
from bench.server import Server

MOST_WARM_UPS = 10


@attrs.frozen
class _Asked:
    """A subject that runs, and what it is asked."""

    entry: GatewayEntry
    server: Server
    script: Path
    targets: int

    async def warm_up(self, connections: int, seconds: float) -> None:
        """Load until everything has been asked for at least once: a look-up that is made once in
        a tenant's life is no part of the rate."""
        asked = 0.0
        for _ in range(MOST_WARM_UPS):
            asked += (await self.turn(connections, seconds)).count.per_second * seconds
            if asked >= self.targets:
                return

    async def turn(self, connections: int, seconds: float) -> Turn:
        used, began = cpu_seconds(self.server.pid), trio.current_time()
        count = await wrk.load(
            self.server.address,
            self.entry.path,
            {},
            connections=connections,
            seconds=seconds,
            script=self.script,
        )
        used = cpu_seconds(self.server.pid) - used
        return Turn(count, used / (trio.current_time() - began))


async def measure(job: GatewayJob, load: Load, world: World, on_step: OnStep) -> JobResult:
    """Start every subject of ``job`` that can run here, and let them take turns.

    Args:
        job: what is done.
        load: how much, for how long.
        world: where it is done.
        on_step: called with what is done next, once for each warm-up and each turn.

    Raises:
        ServerFailed: a subject did not start or did not end as it should.
        RunFailed: a subject does not do what it says, or the load could not be made.
    """
    absent = {
        e.subject.name: what
        for e in job.entries
        if (what := missing(e.subject, has_redis=e.has_redis))
    }
    if job.entries[0].subject.name in absent:
        raise RunFailed(f"{job.name} needs {absent[job.entries[0].subject.name]}")
    entries = [entry for entry in job.entries if entry.subject.name not in absent]
    async with AsyncExitStack() as stack:
        asked = [await _open(world, job, e, stack) for e in entries]
        await _check(job, asked)
        turns: list[list[Turn]] = [[] for _ in asked]
        for each in asked:
            on_step(f"{each.entry.subject.name}: warm-up")
            await each.warm_up(load.connections, load.warm_up)
        for _ in range(load.rounds):
            for each, taken in zip(asked, turns, strict=True):
                on_step(each.entry.subject.name)
                taken.append(await each.turn(load.connections, load.seconds))
    results = [EntryResult(e.entry, tuple(t)) for e, t in zip(asked, turns, strict=True)]
    return JobResult(job, tuple(results), absent)


async def _open(
    world: World, job: GatewayJob, entry: GatewayEntry, stack: AsyncExitStack
) -> _Asked:
    server = await stack.enter_async_context(world.open_entry(entry))
    targets = await targets_of(entry, world)
    script = world.directory / f"{job.name}-{server.address.port}.lua"
    script.write_text(wrk_script(targets), encoding="ascii")
    # What is shown and checked is the first of them.
    first = attrs.evolve(entry, path=targets[0].path, headers={"X-API-Key": targets[0].key})
    return _Asked(first, server, script, len(targets))


async def targets_of(entry: GatewayEntry, world: World) -> tuple[Target, ...]:
    """What a subject is asked: peers know no keys, and get the same header."""
    if entry.subject.program == SERVE:
        return (await world.settled(entry.population)).targets
    return (Target(target_path(0), "none"),)


async def _check(job: GatewayJob, asked: list[_Asked]) -> None:
    replies = [await ask(each.server, each.entry) for each in asked]
    for each, reply in zip(asked, replies, strict=True):
        name = each.entry.subject.name
        if reply.status != 200:
            raise RunFailed(f"{job.name}: {name} answers {reply.status}: {reply.body[:300]!r}")
        if text := difference(replies[0], reply, has_tiers=False):
            raise RunFailed(f"{job.name}: {name} does another job: {text}")
