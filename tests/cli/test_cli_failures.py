"""How failures become exit codes."""

from __future__ import annotations

import errno

import click
import psycopg
import pytest
import trio
from click.testing import CliRunner, Result

from bulkhead_trio.cli._failures import Commands
from bulkhead_trio.config import ConfigurationError, Mistake
from bulkhead_trio.errors import DatabaseUnavailable


def raising(error: BaseException) -> Result:
    @click.group(cls=Commands)
    def group() -> None:
        pass

    @group.command()
    def fail() -> None:
        raise error

    return CliRunner().invoke(group, ["fail"])


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DatabaseUnavailable("the database is away"), "Error: the database is away"),
        (psycopg.OperationalError("connection\n  refused\n"), "Error: connection refused"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "Error: Permission denied: /x"),
        (OSError("no number"), "Error: no number"),
        (trio.TooSlowError(), "Error: it took too long"),
        (
            BaseExceptionGroup("", [ExceptionGroup("", [OSError(errno.EIO, "broken")])]),
            "Error: broken",
        ),
    ],
)
def test_expected_failure_is_one_line_and_exit_1(error: BaseException, line: str) -> None:
    """What may happen to anybody has no traceback."""
    result = raising(error)
    assert result.exit_code == 1
    assert result.stderr == f"{line}\n"
    assert result.stdout == ""


def test_several_failures_have_a_line_each() -> None:
    """A group's members are all told."""
    group = ExceptionGroup("", [OSError("one"), ExceptionGroup("", [OSError("two")])])
    assert raising(group).stderr == "Error: one\nError: two\n"


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), BaseExceptionGroup("", [KeyboardInterrupt(), OSError("meanwhile")])],
)
def test_interruption_is_exit_130(error: BaseException) -> None:
    """Also when Trio wraps it, and whatever else went wrong meanwhile."""
    result = raising(error)
    assert result.exit_code == 130
    assert result.stderr == "Interrupted.\n"


def test_wrong_configuration_is_exit_2() -> None:
    """Each mistake on a line of its own, with nothing around it."""
    result = raising(ConfigurationError([Mistake("A", "is wrong"), Mistake("B", "too", "x.toml")]))
    assert result.exit_code == 2
    assert result.stderr == "A: is wrong\nB: too (from x.toml)\n"


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("defect"), ExceptionGroup("", [OSError("x"), KeyError("defect")])]
)
def test_defect_keeps_its_traceback(error: Exception) -> None:
    """What nobody expected is not dressed up, alone or among others."""
    result = raising(error)
    assert result.exit_code == 1
    assert result.exception is error
    assert result.stderr == ""
