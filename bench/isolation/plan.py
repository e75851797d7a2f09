"""When what happens in a run: its phases, and the instants at which steady requests are due.

Pure: everything is a number of seconds since the run's start.
"""

from __future__ import annotations

import random

import attrs

ALONE = "alone"
FLOODED = "flooded"
WARM_UP = "warm-up"

WARM_UP_SECONDS = 2.0
"""Steady traffic before anything is measured: opens the pools, prepares the statements."""

ALONE_SHARE = 0.8
"""How long the steady traffic is measured alone, as a share of the flood's length."""


@attrs.frozen
class Plan:
    """The phases of a run, in seconds: warm-up, then alone, then flooded."""

    warm_up: float
    alone: float
    flooded: float

    @classmethod
    def for_flood(cls, seconds: float) -> Plan:
        """The plan whose flood lasts ``seconds``."""
        return cls(warm_up=WARM_UP_SECONDS, alone=ALONE_SHARE * seconds, flooded=seconds)

    @property
    def flood_start(self) -> float:
        """When the flood sets in."""
        return self.warm_up + self.alone

    @property
    def end(self) -> float:
        """When the last request is due."""
        return self.warm_up + self.alone + self.flooded

    def phase_at(self, instant: float) -> str:
        """The name of the phase that ``instant`` belongs to."""
        if instant < self.warm_up:
            return WARM_UP
        return ALONE if instant < self.flood_start else FLOODED

    def duration(self, phase: str) -> float:
        """How many seconds the phase of that name lasts."""
        return {WARM_UP: self.warm_up, ALONE: self.alone, FLOODED: self.flooded}[phase]


@attrs.frozen
class LoadSettings:
    """How much load, for how long.

    Attributes:
        rate: requests a second to each steady tier.
        flood_connections: connections of the flood, each with one request at a time.
        flood_seconds: the length of the flood, from which `Plan` derives the rest.
        seed: of the instants at which steady requests are due.
    """

    rate: float
    flood_connections: int
    flood_seconds: float
    seed: str

    @property
    def plan(self) -> Plan:
        """The phases of a run."""
        return Plan.for_flood(self.flood_seconds)


def due_times(rate: float, seconds: float, *, seed: str) -> list[float]:
    """When the requests of an open model are due: ``rate`` a second for ``seconds`` seconds.

    Each falls at a random point of its own slot of ``1 / rate`` seconds. So their number is exact,
    the rate is even, and they keep step with nothing periodic in the server, in the generator or
    in the other tier's schedule. The same seed gives the same times.
    """
    draw = random.Random(seed).random
    slots = round(rate * seconds)
    return [(slot + draw()) / rate for slot in range(slots)]
