"""Servers, databases and data directories for the tests from outside."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from ._database import connected
from ._server import Server, end_postmaster, running_server

StartServer = Callable[[Mapping[str, str]], Server]
CreateDatabase = Callable[[], str]


@pytest.fixture(scope="module")
def create_database(postgres_conninfo: str) -> Iterator[CreateDatabase]:
    """Makes empty databases that nobody else uses; a server sets up what it is given."""
    names: list[str] = []

    def create() -> str:
        names.append(f"system_{uuid.uuid4().hex}")
        with connected(postgres_conninfo) as connection:
            connection.execute(f"CREATE DATABASE {names[-1]}")
        return make_conninfo(postgres_conninfo, dbname=names[-1])

    yield create
    with connected(postgres_conninfo) as connection:
        for name in names:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def make_data_dir() -> Iterator[Callable[[], Path]]:
    """Makes data directories with a short path, which PostgreSQL's socket needs."""
    parents: list[Path] = []

    def make() -> Path:
        parents.append(Path(tempfile.mkdtemp(prefix="bulkhead-")))
        data_dir = parents[-1] / "data"
        data_dir.mkdir()
        return data_dir

    yield make
    for parent in parents:
        end_postmaster(parent / "data")
        shutil.rmtree(parent)


@pytest.fixture
def data_dir(make_data_dir: Callable[[], Path]) -> Path:
    """A data directory for one test."""
    return make_data_dir()


@pytest.fixture(scope="module")
def start_server(
    create_database: CreateDatabase, make_data_dir: Callable[[], Path]
) -> Iterator[StartServer]:
    """Starts servers for a module, each on a database of its own; each must end well."""
    with ExitStack() as stack:
        started: list[Server] = []

        def start(variables: Mapping[str, str]) -> Server:
            server = running_server(variables, data_dir=make_data_dir(), database=create_database())
            started.append(stack.enter_context(server))
            return started[-1]

        yield start
        for server in started:
            if server.process.poll() is None:
                server.process.terminate()
            assert server.wait() == 0, server.tail()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows what the server of its module has said."""
    report = yield
    if report.failed and report.when == "call":
        for value in item.funcargs.values():
            if isinstance(value, Server):
                report.sections.append(("the server", value.tail()))
    return report
