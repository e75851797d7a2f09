"""Who takes part: our servers, and the peers at the same jobs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum, auto

import attrs


class Role(Enum):
    """What a subject is there for."""

    OURS = auto()
    PEER = auto()
    REFERENCE = auto()
    """Shown, and not competed with."""


@attrs.frozen
class Subject:
    """A server.

    Attributes:
        name: as in the tables.
        label: what it is made of.
        program: `SERVE`, a Python module, or a script of ``bench/peers`` for Node.js.
        packages: Python packages that it needs, beside our own.
        role: what it is there for.
        has_tiers: whether it answers ``/api/data``, and ``/health`` when it can.
    """

    name: str
    label: str
    program: str
    packages: tuple[str, ...] = ()
    role: Role = Role.PEER
    has_tiers: bool = False

    @property
    def is_node(self) -> bool:
        """Whether it runs on Node.js."""
        return self.program.endswith(".js")


SERVE = "serve"
"""Stands for the real command, ``bulkhead-trio serve``."""

_OURS = Role.OURS
OURS = Subject("bulkhead-trio", "the server, all checks on", SERVE, role=_OURS, has_tiers=True)
OUR_CONSTANT = Subject("bulkhead-trio", "the engine, bare ASGI", "bench.http.engine", role=_OURS)

UVICORN = Subject("uvicorn", "bare ASGI; uvloop, httptools", "bench.peers.uvicorn", ("uvicorn",))
HYPERCORN = Subject("Hypercorn", "bare ASGI; Trio worker", "bench.peers.hypercorn", ("hypercorn",))
EXPRESS = Subject("Express", "pg", "express.js", has_tiers=True)
FASTIFY = Subject("Fastify", "pg", "fastify.js", has_tiers=True)
FASTAPI = Subject(
    "FastAPI",
    "uvicorn, uvloop, asyncpg",
    "bench.peers.fastapi",
    ("fastapi", "uvicorn", "uvloop", "asyncpg"),
    has_tiers=True,
)
QUART = Subject(
    "Quart-Trio",
    "Hypercorn's Trio worker, our pool",
    "bench.peers.quart",
    ("quart-trio", "hypercorn"),
    Role.REFERENCE,
    has_tiers=True,
)

OUR_PROXY = Subject("bulkhead-trio", "our server, our client", "bench.http.proxy", role=_OURS)
FASTIFY_PROXY = Subject("Fastify proxy", "@fastify/http-proxy", "fastify_proxy.js")
HTTPX_PROXY = Subject("httpx", "our server, httpx on Trio", "bench.peers.httpx_trio", ("httpx",))
HTTPX_UVICORN = Subject(
    "httpx, uvicorn",
    "on uvloop and httptools",
    "bench.peers.httpx_uvicorn",
    ("httpx", "uvicorn", "uvloop"),
    Role.REFERENCE,
)


@attrs.frozen
class TierLimits:
    """What a tier may take, for ours and for the peers alike."""

    connections: int
    rate_limit: int | None
    window: int = 60


DEFAULT_TIERS: Mapping[str, TierLimits] = {
    "free": TierLimits(5, 100),
    "pro": TierLimits(20, 1000),
    "enterprise": TierLimits(50, None),
}
"""Those of the contract."""


def peer_tiers(tiers: Mapping[str, TierLimits]) -> str:
    """``TIERS`` as the peers read it."""
    return json.dumps(
        {
            name: {"connections": t.connections, "rateLimit": t.rate_limit, "window": t.window}
            for name, t in tiers.items()
        }
    )


def our_tiers(tiers: Mapping[str, TierLimits]) -> dict[str, str]:
    """The same as our settings."""
    settings = {}
    for name, tier in tiers.items():
        prefix = f"BULKHEAD_TIERS__{name.upper()}__"
        settings[f"{prefix}CONNECTIONS"] = str(tier.connections)
        settings[f"{prefix}RATE_LIMIT"] = "" if tier.rate_limit is None else str(tier.rate_limit)
        settings[f"{prefix}WINDOW"] = str(tier.window)
    return settings
