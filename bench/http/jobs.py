"""The throughput jobs: who does what, and how much faster ours has to be."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from bench.http.subjects import (
    DEFAULT_TIERS,
    EXPRESS,
    FASTAPI,
    FASTIFY,
    FASTIFY_PROXY,
    HTTPX_PROXY,
    HTTPX_UVICORN,
    HYPERCORN,
    OUR_CONSTANT,
    OUR_PROXY,
    OURS,
    QUART,
    UVICORN,
    Subject,
    TierLimits,
)

NO_LIMIT_HELD = 1_000_000_000
"""A rate limit that is counted and never reached: its check and its headers are part of the job."""


@attrs.frozen
class Entry:
    """What one subject is asked in a job.

    Attributes:
        subject: who.
        path: of the requests.
        headers: of the requests.
        is_refused: whether the answers are refusals.
        environment: settings of ours for this job.
    """

    subject: Subject
    path: str = "/"
    headers: Mapping[str, str] = attrs.field(factory=dict)
    is_refused: bool = False
    environment: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Bar:
    """Ours has to do at least ``ratio`` times as many requests a second as ``peer``."""

    peer: str
    ratio: float


@attrs.frozen
class Job:
    """One thing to do, for ours (the first entry) and others.

    Attributes:
        name: for the command line.
        title: for people.
        entries: ours first.
        bars: what ours has to reach.
        floor: requests a second that ours has to reach where uvicorn's constant answer reaches
            `FLOOR_MACHINE`; reported, and judged by the ratio, since machines differ.
        tiers: those of the servers; ``None`` where there is no database and no tier.
        has_upstream: whether the subjects are proxies.
        is_comparable: whether all have to give the same answer.
    """

    name: str
    title: str
    entries: tuple[Entry, ...]
    bars: tuple[Bar, ...]
    floor: float | None = None
    tiers: Mapping[str, TierLimits] | None = None
    has_upstream: bool = False
    is_comparable: bool = False


FLOOR_MACHINE = 37_000.0
"""What uvicorn's constant answer does a second on the machine that the floor is meant for."""

_DATA = {"X-Tenant-Tier": "enterprise"}
_SILENT = {"LOG_LEVEL": "warning"}
"""No line a request: the peers write none."""
_COUNTED = {**DEFAULT_TIERS, "enterprise": TierLimits(50, NO_LIMIT_HELD)}

CONSTANT = Job(
    name="constant",
    title="Constant answer through ASGI",
    entries=(Entry(OUR_CONSTANT), Entry(UVICORN), Entry(HYPERCORN)),
    bars=(Bar(HYPERCORN.name, 10.0), Bar(UVICORN.name, 1.0)),
)
DATA = Job(
    name="data",
    title="GET /api/data with PostgreSQL, all checks on",
    entries=(
        Entry(OURS, "/api/data", _DATA, environment=_SILENT),
        *(Entry(peer, "/api/data", _DATA) for peer in (EXPRESS, FASTIFY, FASTAPI, QUART)),
    ),
    bars=(Bar(EXPRESS.name, 2.5), Bar(FASTIFY.name, 1.1), Bar(FASTAPI.name, 4.0)),
    tiers=_COUNTED,
    is_comparable=True,
)
REFUSALS = Job(
    name="refusals",
    title="Refusals: GET /api/data answered 429",
    entries=(
        Entry(
            OURS,
            "/api/data",
            {"X-Tenant-Tier": "free"},
            is_refused=True,
            environment={**_SILENT, "REFUSALS_PER_SECOND": "0"},
        ),
        Entry(UVICORN),
    ),
    bars=(Bar(UVICORN.name, 0.68),),
    floor=25_000.0,
    tiers={**DEFAULT_TIERS, "free": TierLimits(5, 1)},
)
PROXY = Job(
    name="proxy",
    title="Plain proxy: client and server",
    entries=(Entry(OUR_PROXY), Entry(FASTIFY_PROXY), Entry(HTTPX_PROXY), Entry(HTTPX_UVICORN)),
    bars=(Bar(FASTIFY_PROXY.name, 1.0), Bar(HTTPX_PROXY.name, 10.0)),
    has_upstream=True,
    is_comparable=True,
)
JOBS = (CONSTANT, DATA, REFUSALS, PROXY)
