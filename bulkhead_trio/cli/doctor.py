"""``bulkhead-trio doctor``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from bulkhead_trio.cli._failures import FAILED
from bulkhead_trio.cli._options import Read, configured
from bulkhead_trio.config import ConfigurationError

if TYPE_CHECKING:
    from bulkhead_trio.cli._checks import Check

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@click.command()
@configured("api_host", "api_port", "data_dir", "database_url")
def doctor(read: Read) -> None:
    """Look whether `serve` would run here, and say what to do if not.

    Looks at Python, the configuration, DATA_DIR, the limit on open files, the port, the mail
    server, and the database: whether it answers, its migrations, its connection limit, whether
    SECRET_KEY opens what is sealed in it. An embedded database is started for this (made, where
    there is none yet) and stopped again unless somebody uses it.

    \b
    Examples:
      bulkhead-trio doctor
      bulkhead-trio doctor --config prod.toml
      DATABASE_URL=postgresql://... bulkhead-trio doctor || exit 1

    Exit code 1 if a check fails, 2 if the configuration is wrong; warnings are 0.
    """
    from bulkhead_trio.cli._checks import Check, check_data_dir, check_open_files, check_python

    checks = [check_python()]
    try:
        settings = read().settings
    except ConfigurationError as error:
        advice = "See docs/configuration.md."
        checks += [
            Check(mistake.variable, "fail", mistake.reason, advice) for mistake in error.mistakes
        ]
        _print(checks)
        raise
    from bulkhead_trio.cli._running import run
    from bulkhead_trio.cli._service_checks import check_services

    checks += [
        Check("configuration", "ok", f"right, for {settings.environment}"),
        check_data_dir(settings.data_dir),
        check_open_files(settings),
        *run(check_services, settings),
    ]
    _print(checks)
    if any(check.outcome == "fail" for check in checks):
        click.get_current_context().exit(FAILED)


def _print(checks: Sequence[Check]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("", "check", "finding", "what to do", show_edge=False)
    for check in checks:
        outcome = Text(check.outcome, style=_STYLES[check.outcome])
        table.add_row(outcome, Text(check.subject), Text(check.finding), Text(check.advice))
    Console().print(table)
