"""Starting the subjects: each as a process of its own, on the server's core."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import attrs

from bench.client import Address
from bench.database import Database
from bench.http import node
from bench.http.subjects import SERVE, Subject, TierLimits, our_tiers, peer_tiers
from bench.machine import version_of
from bench.server import HOST, Server, free_port, open_command, open_server

PEERS = Path(__file__).parent.parent / "peers"
LOG_FORMAT = {"LOG_FORMAT": "json", "LOG_LEVEL": "info"}
"""As in production: a line a request, into a file."""
TERMINATED = -15
"""How a process ends that leaves SIGTERM to the system, as peers do."""

UPSTREAM_CONNECTIONS = 64


@attrs.frozen
class Setup:
    """What all subjects of a job have in common.

    Attributes:
        prefix: what puts a command on the server's core.
        directory: for their files.
        database: theirs; ``None`` where there is none.
        tiers: theirs.
        upstream: the URL that proxies send to; empty where there is none.
    """

    prefix: tuple[str, ...]
    directory: Path
    database: Database | None = None
    tiers: Mapping[str, TierLimits] = attrs.field(factory=dict)
    upstream: str = ""


def missing(subject: Subject) -> str:
    """What ``subject`` needs and is not installed; ``""`` if nothing."""
    if subject.is_node:
        return "" if node.is_available() else "Node.js with npm"
    return ", ".join(name for name in subject.packages if version_of(name) is None)


@asynccontextmanager
async def open_subject(
    subject: Subject, setup: Setup, environment: Mapping[str, str]
) -> AsyncIterator[Server]:
    """Start ``subject`` and wait until it answers; stop it when the block ends.

    Args:
        subject: the server.
        setup: where it runs and with what.
        environment: settings beyond those, for ours.

    Raises:
        ServerFailed: it did not start, or did not end as it should.
        RunFailed: its packages could not be installed.
    """
    directory = setup.directory / _file_name(subject)
    directory.mkdir()
    if subject.program == SERVE:
        assert setup.database is not None, "the server has a database in every job"
        async with open_server(
            LOG_FORMAT | our_tiers(setup.tiers) | dict(environment),
            database_url=setup.database.url,
            directory=directory,
            prefix=setup.prefix,
        ) as server:
            yield server
        return
    address = Address(HOST, free_port())
    async with open_command(
        [*setup.prefix, *_command(subject)],
        environment=_environment(subject, setup, address) | dict(environment),
        address=address,
        log=directory / "server.log",
        ready_path=_ready_path(subject),
        exit_codes=(0, TERMINATED),
    ) as server:
        yield server


def _file_name(subject: Subject) -> str:
    return "".join(c if c.isalnum() else "-" for c in subject.name.lower())


def _command(subject: Subject) -> list[str]:
    if subject.is_node:
        return ["node", str(PEERS / subject.program)]
    return [sys.executable, "-m", subject.program]


def _ready_path(subject: Subject) -> str:
    return "/health" if subject.has_tiers else "/"


def _environment(subject: Subject, setup: Setup, address: Address) -> dict[str, str]:
    environment = {"PORT": str(address.port)}
    if subject.is_node:
        environment |= {"NODE_PATH": str(node.modules()), "NODE_ENV": "production"}
    if setup.database is not None:
        environment |= setup.database.environment
        environment["TIERS"] = peer_tiers(setup.tiers)
    if setup.upstream:
        environment["UPSTREAM"] = setup.upstream
        environment["UPSTREAM_CONNECTIONS"] = str(UPSTREAM_CONNECTIONS)
    return environment
