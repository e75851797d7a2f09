"""The throughput jobs of the gateway: who does what, and how much faster ours has to be."""

from __future__ import annotations

import attrs

from bench.http.jobs import Bar, Entry, Job
from bench.http.subjects import (
    FASTIFY_PROXY,
    HTTPX_PROXY,
    HTTPX_UVICORN,
    SERVE,
    Role,
    Subject,
)

MANY = 10_000

OUR_GATEWAY = Subject(
    "bulkhead-trio", "the server: key, limit, compartment, breaker", SERVE, role=Role.OURS
)
WITH_REDIS = Subject("with Redis", "the server, limits shared in Redis", SERVE, role=Role.OURS)
WITHOUT_REDIS = Subject("without Redis", "the server, limits of its own", SERVE)
MANY_TENANTS = Subject(
    f"{MANY:,} tenants", "the server, asked by one after the other", SERVE, role=Role.OURS
)
ONE_TENANT = Subject("one tenant", "the server, the same with one", SERVE)
MANY_ROUTES = Subject(
    f"{MANY:,} routes", "the server, asked for one after the other", SERVE, role=Role.OURS
)
ONE_ROUTE = Subject("one route", "the server, the same with one", SERVE)

NGINX = Subject("nginx", "proxying only, one process", "bench.peers.nginx", role=Role.REFERENCE)
HAPROXY = Subject(
    "HAProxy", "proxying only, one thread", "bench.peers.haproxy", role=Role.REFERENCE
)
PROGRAMS = {NGINX.name: "nginx", HAPROXY.name: "haproxy"}
"""Subjects that are programs of the system, which may be missing."""


@attrs.frozen
class Population:
    """Whom a server knows.

    Attributes:
        name: of its database.
        tenants: how many.
        routes: how many each of them has.
    """

    name: str
    tenants: int = 1
    routes: int = 1


ONE = Population("one")
CROWD = Population("crowd", tenants=MANY)
MAP = Population("map", routes=MANY)
POPULATIONS = (ONE, CROWD, MAP)


@attrs.frozen
class GatewayEntry(Entry):
    """What one subject is asked in a job.

    Attributes:
        population: whom it knows, and who asks; for ours only.
        has_redis: whether it shares its limits.
    """

    population: Population = ONE
    has_redis: bool = False


@attrs.frozen
class GatewayJob(Job):
    """One thing to do, for ours (the first entry) and others."""

    entries: tuple[GatewayEntry, ...] = attrs.field(kw_only=True)


PLAIN = GatewayJob(
    name="plain",
    title="Proxying a small answer; ours with key, limit, compartment and breaker",
    entries=(
        GatewayEntry(OUR_GATEWAY),
        GatewayEntry(FASTIFY_PROXY),
        GatewayEntry(HTTPX_PROXY),
        GatewayEntry(HTTPX_UVICORN),
        GatewayEntry(NGINX),
        GatewayEntry(HAPROXY),
    ),
    bars=(Bar(FASTIFY_PROXY.name, 1.0), Bar(HTTPX_PROXY.name, 8.0)),
)
REDIS = GatewayJob(
    name="redis",
    title="The same with limits shared in Redis",
    entries=(GatewayEntry(WITH_REDIS, has_redis=True), GatewayEntry(WITHOUT_REDIS)),
    bars=(Bar(WITHOUT_REDIS.name, 0.6),),
)
TENANTS = GatewayJob(
    name="tenants",
    title=f"{MANY:,} tenants, each with a route, asking in turn",
    entries=(GatewayEntry(MANY_TENANTS, population=CROWD), GatewayEntry(ONE_TENANT)),
    bars=(Bar(ONE_TENANT.name, 0.9),),
)
ROUTES = GatewayJob(
    name="routes",
    title=f"One tenant with {MANY:,} routes, asked for in turn",
    entries=(GatewayEntry(MANY_ROUTES, population=MAP), GatewayEntry(ONE_ROUTE)),
    bars=(Bar(ONE_ROUTE.name, 0.9),),
)
JOBS = (PLAIN, REDIS, TENANTS, ROUTES)
