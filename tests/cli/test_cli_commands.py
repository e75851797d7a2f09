"""The commands that start nothing."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import click
import pytest

from bulkhead_trio.cli import main

from .conftest import Invoke

COMMANDS = [
    ("serve",),
    ("db", "migrate"),
    ("db", "seed"),
    ("db", "status"),
    ("config", "check"),
    ("config", "show"),
    ("doctor",),
    *(
        ("tenants", name)
        for name in (
            "list",
            "show",
            "create",
            "update",
            "rotate-key",
            "revoke-key",
            "delete",
        )
    ),
    ("gateway", "export"),
    ("gateway", "apply"),
    ("deliveries", "list"),
    ("deliveries", "show"),
    ("deliveries", "replay"),
]

ARGUMENTS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("tenants", "show"): ("acme",),
    ("tenants", "create"): ("acme", "--tier", "free"),
    ("tenants", "update"): ("acme",),
    ("tenants", "rotate-key"): ("acme",),
    ("tenants", "revoke-key"): ("acme", "x"),
    ("tenants", "delete"): ("acme", "--yes"),
    ("gateway", "apply"): ("-",),
    ("deliveries", "show"): ("dlv_0190163d8694739b8db4ae32ffd8ab07",),
    ("deliveries", "replay"): ("dlv_0190163d8694739b8db4ae32ffd8ab07", "--yes"),
}
"""What commands cannot do without."""


def test_commands_are_the_contracts() -> None:
    """Every command there is, is tested here and has a line in its group's help."""
    found: set[tuple[str, ...]] = set()
    for name, command in main.commands.items():
        inner = command.commands if isinstance(command, click.Group) else {}
        found |= {(name, each) for each in inner} or {(name,)}
    assert found == set(COMMANDS)


@pytest.mark.parametrize(
    "command", [(), ("db",), ("config",), ("tenants",), ("gateway",), ("deliveries",), *COMMANDS]
)
def test_help_is_worth_reading(invoke: Invoke, command: tuple[str, ...]) -> None:
    """Help says what the command does, with examples where there is something to run."""
    result = invoke(*command, "--help", COLUMNS="80")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout
    if command in COMMANDS:
        assert "Examples:" in result.stdout
        assert f"bulkhead-trio {' '.join(command)}" in result.stdout
        assert "--config FILE" in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) <= 80


def test_version_is_the_packages(invoke: Invoke) -> None:
    """--version names the installed version."""
    result = invoke("--version")
    assert result.exit_code == 0
    assert version("bulkhead-trio") in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [("nonsense",), ("serve", "--nonsense"), ("db", "nonsense"), ("serve", "extra"), ("config",)],
)
def test_wrong_usage_is_exit_2(invoke: Invoke, arguments: tuple[str, ...]) -> None:
    """An unknown command or option, or a command missing, is a mistake of usage."""
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_configuration_lists_every_mistake_and_starts_nothing(
    invoke: Invoke, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """A line for each on stderr, by the variable's name; exit 2; not even a directory is made."""
    result = invoke(
        *command,
        *ARGUMENTS.get(command, ()),
        API_PORT="x",
        LOG_LEVEL="loud",
        DATABASE_URL="hunter2",
        BULKHEAD_TIERS__FREE__WORKERS="0",
    )
    assert result.exit_code == 2
    names = [line.split(": ")[0] for line in result.stderr.splitlines()]
    assert names == ["API_PORT", "DATABASE_URL", "LOG_LEVEL", "BULKHEAD_TIERS__FREE__WORKERS"]
    assert "hunter2" not in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "variable"),
    [
        ("--host", "API_HOST"),
        ("--port", "API_PORT"),
        ("--data-dir", "DATA_DIR"),
        ("--database-url", "DATABASE_URL"),
        ("--log-level", "LOG_LEVEL"),
        ("--log-format", "LOG_FORMAT"),
    ],
)
def test_serve_option_is_the_variable(invoke: Invoke, option: str, variable: str) -> None:
    """A wrong option is listed as the variable's mistake, with its origin."""
    result = invoke("serve", option, "wrong \x07 value")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"{variable}: ")
    assert result.stderr.rstrip().endswith("(from the command line)")


def test_config_check_says_that_all_is_right(invoke: Invoke) -> None:
    """Exit 0 and one line on stdout."""
    result = invoke("config", "check", API_PORT="1")
    assert result.exit_code == 0
    assert result.stdout == (
        "The configuration is right: development, 1 value set, tiers free, pro, enterprise.\n"
    )


def test_config_show_prints_names_values_and_origins(invoke: Invoke, tmp_path: Path) -> None:
    """Every variable with its value and where that came from; secrets masked."""
    (tmp_path / "prod.toml").write_text('log_level = "debug"\n[tiers.gold]\nworkers = 3\n')
    result = invoke(
        "config",
        "show",
        "--config",
        "prod.toml",
        "--data-dir",
        "elsewhere",
        DATABASE_URL="postgresql://app:hunter2@db/app",
        SECRET_KEY="hunter2",
    )
    assert result.exit_code == 0
    assert "hunter2" not in result.output
    lines = [line.split(maxsplit=2) for line in result.stdout.splitlines()]
    assert ["LOG_LEVEL", "debug", "prod.toml"] in lines
    assert ["DATA_DIR", "elsewhere", "the command line"] in lines
    assert ["DATABASE_URL", "postgresql://app:***@db/app", "the environment"] in lines
    assert ["SECRET_KEY", "***", "the environment"] in lines
    assert ["API_PORT", "8080", "default"] in lines
    assert ["BULKHEAD_TIERS__GOLD__WORKERS", "3", "prod.toml, [tiers.gold]"] in lines


def test_config_file_is_taken_before_or_after_the_command(invoke: Invoke, tmp_path: Path) -> None:
    """--config works in both places, and the command's own wins; the variable comes last."""
    for name in ("one", "two"):
        (tmp_path / f"{name}.toml").write_text(f'data_dir = "{name}"\n')

    def shown(*arguments: str, **variables: str) -> str:
        lines = invoke(*arguments, **variables).stdout.splitlines()
        return next(line.split()[1] for line in lines if line.startswith("DATA_DIR "))

    assert shown("--config", "one.toml", "config", "show") == "one"
    assert shown("config", "show", "--config", "two.toml") == "two"
    assert shown("--config", "one.toml", "config", "show", "--config", "two.toml") == "two"
    assert shown("--config", "one.toml", "config", "show", BULKHEAD_CONFIG="two.toml") == "one"
    assert shown("config", "show", BULKHEAD_CONFIG="two.toml") == "two"


def test_config_file_that_is_absent_is_a_mistake(invoke: Invoke) -> None:
    """A file that was named must be there."""
    result = invoke("config", "check", "--config", "absent.toml")
    assert result.exit_code == 2
    assert result.stderr == (
        "BULKHEAD_CONFIG: cannot read absent.toml: No such file or directory\n"
    )


@pytest.mark.parametrize("arguments", [("--help",), ("serve", "--help"), ("config", "check")])
def test_quick_commands_import_nothing_heavy(arguments: tuple[str, ...]) -> None:
    """Help and the check of the configuration load neither psycopg nor Quart nor rich."""
    program = (
        "import sys\n"
        "from bulkhead_trio.cli import main\n"
        "main(sys.argv[1:], standalone_mode=False)\n"
        "heavy = {'psycopg', 'quart', 'rich', 'hypercorn'} & sys.modules.keys()\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_module_is_the_command() -> None:
    """python -m bulkhead_trio is the same command."""
    done = subprocess.run(
        [sys.executable, "-m", "bulkhead_trio", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert "Usage: python -m bulkhead_trio" in done.stdout
