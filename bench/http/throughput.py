"""A throughput job from start to figures: the subjects side by side, taking turns."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack

import attrs
import trio

from bench.failures import RunFailed
from bench.http import wrk
from bench.http.figures import EntryResult, JobResult, Turn
from bench.http.jobs import Entry, Job
from bench.http.setup import Setup, missing, open_subject
from bench.machine import cpu_seconds
from bench.server import CONTROL_SECONDS, Server

OnStep = Callable[[str], None]


@attrs.frozen
class Load:
    """How much load, for how long.

    Attributes:
        connections: open at once, each with one request at a time.
        seconds: of one turn.
        warm_up: seconds of load that each subject gets before the first round.
        rounds: in each of which every subject has its turn.
    """

    connections: int
    seconds: float
    warm_up: float
    rounds: int


async def measure(job: Job, load: Load, setup: Setup, on_step: OnStep) -> JobResult:
    """Start every subject of ``job`` that can run here, and let them take turns.

    Args:
        job: what is done.
        load: how much, for how long.
        setup: where the subjects run and with what.
        on_step: called with what is done next, once for each warm-up and each turn.

    Raises:
        ServerFailed: a subject did not start or did not end as it should.
        RunFailed: a subject does another job than it says, or the load could not be made.
    """
    absent = {e.subject.name: what for e in job.entries if (what := missing(e.subject))}
    entries = [entry for entry in job.entries if entry.subject.name not in absent]
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(open_subject(e.subject, setup, e.environment))
            for e in entries
        ]
        await _check(job, entries, servers)
        turns: list[list[Turn]] = [[] for _ in entries]
        for entry, server in zip(entries, servers, strict=True):
            on_step(f"{entry.subject.name}: warm-up")
            await _turn(entry, server, load.connections, load.warm_up)
        for _ in range(load.rounds):
            for entry, server, taken in zip(entries, servers, turns, strict=True):
                on_step(entry.subject.name)
                taken.append(await _turn(entry, server, load.connections, load.seconds))
    results = [EntryResult(e, tuple(t)) for e, t in zip(entries, turns, strict=True)]
    return JobResult(job, tuple(results), absent)


async def _turn(entry: Entry, server: Server, connections: int, seconds: float) -> Turn:
    used, began = cpu_seconds(server.pid), trio.current_time()
    count = await wrk.load(
        server.address, entry.path, entry.headers, connections=connections, seconds=seconds
    )
    used = cpu_seconds(server.pid) - used
    return Turn(count, used / (trio.current_time() - began))


# --- that they do the same ------------------------------------------------------------------------


@attrs.frozen
class Reply:
    """One whole answer, with what of it the job promises."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def ask(server: Server, entry: Entry) -> Reply:
    """One request of ``entry``.

    Raises:
        OSError: no answer.
        http.client.HTTPException: none that is HTTP.
    """

    def exchange() -> Reply:
        address = server.address
        connection = http.client.HTTPConnection(address.host, address.port, timeout=CONTROL_SECONDS)
        try:
            connection.request("GET", entry.path, headers=dict(entry.headers))
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, headers, answer.read())
        finally:
            connection.close()

    return await trio.to_thread.run_sync(exchange)


async def _check(job: Job, entries: list[Entry], servers: list[Server]) -> None:
    replies = [await ask(server, e) for e, server in zip(entries, servers, strict=True)]
    for entry, reply in zip(entries, replies, strict=True):
        if not entry.is_refused and reply.status != 200:
            raise RunFailed(f"{job.name}: {entry.subject.name} answers {reply.status}")
    if job.is_comparable:
        for entry, reply in zip(entries, replies, strict=True):
            if text := difference(replies[0], reply, job.tiers is not None):
                raise RunFailed(f"{job.name}: {entry.subject.name} does another job: {text}")


PROMISED = ("x-request-id", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
"""Header fields of every answer to a rate-limited request."""


def difference(ours: Reply, other: Reply, has_tiers: bool) -> str:
    """What ``other`` does not do as ours does; ``""`` if nothing.

    With ``has_tiers`` the answers are JSON, whatever its blanks, and have the `PROMISED` fields.
    """
    if not has_tiers:
        return "" if other.body == ours.body else _unlike(ours.body, other.body)
    absent = [name for name in PROMISED if name not in other.headers]
    if absent:
        return f"no {', '.join(absent)}"
    if json.loads(other.body) != json.loads(ours.body):
        return _unlike(ours.body, other.body)
    return ""


def _unlike(ours: bytes, other: bytes) -> str:
    return f"the answer is {other[:200]!r} and not {ours[:200]!r}"
