"""Clusters to start, stop and break."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from bulkhead_trio.database.embedded import open_embedded_server
from bulkhead_trio.database.embedded._processes import ServerProcess


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """An empty directory with a short path; whatever PostgreSQL still runs in it ends with it.

    Not pytest's own: that is closed to other users again by the next run of pytest.
    """
    directory = Path(tempfile.mkdtemp(prefix="bulkhead-")).resolve()
    yield directory
    for child in directory.iterdir():
        end_all(child)
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Path]:
    """One cluster for all tests that leave it a cluster: making one takes most of a second."""
    parent = Path(tempfile.mkdtemp(prefix="bulkhead-")).resolve()

    async def make() -> None:
        async with open_embedded_server(parent / "postgres", max_connections=20):
            pass

    trio.run(make)
    yield parent / "postgres"
    shutil.rmtree(parent)


@pytest.fixture
def directory(cluster: Path) -> Iterator[Path]:
    """The cluster, without a server, perhaps with what others have done in it."""
    yield cluster
    end_all(cluster)


@pytest.fixture
def own_cluster(data_dir: Path, cluster: Path) -> Path:
    """A cluster that may be spoiled."""
    subprocess.run(["cp", "-a", str(cluster), str(data_dir)], check=True)
    return data_dir / "postgres"


def end_all(directory: Path) -> None:
    """Kill whatever PostgreSQL a failed test left in the cluster."""
    for process in ServerProcess.find_all(directory):
        with process:
            process.send(signal.SIGKILL)
