"""What `doctor` finds, on a machine that is well and on one that is not."""

from __future__ import annotations

import os
import resource
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from click.testing import Result
from psycopg.conninfo import make_conninfo

from bulkhead_trio.cli._checks import check_data_dir, check_open_files
from bulkhead_trio.config import load_settings
from bulkhead_trio.delivery.sealing import WEBHOOK_SECRETS, Sealer

from .conftest import Invoke

NOWHERE = "postgresql://app:hunter2@127.0.0.1:1/app"


def outcomes(result: Result) -> dict[str, str]:
    """The first word of each check's subject, and how it is."""
    rows = [[cell.strip() for cell in line.split("│")] for line in result.stdout.splitlines()]
    return {row[1].split()[0]: row[0] for row in rows if len(row) == 4 and row[0]}


@pytest.fixture
def low_limit() -> Iterator[int]:
    """A soft limit on open files that the default tiers barely fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (600, hard))
    yield 600
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_doctor_finds_all_well(invoke: Invoke, database: str) -> None:
    """Every check is ok, and the exit code 0."""
    result = invoke("doctor", DATABASE_URL=database, API_PORT="0", ADMIN_BIND="[::1]:0")
    assert result.exit_code == 0
    assert outcomes(result) == {
        "Python": "ok",
        "configuration": "ok",
        "DATA_DIR": "ok",
        "open": "ok",
        "API_PORT": "ok",
        "ADMIN_BIND": "ok",
        "database": "ok",
        "migrations": "ok",
        "max_connections": "ok",
        "webhook": "ok",
    }


def test_doctor_tries_the_embedded_database(invoke: Invoke, tmp_path: Path) -> None:
    """It is started, asked and stopped; migrations that serve will apply are a warning."""
    result = invoke("doctor", DATA_DIR="data", API_PORT="0")
    assert result.exit_code == 0
    found = outcomes(result)
    assert (found["database"], found["max_connections"]) == ("ok", "ok")
    assert found["migrations"] == "warn"
    assert "bulkhead-trio db migrate" in result.stdout
    assert not (tmp_path / "data" / "postgres" / "postmaster.pid").exists()


def test_doctor_finds_a_port_that_is_taken(invoke: Invoke, database: str) -> None:
    """A port in use fails, and is named with what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = invoke("doctor", DATABASE_URL=database, API_PORT=port)
    assert result.exit_code == 1
    assert outcomes(result)["API_PORT"] == "fail"
    assert "change API_PORT" in result.stdout


def test_doctor_finds_an_address_of_another_machine(invoke: Invoke, database: str) -> None:
    """An address that is none of this machine's fails."""
    result = invoke("doctor", "--host", "192.0.2.1", DATABASE_URL=database)
    assert result.exit_code == 1
    assert outcomes(result)["API_PORT"] == "fail"


def test_doctor_finds_a_database_that_is_away(invoke: Invoke) -> None:
    """The database's check fails; the others are still made; no password is shown."""
    result = invoke("doctor", DATABASE_URL=NOWHERE, API_PORT="0")
    assert result.exit_code == 1
    found = outcomes(result)
    assert found["database"] == "fail"
    assert found["API_PORT"] == "ok"
    assert "Check DATABASE_URL." in result.stdout
    assert "hunter2" not in result.output


def test_doctor_finds_too_few_connections(invoke: Invoke, database: str) -> None:
    """Tiers that want more connections than PostgreSQL allows fail."""
    result = invoke(
        "doctor", DATABASE_URL=database, API_PORT="0", BULKHEAD_TIERS__FREE__CONNECTIONS="9000"
    )
    assert result.exit_code == 1
    assert outcomes(result)["max_connections"] == "fail"
    assert "this configuration needs 9095" in result.stdout


def test_doctor_finds_a_database_of_a_newer_version(invoke: Invoke, database: str) -> None:
    """A migration that this version does not know fails, and says so."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO schema_migrations (version, name, checksum) VALUES (9999, 'later', '')"
        )
    result = invoke("doctor", DATABASE_URL=database, API_PORT="0")
    assert result.exit_code == 1
    assert outcomes(result)["migrations"] == "fail"


def test_doctor_warns_of_other_users(invoke: Invoke, database: str) -> None:
    """Connections of others that leave too few are a warning, since they may go."""
    with psycopg.connect(database) as connection:
        found = connection.execute("SHOW max_connections").fetchall()
        exactly = int(found[0][0]) - load_settings(environ={}, overrides={}).connections_needed + 5
        result = invoke(
            "doctor",
            DATABASE_URL=make_conninfo(database),
            API_PORT="0",
            BULKHEAD_TIERS__FREE__CONNECTIONS=str(exactly),
        )
    assert result.exit_code == 0
    assert outcomes(result)["max_connections"] == "warn"


def seal_into(database: str, secret_key: str, until: str = "NULL") -> None:
    """A tenant with a webhook, whose secret is sealed with that key."""
    webhook_id = uuid.uuid4()
    sealed = Sealer(secret_key, purpose=WEBHOOK_SECRETS).seal(b"s" * 32, bound_to=webhook_id)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "WITH t AS (INSERT INTO tenants (name, tier) VALUES ('acme', 'free') RETURNING id)"
            " INSERT INTO webhooks (id, tenant_id, url, event_types, secrets, secrets_until)"
            f" SELECT %s, id, 'https://x', '{{*}}', ARRAY[%s], ARRAY[{until}]::timestamptz[]"
            " FROM t",
            (webhook_id, sealed),
        )


def webhook_secrets(invoke: Invoke, database: str, **variables: str) -> tuple[int, str]:
    result = invoke("doctor", DATABASE_URL=database, API_PORT="0", **variables)
    (line,) = (line for line in result.stdout.splitlines() if "webhook secrets" in line)
    return result.exit_code, line.split("│")[2].strip()


def test_doctor_opens_what_webhooks_are_signed_with(invoke: Invoke, database: str) -> None:
    """With the key that sealed it, yes; with another one, it says how many it could not."""
    assert webhook_secrets(invoke, database) == (0, "there are none")
    seal_into(database, "the right key")
    assert webhook_secrets(invoke, database, SECRET_KEY="the right key") == (0, "1 can be opened")
    seal_into(database, "another key")
    assert webhook_secrets(invoke, database, SECRET_KEY="the right key") == (
        1, "1 of 2 cannot be opened with this SECRET_KEY",
    )  # fmt: skip


def test_doctor_takes_the_key_of_the_data_directory_and_makes_none(
    invoke: Invoke, database: str, tmp_path: Path
) -> None:
    """What was made at the first start counts; where there is none, nothing can be opened."""
    seal_into(database, "the right key")
    status, finding = webhook_secrets(invoke, database, DATA_DIR="data")
    assert (status, finding) == (1, "1 are kept, and there is no key to open them with")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "secret.key").write_text("the right key\n")
    assert webhook_secrets(invoke, database, DATA_DIR="data") == (0, "1 can be opened")


def test_doctor_leaves_secrets_that_sign_no_more(invoke: Invoke, database: str) -> None:
    """A secret whose grace time is over harms nobody."""
    seal_into(database, "a key of long ago", until="now() - interval '1 minute'")
    assert webhook_secrets(invoke, database, SECRET_KEY="the right key")[0] == 0


def test_doctor_finds_a_mail_server_that_is_away(invoke: Invoke, database: str) -> None:
    """It fails, with the password masked; the sender that nobody believes is a warning."""
    result = invoke(
        "doctor", DATABASE_URL=database, API_PORT="0", SMTP_URL="smtp://u:hunter2@127.0.0.1:1"
    )
    assert result.exit_code == 1
    found = outcomes(result)
    assert (found["SMTP_URL"], found["SMTP_FROM"], found["database"]) == ("fail", "warn", "ok")
    assert "hunter2" not in result.output


def test_doctor_lists_mistakes_and_tries_nothing(invoke: Invoke, tmp_path: Path) -> None:
    """Wrong configuration is exit 2: in the table, and on stderr as everywhere."""
    result = invoke("doctor", API_PORT="x", SECRET_KEY="a\x07")
    assert result.exit_code == 2
    assert outcomes(result) == {"Python": "ok", "API_PORT": "fail", "SECRET_KEY": "fail"}
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["API_PORT", "SECRET_KEY"]
    assert list(tmp_path.iterdir()) == []


def test_data_dir_that_is_not_there_yet_is_ok(tmp_path: Path) -> None:
    """It is enough that it can be made; looking does not make it."""
    check = check_data_dir(tmp_path / "one" / "two")
    assert (check.outcome, check.finding) == ("ok", "will be made at first start")
    assert list(tmp_path.iterdir()) == []
    assert check_data_dir(tmp_path).finding == "can be written"


def test_data_dir_that_cannot_be_written_fails(tmp_path: Path) -> None:
    """A file in the way, a name too long, a directory of somebody else."""
    (tmp_path / "file").touch()
    assert check_data_dir(tmp_path / "file").outcome == "fail"
    assert check_data_dir(tmp_path / "file" / "data").outcome == "fail"
    assert check_data_dir(tmp_path / ("x" * 300)).outcome == "fail"
    assert check_data_dir(Path("/proc/data")).outcome == "fail"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_data_dir_without_rights_fails(tmp_path: Path) -> None:
    """A directory that this user may only read."""
    (tmp_path / "closed").mkdir(mode=0o500)
    assert check_data_dir(tmp_path / "closed").outcome == "fail"
    assert check_data_dir(tmp_path / "closed" / "data").outcome == "fail"


@pytest.mark.parametrize(("queue", "outcome"), [("0", "ok"), ("100", "warn"), ("10000", "fail")])
def test_open_files_are_compared_with_the_tiers(
    tmp_path: Path, low_limit: int, queue: str, outcome: str
) -> None:
    """Twice what full tiers need is ok, less a warning, less than once a failure."""
    path = tmp_path / "bulkhead.toml"
    path.write_text(f"[tiers.only]\nworkers = 100\nqueue = {queue}\nconnections = 20\n")
    check = check_open_files(load_settings(config_path=path, environ={}, overrides={}))
    assert check.outcome == outcome
    assert str(low_limit) in check.finding
    assert ("ulimit -n" in check.advice) == (outcome != "ok")
