"""What a run is made in: one PostgreSQL, upstreams, a Redis, and our servers with tenants."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import attrs

from bench.client import Address
from bench.database import Database, DatabaseServer, open_database_server
from bench.gateway import shared
from bench.gateway.jobs import PROGRAMS, GatewayEntry, Population
from bench.gateway.population import SETTINGS, Target, Tenant, add_tenant, fill
from bench.http.setup import Setup, open_subject
from bench.http.setup import missing as missing_packages
from bench.http.subjects import SERVE, Subject
from bench.server import Server, open_server

MAX_CONNECTIONS = 600
NGINX_UPSTREAM = Subject("upstream", "nginx", "bench.peers.nginx")
OUR_UPSTREAM = Subject("upstream, ours", "our engine", "bench.gateway.upstream")
NEIGHBOUR_TIER = "pro"
QUIET, NOISY = "quiet", "noisy"


def missing(subject: Subject, *, has_redis: bool = False) -> str:
    """What ``subject`` needs and is not installed; ``""`` if nothing."""
    program = PROGRAMS.get(subject.name)
    if program is not None:
        return "" if shutil.which(program) else program
    return missing_packages(subject) or (shared.missing() if has_redis else "")


@attrs.frozen
class Settled:
    """A database in which a population lives.

    Attributes:
        database: it.
        targets: what can be asked of a server on it.
    """

    database: Database
    targets: tuple[Target, ...]


@attrs.define
class World:
    """See `open_world`.

    Attributes:
        directory: for files.
        prefix: what puts a command on the server's core.
        upstream: the URL of the fast one.
        slow_upstream: the URL of the one with slow paths.
        redis: the URL of the Redis; ``None`` where there is none.
        postgresql: its version.
    """

    directory: Path
    prefix: tuple[str, ...]
    databases: DatabaseServer
    upstream: str
    slow_upstream: str
    redis: str | None
    postgresql: str
    _settled: dict[str, Settled] = attrs.field(factory=dict)
    _started: int = 0

    async def settled(self, population: Population) -> Settled:
        """The database with this population; made when it is first asked for.

        Raises:
            ServerFailed: the server did not start or did not end as it should.
            RunFailed: it refused.
        """
        if population.name not in self._settled:
            database = await self.databases.create(f"bench_{population.name}")
            async with self._open_ours(database, (), {}) as server:
                first = await add_tenant(server.address, "first", self.upstream)
            targets = await fill(database, population, first)
            self._settled[population.name] = Settled(database, tuple(targets))
        return self._settled[population.name]

    async def neighbours(self) -> tuple[Database, dict[str, Tenant]]:
        """A new database with two tenants in one tier.

        Raises:
            ServerFailed: the server did not start or did not end as it should.
            RunFailed: it refused.
        """
        database = await self.databases.create(f"bench_neighbours_{self._started}")
        async with self._open_ours(database, (), {}) as server:
            return database, {
                name: await add_tenant(
                    server.address, name, self.slow_upstream, tier=NEIGHBOUR_TIER
                )
                for name in (QUIET, NOISY)
            }

    @asynccontextmanager
    async def open_gateway(
        self, database: Database, environment: Mapping[str, str]
    ) -> AsyncIterator[Server]:
        """Our server on its core."""
        async with self._open_ours(database, self.prefix, environment) as server:
            yield server

    @asynccontextmanager
    async def open_entry(self, entry: GatewayEntry) -> AsyncIterator[Server]:
        """The subject of a job on the server's core, in front of the fast upstream.

        Raises:
            ServerFailed: it did not start, or did not end as it should.
        """
        if entry.subject.program == SERVE:
            settled = await self.settled(entry.population)
            redis = {"REDIS_URL": self.redis} if entry.has_redis and self.redis else {}
            async with self.open_gateway(settled.database, redis) as server:
                yield server
            return
        setup = Setup(self.prefix, self._new_directory(), upstream=self.upstream)
        files = {"DIRECTORY": str(setup.directory)}
        async with open_subject(entry.subject, setup, files) as server:
            yield server

    @asynccontextmanager
    async def _open_ours(
        self, database: Database, prefix: tuple[str, ...], environment: Mapping[str, str]
    ) -> AsyncIterator[Server]:
        async with open_server(
            SETTINGS | {"LOG_FORMAT": "json"} | dict(environment),
            database_url=database.url,
            directory=self._new_directory(),
            prefix=prefix,
        ) as server:
            yield server

    def _new_directory(self) -> Path:
        self._started += 1
        directory = self.directory / f"server-{self._started}"
        directory.mkdir()
        return directory


@asynccontextmanager
async def open_world(prefix: tuple[str, ...]) -> AsyncIterator[World]:
    """Start what all parts of a run share; all is stopped when the block ends.

    Args:
        prefix: what puts a command on the server's core; everything else is beside it.

    Raises:
        ServerFailed: an upstream did not start or did not end as it should.
        RunFailed: the Redis did not start.
    """
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bulkhead-bench-")))
        directory.chmod(0o711)  # PostgreSQL, which refuses to run as root, must get at its own part
        databases = await stack.enter_async_context(
            open_database_server(directory / "postgres", max_connections=MAX_CONNECTIONS)
        )
        fast = NGINX_UPSTREAM if shutil.which("nginx") else OUR_UPSTREAM
        urls = []
        for name, subject in (("fast", fast), ("slow", OUR_UPSTREAM)):
            setup = Setup((), directory / name)
            setup.directory.mkdir()
            files = {"DIRECTORY": str(setup.directory)}
            server = await stack.enter_async_context(open_subject(subject, setup, files))
            urls.append(url_of(server.address))
        has_redis = not shared.missing()
        redis = await stack.enter_async_context(shared.open_redis(directory)) if has_redis else None
        version = await databases.version()
        yield World(directory, prefix, databases, urls[0], urls[1], redis, version)


def url_of(address: Address) -> str:
    """As an upstream of a route."""
    return f"http://{address.host}:{address.port}"
