"""Tenants with endpoints of all sorts, their events, and what must have become of each."""

from __future__ import annotations

import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import attrs
import trio

from bulkhead_trio.testing.receiver import (
    Answers,
    Arrival,
    Behaviour,
    ReceiverProcess,
    dead,
    flapping,
    gone,
    ok,
    slow,
)

from .._client import NoAnswerError, ask
from .._server import wait_until_answered
from ..gateway._gateway import Tenant
from ._desk import Desk, Webhook
from ._fleet import Fleet

TENANTS = 5
ENDPOINTS = 10
"""Of each tenant."""
KINDS = ("red", "green", "blue", "black", "white")
SORTS: dict[str, tuple[Sequence[int], Behaviour]] = {
    "healthy": (range(6), ok()),
    "slow": ((6,), slow(0.5)),
    "dead": ((7,), dead()),
    "flapping": ((8,), flapping(3, 2)),
    "gone": ((9,), gone()),
}
"""Which of a tenant's endpoints behave how."""
SEND_SECONDS = 30.0
"""In which an event is taken, whichever instance or database is away meanwhile."""


@attrs.frozen
class Endpoint:
    """One subscription."""

    number: int
    sort: str
    desk: Desk
    webhook: Webhook
    kinds: tuple[str, ...]


@attrs.frozen
class Sent:
    """An event that was taken, and when it was about to be sent, by the monotonic clock."""

    id: str
    tenant: str
    kind: str
    at: float


class Population:
    """See `settle`.

    Attributes:
        endpoints: all subscriptions.
        sent: all events that were taken.
    """

    def __init__(self, fleet: Fleet, receiver: ReceiverProcess, first_number: int) -> None:
        self._fleet = fleet
        self._receiver = receiver
        self._first = first_number
        self._draw = random.Random(7)
        self.tenants: list[Tenant] = []
        self.endpoints: list[Endpoint] = []
        self.sent: list[Sent] = []

    async def settle(self) -> None:
        """The tenants; nobody subscribes yet."""
        gateway = self._fleet.gateway
        for _ in range(TENANTS):
            self.tenants.append(await gateway.tenant())

    async def subscribe(self, *sorts: str) -> None:
        """The endpoints of these sorts, of each tenant; each takes two of the kinds."""
        gateway = self._fleet.gateway
        for index, tenant in enumerate(self.tenants):
            desk = Desk(gateway, tenant)
            for sort in sorts:
                for place in SORTS[sort][0]:
                    number = self._first + index * ENDPOINTS + place
                    kinds = (KINDS[place % len(KINDS)], KINDS[(place + 2) % len(KINDS)])
                    self._receiver.behave({number: SORTS[sort][1]})
                    hook = await desk.subscribe(
                        self._receiver.url(number), *(f"proof.{kind}" for kind in kinds)
                    )
                    self._receiver.trust({number: [hook.secret]})
                    self.endpoints.append(Endpoint(number, sort, desk, hook, kinds))

    def of_sort(self, *sorts: str) -> list[Endpoint]:
        """The endpoints of these sorts."""
        return [each for each in self.endpoints if each.sort in sorts]

    # --- events ----------------------------------------------------------------------------------

    async def send(self, number: int) -> Sent:
        """The ``number``-th event, until an instance takes it, and by its key no more than once."""
        tenant = self.tenants[number % TENANTS]
        kind = KINDS[number // TENANTS % len(KINDS)]
        body = json.dumps({"type": f"proof.{kind}", "payload": {"number": number}}).encode()
        headers = {
            **tenant.headers,
            "Content-Type": "application/json",
            "Idempotency-Key": f"event-{self._first}-{number}",
        }
        began = time.monotonic()
        last = "nobody was asked"
        with trio.move_on_after(SEND_SECONDS):
            while True:
                servers = self._fleet.servers
                server = self._draw.choice(servers)
                try:
                    answer = await ask(
                        server.address, "/api/events", method="POST", headers=headers, body=body
                    )
                except (NoAnswerError, OSError, trio.TooSlowError) as error:
                    last = repr(error)
                else:
                    if answer.status == 202:
                        sent = Sent(answer.json()["id"], tenant.id, kind, began)
                        self.sent.append(sent)
                        return sent
                    last = str(answer)
                    # Of one that was killed just now, the port may be somebody else's.
                    assert answer.status in (503, 504) or server.process.poll() is not None, last
                await trio.sleep(0.1)
        raise AssertionError(f"event {number} was not taken; the last answer: {last}")

    async def send_at_rate(self, count: int, per_second: float) -> None:
        """So many events, each when it is due, whatever becomes of those before it."""
        first, start = len(self.sent), trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(count):
                await trio.sleep_until(start + number / per_second)
                nursery.start_soon(self.send, first + number)

    async def send_all(self, count: int, *, senders: int, until: float | None = None) -> None:
        """So many events from so many senders, one after the other each.

        With ``until``, spread over so many seconds at least.
        """
        start = trio.current_time()
        pause = 0.0 if until is None else until / count
        numbers = iter(range(count))

        async def work() -> None:
            for number in numbers:
                await trio.sleep_until(start + number * pause)
                await self.send(number)

        async with trio.open_nursery() as nursery:
            for _ in range(senders):
                nursery.start_soon(work)

    # --- what became of them ---------------------------------------------------------------------

    def wanted(self, endpoint: Endpoint, sent: Iterable[Sent] | None = None) -> set[str]:
        """The ids of the events that an endpoint is to get."""
        return {
            each.id
            for each in (self.sent if sent is None else sent)
            if each.tenant == endpoint.desk.tenant.id and each.kind in endpoint.kinds
        }

    def arrivals(self) -> dict[int, list[Arrival]]:
        """Of each of our endpoints."""
        last = self._first + TENANTS * ENDPOINTS
        found: defaultdict[int, list[Arrival]] = defaultdict(list)
        for arrival in self._receiver.arrivals():
            if self._first <= arrival.endpoint < last:
                found[arrival.endpoint].append(arrival)
        return found

    def latencies(self, endpoints: Sequence[Endpoint], sent: Sequence[Sent]) -> list[float]:
        """Seconds from each event to its first arrival at each of these endpoints that is to have
        it, the shortest first; an event that has not arrived is missing, which is an error."""
        arrivals = self.arrivals()
        began = {each.id: each.at for each in sent}
        found: list[float] = []
        for endpoint in endpoints:
            first: dict[str, float] = {}
            for arrival in arrivals[endpoint.number]:
                first.setdefault(arrival.id, arrival.at)
            wanted = self.wanted(endpoint, sent)
            assert wanted <= first.keys(), f"{len(wanted - first.keys())} have not arrived"
            found += [first[each] - began[each] for each in wanted]
        return sorted(found)

    async def wait_arrived(
        self, endpoints: Sequence[Endpoint], sent: Sequence[Sent], *, timeout: float = 15.0
    ) -> None:
        """Until all of these events are where they are to be."""

        async def are_there() -> bool:
            arrivals = self.arrivals()
            return all(
                self.wanted(each, sent) <= {arrival.id for arrival in arrivals[each.number]}
                for each in endpoints
            )

        await wait_until_answered(are_there, "all arrived", timeout=timeout, every=0.2)

    def mend(self, *sorts: str, behaviour: Behaviour = Answers()) -> None:  # noqa: B008  frozen
        """From now on endpoints of these sorts do this."""
        self._receiver.behave({each.number: behaviour for each in self.of_sort(*sorts)})

    async def states(self, endpoint: Endpoint) -> dict[str, str]:
        """The state of each event's delivery to this endpoint; each event has one."""
        desk = Desk(self._fleet.gateway, endpoint.desk.tenant)
        rows = await desk.deliveries(endpoint.webhook, limit=100)
        found = {row["eventId"]: row["state"] for row in rows}
        assert len(found) == len(rows), f"endpoint {endpoint.number} has an event twice"
        return found

    async def wait_over(self, *, timeout: float) -> dict[int, dict[str, str]]:
        """Until every event is delivered or a dead letter at each endpoint that is to have it.

        Returns:
            the states of each endpoint's deliveries.
        """
        over: dict[int, dict[str, str]] = {}
        deadline = trio.current_time() + timeout
        while True:
            for endpoint in self.endpoints:
                if endpoint.number in over:
                    continue
                states = await self.states(endpoint)
                is_all_there = states.keys() == self.wanted(endpoint)
                if is_all_there and set(states.values()) <= {"delivered", "dead"}:
                    over[endpoint.number] = states
            if len(over) == len(self.endpoints):
                return over
            assert trio.current_time() < deadline, await self._explain(over, timeout)
            await trio.sleep(0.5)

    async def _explain(self, over: dict[int, dict[str, str]], timeout: float) -> str:
        lines = [f"not over within {timeout} s:"]
        for endpoint in self.endpoints:
            if endpoint.number not in over:
                states = await self.states(endpoint)
                counts = dict(Counter(states.values()))
                missing = len(self.wanted(endpoint) - states.keys())
                more = len(states.keys() - self.wanted(endpoint))
                lines.append(
                    f"{endpoint.sort} {endpoint.number}: {counts}, {missing} missing, {more} more"
                )
        return "\n".join([*lines, self._fleet.tails()])


def p99(sorted_values: Sequence[float]) -> float:
    """The value that 99 of 100 do not exceed."""
    return sorted_values[min(len(sorted_values) - 1, int(0.99 * len(sorted_values)))]
