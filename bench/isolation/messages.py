"""What a load generator says to the process that started it: one JSON document a line."""

from __future__ import annotations

import msgspec


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One request. Times in seconds, ``due`` since the run's start.

    ``latency`` runs from the instant when the request was due, not from when it was sent: a
    generator or a server that falls behind cannot hide it. ``lag`` is the part of it that passed
    before the generator turned to the request. ``status`` is 0 when no answer came, and ``code``
    then says why.
    """

    due: float
    lag: float
    latency: float
    status: int
    code: str


class Recording(msgspec.Struct, frozen=True):
    """Every request that a generator made for one tier."""

    tier: str
    samples: list[Sample]


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The generator awaits, on a line of its standard input, the instant to start at."""


class Progress(msgspec.Struct, frozen=True, tag=True):
    """How many requests have been answered up to now."""

    answered: int


class Finished(msgspec.Struct, frozen=True, tag=True):
    """The last message. ``cpu_seconds`` is what the generator itself used while it ran."""

    recordings: list[Recording]
    cpu_seconds: float


Message = Ready | Progress | Finished


class SteadySpec(msgspec.Struct, frozen=True, tag=True):
    """Send ``rate`` requests a second to each of ``tiers`` for ``seconds``: an open model.

    A request that has no whole answer ``timeout`` seconds after it was sent is given up.
    """

    host: str
    port: int
    tiers: list[str]
    rate: float
    seconds: float
    timeout: float
    seed: str


class FloodSpec(msgspec.Struct, frozen=True, tag=True):
    """Keep ``connections`` busy with ``path`` for ``tier``: a closed model.

    It begins ``after`` seconds from the run's start and lasts ``seconds``; what is unanswered
    then is dropped and not counted.
    """

    host: str
    port: int
    tier: str
    path: str
    connections: int
    after: float
    seconds: float
    timeout: float


Spec = SteadySpec | FloodSpec
