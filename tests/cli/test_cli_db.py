"""The db commands, against real PostgreSQL."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import trio
from psycopg.conninfo import make_conninfo

from bulkhead_trio.database.connection import Connection
from bulkhead_trio.database.embedded import open_embedded_server

from .conftest import Invoke

COMMANDS = ["migrate", "seed", "status"]


@pytest.fixture
def empty_database(postgres_conninfo: str) -> Iterator[str]:
    with psycopg.connect(postgres_conninfo, autocommit=True) as connection:
        connection.execute("CREATE DATABASE cli_empty")
        yield make_conninfo(postgres_conninfo, dbname="cli_empty")
        connection.execute("DROP DATABASE cli_empty WITH (FORCE)")


def count_rows(conninfo: str, tier: str) -> int:
    with psycopg.connect(conninfo) as connection:
        found = connection.execute("SELECT count(*) FROM tenant_data WHERE tier = %s", (tier,))
        return int(found.fetchall()[0][0])


def test_migrate_applies_once(invoke: Invoke, empty_database: str) -> None:
    """The first run says what it applied, the next that there is nothing to do."""
    assert "not yet" in invoke("db", "status", DATABASE_URL=empty_database).stdout
    first = invoke("db", "migrate", DATABASE_URL=empty_database)
    assert (first.exit_code, first.stderr) == (0, "")
    assert first.stdout.startswith("Applied migration 1 (tenant_data).\n")
    again = invoke("db", "migrate", "--database-url", empty_database)
    assert again.stdout == "Nothing to apply: the database is up to date.\n"
    status = invoke("db", "status", DATABASE_URL=empty_database)
    assert "tenant_data" in status.stdout
    assert "not yet" not in status.stdout


def test_seed_gives_rows_to_the_tiers_that_have_none(
    invoke: Invoke, empty_database: str, tmp_path: Path
) -> None:
    """Tiers are those of the configuration; a database without a schema gets it first."""
    (tmp_path / "tiers.toml").write_text("[tiers.gold]\n[tiers.free]\n")
    arguments = ("db", "seed", "--config", "tiers.toml")
    assert invoke(*arguments, DATABASE_URL=empty_database).stdout == "Added 10 rows.\n"
    assert count_rows(empty_database, "gold") == count_rows(empty_database, "free") == 10
    again = invoke(*arguments, DATABASE_URL=empty_database)
    assert again.stdout == "Nothing to add: every tier has rows.\n"


def test_status_masks_the_password(invoke: Invoke, database: str) -> None:
    """Where the database is may be seen on the screen, its password not."""
    result = invoke("db", "status", DATABASE_URL=f"{database} password=hunter2")
    assert result.exit_code == 0
    assert "hunter2" not in result.output
    assert "password=***" in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_database_that_is_away_is_one_line(invoke: Invoke, command: str) -> None:
    """Exit 1, one line on stderr, no traceback and no password."""
    result = invoke("db", command, DATABASE_URL="postgresql://app:hunter2@127.0.0.1:1/app")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "refused" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "hunter2" not in result.output


def test_directory_that_cannot_be_is_one_line(invoke: Invoke, tmp_path: Path) -> None:
    """DATA_DIR inside a file: exit 1 and the system's reason."""
    (tmp_path / "file").touch()
    result = invoke("db", "status", "--data-dir", "file/data")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: Not a directory: ")
    assert len(result.stderr.splitlines()) == 1


def test_embedded_server_runs_for_the_command_only(invoke: Invoke, tmp_path: Path) -> None:
    """Made at the first command, kept on disk, and running after none of them."""
    pid_file = tmp_path / "data" / "postgres" / "postmaster.pid"
    migrated = invoke("db", "migrate", "--data-dir", "data")
    assert migrated.exit_code == 0, migrated.stderr
    assert not pid_file.exists()
    status = invoke("db", "status", DATA_DIR="data")
    assert status.stdout.startswith("Database: the embedded PostgreSQL in data\n")
    assert "not yet" not in status.stdout
    assert not pid_file.exists()


async def test_embedded_server_that_is_in_use_stays(tmp_path: Path) -> None:
    """A command on a running server's directory shares its PostgreSQL and leaves it running."""
    environment = {**os.environ, "DATA_DIR": str(tmp_path), "API_PORT": "0"}
    environment.pop("DATABASE_URL", None)
    async with open_embedded_server(tmp_path / "postgres", max_connections=100) as server:
        for arguments in (("db", "migrate"), ("doctor",)):
            with trio.fail_after(60):
                done = await trio.run_process(
                    [sys.executable, "-m", "bulkhead_trio", *arguments],
                    env=environment,
                    cwd=tmp_path,
                    capture_stdout=True,
                )
            assert done.returncode == 0
        async with await Connection.connect(server.conninfo, autocommit=True) as connection:
            cursor = await connection.execute("SELECT count(*) FROM tenant_data")
            assert await cursor.fetchone() == (30,)
