"""What is done to ``free`` while ``enterprise`` is watched, and how to tell that it really was."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

import attrs

from bench.http.subjects import DEFAULT_TIERS, EXPRESS, FASTIFY, OURS, Subject, TierLimits

WATCHED_TIER = "enterprise"
FLOODED_TIER = "free"
PATH = "/api/data"


class Flood(Enum):
    """How the flooding connections behave."""

    STEADY = auto()
    """Each stays open and asks again as soon as it has been answered."""
    RECONNECTING = auto()
    """A new connection for each request."""
    GARBAGE = auto()
    """A new connection for each lot of bytes that are no request."""


@attrs.frozen
class Scenario:
    """One way of flooding a tier.

    Attributes:
        name: for the command line.
        title: for people.
        flood: how the flooding connections behave.
        bar: p50 and p99 of the watched tier under the flood, at most, in multiples of those alone.
        refused_share: of the flood's answers, at least so many must be refusals.
        has_good: whether some of its answers must be good ones.
        peers: who is flooded as well, side by side.
        tiers: those of the servers.
    """

    name: str
    title: str
    flood: Flood
    bar: float
    refused_share: float
    has_good: bool = False
    peers: tuple[Subject, ...] = ()
    tiers: Mapping[str, TierLimits] = DEFAULT_TIERS

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """All who are measured; ours first."""
        return (OURS, *self.peers)


SCENARIOS = (
    Scenario(
        name="refused-flood",
        title="enterprise beside a refused flood of free",
        flood=Flood.STEADY,
        bar=1.2,
        refused_share=0.5,
        peers=(EXPRESS, FASTIFY),
    ),
    Scenario(
        name="reconnecting",
        title="enterprise beside a refused flood with a new connection for each request",
        flood=Flood.RECONNECTING,
        bar=2.0,
        refused_share=0.5,
        peers=(EXPRESS, FASTIFY),
    ),
    Scenario(
        name="saturation",
        title="enterprise beside free with its limit lifted and its compartment full",
        flood=Flood.STEADY,
        bar=2.0,
        refused_share=0.0,
        has_good=True,
        tiers={**DEFAULT_TIERS, "free": TierLimits(5, None)},
    ),
    Scenario(
        name="garbage",
        title="enterprise beside connections that send garbage",
        flood=Flood.GARBAGE,
        bar=2.0,
        refused_share=0.9,
    ),
)
