"""What a run is made in: one PostgreSQL, one receiver, our servers, tenants that subscribe."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import attrs

from bench.client import Address
from bench.database import Database, DatabaseServer, open_database_server
from bench.delivery.calls import post
from bench.delivery.processes import postmaster_pid, tree_cpu_seconds
from bench.gateway.population import ADMIN_KEY, SETTINGS
from bench.server import Server, open_server
from bulkhead_trio.testing.receiver import ReceiverProcess

MAX_CONNECTIONS = 400
TIER = "enterprise"
SERVER, POSTGRESQL, RECEIVER = "server", "PostgreSQL", "receiver"

DELIVERY_SETTINGS = {
    **SETTINGS,
    "LOG_FORMAT": "json",
    "EVENTS_RATE": "1000000",
    "EVENTS_BURST": "1000000",
}


@attrs.frozen
class Subscriber:
    """One endpoint of one tenant, which takes one type that no other takes.

    Attributes:
        tenant: the tenant's id.
        key: the tenant's.
        type: what it takes.
        endpoint: its number at the receiver.
        secret: what it is signed with.
    """

    tenant: str
    key: str
    type: str
    endpoint: int
    secret: str


@attrs.frozen
class World:
    """See `open_world`.

    Attributes:
        directory: for files.
        databases: the PostgreSQL.
        receiver: takes everything, at once.
        postgresql: its version.
    """

    directory: Path
    databases: DatabaseServer
    receiver: ReceiverProcess
    postgresql: str
    _postmaster: int

    @asynccontextmanager
    async def open_ours(
        self, database: Database, name: str, environment: Mapping[str, str]
    ) -> AsyncIterator[Server]:
        """Our server on a database.

        Raises:
            ServerFailed: it did not start or did not end as it should.
        """
        directory = self.directory / name
        directory.mkdir()
        async with open_server(
            DELIVERY_SETTINGS | dict(environment), database_url=database.url, directory=directory
        ) as server:
            yield server

    def cpu(self, server: Server) -> dict[str, float]:
        """Processor seconds that everybody who takes part has used up to now."""
        return {
            SERVER: tree_cpu_seconds(server.pid),
            POSTGRESQL: tree_cpu_seconds(self._postmaster),
            RECEIVER: tree_cpu_seconds(self.receiver.pid),
        }


def used(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What was used between two looks."""
    return {who: after[who] - before[who] for who in before}


async def subscribe(
    server: Address, receiver: ReceiverProcess, *, tenants: int, endpoints: int
) -> list[Subscriber]:
    """New tenants with so many endpoints each, by the server's own API.

    Raises:
        RunFailed: the server refused.
    """
    found = []
    for number in range(tenants):
        document = {"name": f"tenant {number}", "tier": TIER}
        tenant = await post(server, "/admin/tenants", document, {"X-Admin-Key": ADMIN_KEY})
        for place in range(endpoints):
            endpoint = number * endpoints + place
            type_ = f"bench.e{endpoint}"
            hook = await post(
                server,
                "/api/webhooks",
                {"url": receiver.url(endpoint), "eventTypes": [type_]},
                {"X-API-Key": tenant["apiKey"]},
            )
            found.append(
                Subscriber(tenant["id"], tenant["apiKey"], type_, endpoint, hook["secret"])
            )
    return found


@asynccontextmanager
async def open_world() -> AsyncIterator[World]:
    """Start what all parts of a run share; all is stopped when the block ends.

    Raises:
        ReceiverFailed: the receiver did not start.
    """
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bulkhead-bench-")))
        directory.chmod(0o711)  # PostgreSQL, which refuses to run as root, must get at its own part
        postgres = directory / "postgres"
        databases = await stack.enter_async_context(
            open_database_server(postgres, max_connections=MAX_CONNECTIONS)
        )
        receiver = stack.enter_context(ReceiverProcess())
        version = await databases.version()
        yield World(directory, databases, receiver, version, postmaster_pid(postgres))
