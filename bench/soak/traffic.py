"""What the soak tests ask for, drawn from a seed. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator
from enum import Enum
from itertools import cycle, islice

import attrs


@attrs.frozen
class Kind:
    """One kind of request of the memory soak, and the statuses that the contract allows it.

    Attributes:
        name: for the table.
        path: what is asked for.
        tier: the ``X-Tenant-Tier`` header's value; ``None``: no such header.
        statuses: what may be answered.
        weight: how often, relative to the other kinds.
    """

    name: str
    path: str
    tier: str | None
    statuses: frozenset[int]
    weight: int


MEMORY_MIX = (
    Kind("good", "/api/data", "pro", frozenset({200}), 40),
    Kind("rate limited", "/api/data", "free", frozenset({200, 429}), 20),
    Kind("no tier", "/api/data", None, frozenset({400}), 10),
    Kind("unknown tier", "/api/data", "platinum", frozenset({400}), 5),
    Kind("unknown path", "/api/nothing", "pro", frozenset({404}), 10),
    Kind("failing", "/api/data?force_error=true", "enterprise", frozenset({503}), 10),
    Kind("recovering", "/api/data", "enterprise", frozenset({200, 503}), 5),
)
"""Every way through the server that ends early, and the one that does not. The failing and the
recovering take enterprise's breaker round through all of its states."""

MEMORY_SETTINGS = {
    "BULKHEAD_TIERS__PRO__RATE_LIMIT": "",
    "BULKHEAD_TIERS__ENTERPRISE__COOLDOWN": "1",
}


def draw_kinds(seed: str) -> Iterator[Kind]:
    """An endless sequence of kinds from `MEMORY_MIX`, by weight."""
    choose = random.Random(seed).choices
    weights = [kind.weight for kind in MEMORY_MIX]
    while True:
        yield from choose(MEMORY_MIX, weights, k=100)


class Drop(Enum):
    """Where in a request's life its client goes away."""

    HEAD = "amid the head"
    QUEUED = "while queued"
    QUERY = "during the query"
    ANSWER = "amid the answer"
    ANYWHERE = "anywhere"


@attrs.frozen
class Request:
    """One request of the cancellation soak.

    Attributes:
        tier: whose.
        drop: where the client goes away; ``None``: it stays for the answer.
        delay: seconds between sending and going away; unused where something else decides.
        head_share: how much of the head is sent, where the client goes away amid it.
    """

    tier: str
    drop: Drop | None = None
    delay: float = 0.0
    head_share: float = 1.0


QUERY_SECONDS = {"free": 0.05, "pro": 0.02, "enterprise": 30.0}
"""How long each tier's queries sleep. Free is so slow that its queue is always full; pro is slow
enough to be caught at; enterprise's outlast the test, so that one left running is found."""

CANCEL_SETTINGS = {
    "BULKHEAD_TIERS__FREE__RATE_LIMIT": "",
    "BULKHEAD_TIERS__PRO__RATE_LIMIT": "",
}

DROPPED_SHARE = 1 / 3


def draw_requests(count: int, seed: str) -> list[Request]:
    """``count`` requests in random order, a third of which the client abandons."""
    source = random.Random(seed)
    dropped = round(count * DROPPED_SHARE)
    requests = [_dropped(point, source) for point in islice(cycle(Drop), dropped)]
    requests += [Request(source.choice(("free", "pro"))) for _ in range(count - dropped)]
    source.shuffle(requests)
    return requests


def _dropped(point: Drop, source: random.Random) -> Request:
    match point:
        case Drop.HEAD:
            return Request("pro", point, source.uniform(0, 0.02), source.random())
        case Drop.QUEUED:
            return Request("free", point, source.uniform(0.005, 0.2))
        case Drop.QUERY:
            return Request("enterprise", point, source.uniform(0.05, 0.5))
        case Drop.ANSWER:
            return Request("pro", point)
        case Drop.ANYWHERE:
            return Request("pro", point, source.uniform(0, 0.1))
