"""Events at the API: how many a second are committed and answered 202."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from bench.delivery.deliveries import PAYLOAD
from bench.delivery.figures import RateResult, Turn
from bench.delivery.world import Subscriber, World, subscribe, used
from bench.http import wrk
from bench.server import Server

EVENTS = "/api/events"
WARM_UP_SECONDS = 2.0


@attrs.frozen
class AcceptJob:
    """One way to send events.

    Attributes:
        name: for the command line.
        title: what it is.
        is_wanted: whether somebody subscribes to them, so that they are delivered meanwhile.
        bar: events a second that are asked for.
    """

    name: str
    title: str
    is_wanted: bool
    bar: float | None


ACCEPT_JOBS = (
    AcceptJob("events", "Events answered 202, one process", is_wanted=False, bar=1_500.0),
    AcceptJob(
        "events-delivered",
        "Events answered 202, one process that delivers them meanwhile",
        is_wanted=True,
        bar=None,
    ),
)


async def measure(
    job: AcceptJob,
    world: World,
    *,
    connections: int,
    seconds: float,
    rounds: int,
    on_step: Callable[[str], None],
) -> RateResult:
    """Send events for so many seconds in each of ``rounds``, from so many connections.

    Raises:
        ServerFailed: the server did not start or did not end as it should.
        RunFailed: it refused, or wrk failed.
    """
    world.receiver.forget()
    database = await world.databases.create("bench_" + job.name.replace("-", "_"))
    turns = []
    async with world.open_ours(database, job.name, {}) as server:
        subscribers = await subscribe(server.address, world.receiver, tenants=10, endpoints=1)
        script = world.directory / f"{job.name}.lua"
        script.write_text(script_of(subscribers, is_wanted=job.is_wanted), encoding="ascii")
        await _load(server, script, connections, WARM_UP_SECONDS)
        for _ in range(rounds):
            on_step(job.title)
            before = world.cpu(server)
            count = await _load(server, script, connections, seconds)
            cpu = used(before, world.cpu(server))
            good = count.requests - count.refused
            turns.append(Turn(good, count.seconds, cpu, count.refused, count.p50, count.p99))
    return RateResult(job.name, job.title, "events", job.bar, turns)


async def _load(server: Server, script: Path, connections: int, seconds: float) -> wrk.Count:
    return await wrk.load(
        server.address, EVENTS, {}, connections=connections, seconds=seconds, script=script
    )


_SCRIPT = """\
local senders = {
%s
}
local requests, at = {}, 0

function init()
  for number, sender in ipairs(senders) do
    local body = '{"type":"' .. sender[2] .. '","payload":%s}'
    local headers = {["X-API-Key"] = sender[1], ["Content-Type"] = "application/json"}
    requests[number] = wrk.format("POST", "%s", headers, body)
  end
end

function request()
  at = at %% #requests + 1
  return requests[at]
end
"""


def script_of(subscribers: Sequence[Subscriber], *, is_wanted: bool) -> str:
    """A script for wrk: events of one tenant after the other, of a type that is wanted or not."""
    lines = "\n".join(
        f'  {{"{each.key}", "{each.type if is_wanted else "bench.nobody"}"}},'
        for each in subscribers
    )
    return _SCRIPT % (lines, PAYLOAD.decode("ascii"), EVENTS)
