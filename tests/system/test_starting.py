"""What `serve` and `config` say to wrong configuration, and to a port that is taken."""

from __future__ import annotations

import json
import signal
import socket
import time
from pathlib import Path

import pytest
import trio

from ._client import ask, ask_data
from ._problems import assert_problem
from ._server import Server, bulkheads, run_command, running_server, wait_until
from .conftest import CreateDatabase

WRONG = {
    "API_PORT": "eighty",
    "SHUTDOWN_GRACE_SECONDS": "-1",
    "LOG_LEVEL": "shouting",
    "LOG_FORMAT": "xml",
    "ENVIRONMENT": "staging",
    "ON_STATE_ERROR": "panic",
    "MAX_BODY_BYTES": "many",
    "TRUSTED_PROXIES": "10.0.0.0/99",
    "ALLOWED_PRIVATE_NETWORKS": "everything",
    "METRICS_PUBLIC": "perhaps",
    "WORKERS": "0",
    "WEBHOOKS_MAX_PARALLEL_DELIVERIES": "101",
    "NOTIFICATIONS_MAX_PARALLEL_DELIVERIES": "0",
    "BULKHEAD_TIERS__FREE__QUEUE": "-1",
    "BULKHEAD_TIERS__PRO__CONNECTIONS": "0",
    "BULKHEAD_TIERS__PRO__WINDOW": "nan",
    "BULKHEAD_TIERS__PRO__TIMEOUT": "inf",
    "BULKHEAD_TIERS__ENTERPRISE__COOLDOWN": "soon",
}


@pytest.mark.parametrize("command", [["serve"], ["config", "check"]], ids=["serve", "check"])
def test_every_mistake_is_listed_by_its_name(command: list[str], data_dir: Path) -> None:
    """All of them at once, exit 2, and nothing has been started or made."""
    done = run_command(command, {**WRONG, "DATA_DIR": str(data_dir / "new")})
    assert done.returncode == 2, done.stdout
    missing = [name for name in WRONG if name not in done.stdout]
    assert missing == [], done.stdout
    assert "Traceback" not in done.stdout
    assert not (data_dir / "new").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {
            "API_PORT": "70000",
            "SHUTDOWN_GRACE_SECONDS": "nan",
            "DATABASE_URL": "mysql://x/y",
            "REDIS_URL": "http://x",
            "MAX_BODY_BYTES": "-5",
            "ADMIN_BIND": "nowhere",
            "TRUST_TIER_HEADER": "2",
            "FORCE_ERROR_ENABLED": "maybe",
            "BULKHEAD_TIERS__FREE__RATE_LIMIT": "-1",
            "BULKHEAD_TIERS__FREE__WORKERS": "1.5",
            "BULKHEAD_TIERS__FREE__FAILURE_THRESHOLD": "0",
            "BULKHEAD_TIERS__FREE__SPEED": "1",
            "BULKHEAD_TIERS__FREE__WINDOW": "0",
        },
        {
            "API_PORT": "-1",
            "SHUTDOWN_GRACE_SECONDS": "inf",
            "DATABASE_URL": "postgresql://[::bad",
            "BULKHEAD_TIERS__FREE__QUEUE": "1_0",
            "BULKHEAD_TIERS__FREE__RATE_LIMIT": "0x10",
        },
        {"API_PORT": "\u0663", "WORKERS": "80.5", "DATABASE_URL": "nonsense"},
    ],
)
def test_wrong_values_of_each_kind_are_named(wrong: dict[str, str]) -> None:
    """What looks like a number to Python only, is out of range, or is of another kind."""
    done = run_command(["config", "check"], wrong)
    assert done.returncode == 2, done.stdout
    assert [name for name in wrong if name not in done.stdout] == [], done.stdout
    assert "Traceback" not in done.stdout


def test_file_that_is_not_there_is_said() -> None:
    """A configuration file that was named must exist."""
    for arguments, variables in (
        (["config", "check", "--config", "/nowhere/at-all.toml"], {}),
        (["config", "check"], {"BULKHEAD_CONFIG": "/nowhere/at-all.toml"}),
    ):
        done = run_command(arguments, variables)
        assert done.returncode == 2, done.stdout
        assert "/nowhere/at-all.toml" in done.stdout


def test_production_needs_its_secret() -> None:
    """Without SECRET_KEY a production server does not start."""
    done = run_command(["serve"], {"ENVIRONMENT": "production"})
    assert done.returncode == 2, done.stdout
    assert "SECRET_KEY" in done.stdout


@pytest.mark.parametrize(
    "text",
    [
        "[tiers.free\n",
        "colour = 'red'\n",
        "[tiers.free]\nspeed = 1\n",
        "api_port = 'x'\n",
        "[tiers]\nfree = 1\n",
        "\xff",
    ],
)
def test_file_that_is_wrong_is_refused(tmp_path: Path, text: str) -> None:
    """A TOML file that cannot be read or has what nobody knows: exit 2, no traceback."""
    file = tmp_path / "bulkhead.toml"
    file.write_bytes(text.encode("latin-1"))
    done = run_command(["config", "check"], {"BULKHEAD_CONFIG": str(file)})
    assert done.returncode == 2, done.stdout
    assert done.stdout.strip()
    assert "Traceback" not in done.stdout


def test_right_configuration_is_checked_and_shown() -> None:
    """`check` agrees with the defaults; `show` prints them with secrets masked."""
    assert run_command(["config", "check"], {}).returncode == 0
    secret = "s3cr3t-" + "0123456789abcdef" * 3
    shown = run_command(
        ["config", "show"],
        {
            "SECRET_KEY": secret,
            "ADMIN_API_KEY": secret + "-admin",
            "DATABASE_URL": "postgresql://user:hunter2secret@db/app",
            "BULKHEAD_TIERS__FREE__QUEUE": "4321",
        },
    )
    assert shown.returncode == 0, shown.stdout
    assert "4321" in shown.stdout
    for hidden in (secret, "hunter2secret"):
        assert hidden not in shown.stdout


@pytest.mark.parametrize(
    "arguments", [["bogus"], ["serve", "--bogus"], ["config"], ["db", "bogus"]]
)
def test_usage_that_is_wrong_is_refused(arguments: list[str]) -> None:
    """Exit 2, and no traceback."""
    done = run_command(arguments, {})
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stdout


def test_port_in_use_is_said_in_one_line(create_database: CreateDatabase, data_dir: Path) -> None:
    """Exit 1, soon, with the port's number and no traceback."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        started = time.monotonic()
        done = run_command(
            ["serve"],
            {"API_PORT": str(port), "DATABASE_URL": create_database(), "DATA_DIR": str(data_dir)},
        )
    assert time.monotonic() - started < 15
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stdout
    named = [line for line in done.stdout.splitlines() if str(port) in line and "use" in line]
    assert len(named) == 1, done.stdout


async def test_tiers_of_a_file_replace_the_three(
    create_database: CreateDatabase, data_dir: Path, tmp_path: Path
) -> None:
    """Any number of tiers with any names; the environment overrides one value of one."""
    file = tmp_path / "bulkhead.toml"
    file.write_text(
        "[tiers.gold]\nconnections = 2\nworkers = 3\nqueue = 4\n"
        "[tiers.silver-plus]\nconnections = 1\nworkers = 1\nqueue = 0\n"
        "rate_limit = 7\nwindow = 30\n"
    )
    variables = {"BULKHEAD_TIERS__GOLD__QUEUE": "9"}
    with running_server(
        variables,
        data_dir=data_dir,
        database=create_database(),
        arguments=["--config", str(file)],
    ) as server:
        members = await bulkheads(server)
        assert set(members) == {"gold", "silver-plus"}
        assert members["gold"]["threadPool"]["queueSize"] == 9
        assert members["gold"]["connectionPool"]["max"] == 2
        assert members["silver-plus"]["rateLimit"]["windowSeconds"] == 30
        assert (await ask_data(server.address, "gold")).status == 200
        silver = await ask_data(server.address, "silver-plus")
        assert silver.status == 200
        assert silver.header("ratelimit-policy") == '"silver-plus";q=7;w=30'
        assert_problem(await ask_data(server.address, "free"), 400, "tenant_tier_invalid")
        document = (await ask(server.address, "/openapi.json")).json()
        assert "silver-plus" in json.dumps(document)


def catches_sigterm(server: Server) -> bool:
    """Whether the process has a handler for it."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) & 1 << signal.SIGTERM - 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("delay", [0.0, 0.2, 0.5, 0.8, 1.2])
async def test_signal_before_anything_has_begun_is_no_crash(
    create_database: CreateDatabase, data_dir: Path, number: signal.Signals, delay: float
) -> None:
    """From when the configuration has been read: exit 0 or 130, and no traceback."""
    with running_server(
        {}, data_dir=data_dir, database=create_database(), until_ready=False
    ) as server:
        await wait_until(lambda: catches_sigterm(server), "a handler", timeout=20, every=0.01)
        await trio.sleep(delay)
        server.signal(number)
        assert await server.exit_code() in ({0} if number == signal.SIGTERM else {0, 130})
        assert "Traceback" not in server.output
