"""What is installed from a wheel, which nobody who works in the source tree ever sees."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

MIGRATION = "bulkhead_trio/database/migrations/0001_tenant_data.sql"


@pytest.fixture
def wheel(repository: Path, tmp_path: Path) -> zipfile.ZipFile:
    """The wheel that this source tree makes."""
    builder = WheelBuilder(str(repository))
    return zipfile.ZipFile(next(builder.build(directory=str(tmp_path), versions=["standard"])))


def test_wheel_has_the_migrations(repository: Path, wheel: zipfile.ZipFile) -> None:
    """The link to the SQL has become the SQL: nothing outside the package is needed."""
    with wheel:
        assert wheel.read(MIGRATION) == (repository / "init-db.sql").read_bytes()
        assert wheel.getinfo(MIGRATION).external_attr >> 28 == 0o10, "it is a file, not a link"


def test_wheel_has_every_file_that_the_package_reads(
    repository: Path, wheel: zipfile.ZipFile
) -> None:
    """Templates, types and whatever else is beside the code."""
    package = repository / "bulkhead_trio"
    files = {
        str(path.relative_to(repository))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with wheel:
        assert files <= set(wheel.namelist())


def test_sdist_makes_the_same_wheel(repository: Path, tmp_path: Path) -> None:
    """What the link points to goes with it, so that a wheel can be built from the sources."""
    builder = SdistBuilder(str(repository))
    archive = next(builder.build(directory=str(tmp_path), versions=["standard"]))
    with tarfile.open(archive) as sources:
        # Python 3.11 has filters since 3.11.4 only; from 3.12 on it asks for one.
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        sources.extractall(tmp_path / "sources", **safely)  # noqa: S202  our own archive
    (tree,) = (tmp_path / "sources").iterdir()
    rebuilt = next(WheelBuilder(str(tree)).build(directory=str(tmp_path), versions=["standard"]))
    with zipfile.ZipFile(rebuilt) as wheel:
        assert wheel.read(MIGRATION) == (repository / "init-db.sql").read_bytes()
