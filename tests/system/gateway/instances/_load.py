"""Load from many clients on every instance, and how long each request had to wait."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from statistics import median
from typing import TypeVar

import attrs
import trio

from ..._client import ANSWER_SECONDS, Answer, NoAnswerError, open_wire
from ..._server import Server, wait_until
from .._gateway import Gateway, Tenant

T = TypeVar("T")

LOGGED_SECONDS = 0.2
"""Until what an instance has noticed is in its log."""

TRIES = 5


@attrs.frozen
class Request:
    """One that was sent: on Trio's clock, when and until when; ``answer`` is `None` without one."""

    instance: int
    sent: float
    ended: float
    answer: Answer | None

    @property
    def seconds(self) -> float:
        """How long its client waited."""
        return self.ended - self.sent

    @property
    def status(self) -> int:
        """Of the answer; 0 without one."""
        return 0 if self.answer is None else self.answer.status

    @property
    def code(self) -> str:
        """The ``code`` of a refusal; empty for an answer that is none."""
        if self.answer is None:
            return "no answer"
        kind = self.answer.header("content-type") or ""
        return str(self.answer.json()["code"]) if kind.startswith("application/problem") else ""


@attrs.define
class Load:
    """The requests of a load, in the order in which they ended."""

    requests: list[Request] = attrs.field(factory=list)

    def between(self, since: float, until: float | None = None) -> list[Request]:
        """Those that were sent from a moment on, and before another one."""
        end = trio.current_time() if until is None else until
        return [each for each in self.requests if since <= each.sent < end]

    def slowest(self, since: float, until: float | None = None) -> float:
        """The longest wait among those that ended from a moment on, sent before another one."""
        end = trio.current_time() if until is None else until
        waits = [each.seconds for each in self.requests if each.ended >= since and each.sent < end]
        return max(waits)

    def usual(self) -> float:
        """The median of all waits."""
        return median(each.seconds for each in self.requests)

    def kinds(self, since: float, until: float | None = None) -> set[tuple[int, str]]:
        """The statuses and codes that there were."""
        return {(each.status, each.code) for each in self.between(since, until)}


@asynccontextmanager
async def load_of(
    gateway: Gateway,
    tenant: Tenant,
    target: str,
    *,
    clients: int = 2,
    pause: float = 0.01,
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[Load]:
    """While inside, so many clients of each instance ask one request after the other.

    Each keeps its connection; one that gets no answer is of an instance that has ended, and leaves.
    """
    load = Load()
    fields = tenant.headers if headers is None else dict(headers)

    async def client(number: int, server: Server) -> None:
        async with open_wire(server.address) as wire:
            while True:
                sent, answer = trio.current_time(), None
                try:
                    answer = await wire.ask(target, headers=fields, timeout=ANSWER_SECONDS)
                except NoAnswerError:
                    assert server.process.poll() is not None, f"no answer\n{server.tail()}"
                load.requests.append(Request(number, sent, trio.current_time(), answer))
                if answer is None:
                    return
                await trio.sleep(pause)

    async with trio.open_nursery() as nursery:
        for number, server in enumerate(gateway.servers):
            for _ in range(clients):
                nursery.start_soon(client, number, server)
        yield load
        nursery.cancel_scope.cancel()


async def flood(gateway: Gateway, tenant: Tenant, target: str, each: int) -> list[Request]:
    """So many requests of a tenant to each instance, from eight clients of each at once."""
    found: list[Request] = []
    left = [each] * len(gateway.servers)

    async def client(number: int, server: Server) -> None:
        async with open_wire(server.address) as wire:
            while left[number] > 0:
                left[number] -= 1
                sent = trio.current_time()
                answer = await wire.ask(target, headers=tenant.headers)
                found.append(Request(number, sent, trio.current_time(), answer))

    async with trio.open_nursery() as nursery:
        for number, server in enumerate(gateway.servers):
            for _ in range(8):
                nursery.start_soon(client, number, server)
    return found


async def are(gateway: Gateway, tenant: Tenant, target: str, status: int) -> bool:
    """Whether every instance answers a tenant's request with ``status``."""
    answers = [
        await gateway.ask(tenant, target, instance=number) for number in range(len(gateway.servers))
    ]
    return {answer.status for answer in answers} == {status}


async def while_redis_answers(gateway: Gateway, scenario: Callable[[], Awaitable[T]]) -> T:
    """What a scenario gives in which Redis was never away.

    A machine that is so busy that Redis gets no turn for 50 ms is an outage, in which other rules
    hold; the scenario is then played again, whatever has become of it.
    """
    for _ in range(TRIES):
        await wait_until(lambda: all(map(has_redis, gateway.servers)), "Redis is used", timeout=10)
        before, failure = outages(gateway), None
        try:
            found = await scenario()
        except (AssertionError, ExceptionGroup) as error:
            failure = error
        await trio.sleep(LOGGED_SECONDS)
        if outages(gateway) == before:
            if failure is not None:
                raise failure
            return found
    raise AssertionError(f"Redis was away for a moment in each of {TRIES} tries")


def has_redis(server: Server) -> bool:
    """Whether an instance uses Redis, as far as it has said; without one there is none to lose."""
    output = server.output
    return output.rfind('"redis_is_there"') >= output.rfind('"redis_is_away"')


def outages(gateway: Gateway) -> int:
    """How often instances have said that Redis is away."""
    return sum(server.output.count('"redis_is_away"') for server in gateway.servers)


async def assert_exact(gateway: Gateway, limit: int, target: str = "/nowhere") -> None:
    """Of as many requests to each instance as the limit, so many pass; of a new tenant."""
    count = len(gateway.servers)

    async def scenario() -> None:
        tenant = await gateway.tenant(rateLimit={"limit": limit, "windowSeconds": 60})
        requests = await flood(gateway, tenant, target, limit)
        statuses = [each.status for each in requests]
        assert set(statuses) == {404, 429}
        assert limit - count <= statuses.count(404) <= limit

    await while_redis_answers(gateway, scenario)
