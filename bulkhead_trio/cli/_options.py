"""Options that are settings, and how a command gets at all of them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import click

from bulkhead_trio.config import Explanation, explain_settings

Read: TypeAlias = Callable[[], Explanation]
"""Reads and checks the configuration.

Raises:
    ConfigurationError: with every mistake there is.
"""


class _Option(NamedTuple):
    flag: str
    metavar: str
    help: str


_OPTIONS = {
    "api_host": _Option("--host", "HOST", "Address to listen on (API_HOST)."),
    "api_port": _Option("--port", "PORT", "Port to listen on; 0: any free one (API_PORT)."),
    "bind": _Option(
        "--bind",
        "ADDRESSES",
        "Where to listen instead, with commas: host:port, :port, unix:/path, fd://3 (BIND).",
    ),
    "workers": _Option("--workers", "NUMBER", "Processes, 1 to 64 (WORKERS)."),
    "data_dir": _Option(
        "--data-dir", "DIR", "Where the embedded PostgreSQL and keys are kept (DATA_DIR)."
    ),
    "database_url": _Option(
        "--database-url",
        "URL",
        "PostgreSQL to use instead of the embedded one. Other users of this machine can see "
        "options: a password is better in DATABASE_URL.",
    ),
    "http": _Option("--http", "FRONT", "Who speaks HTTP/1.1: engine or hypercorn (HTTP)."),
    "log_level": _Option(
        "--log-level", "LEVEL", "debug, info, warning, error or critical (LOG_LEVEL)."
    ),
    "log_format": _Option("--log-format", "FORMAT", "console or json (LOG_FORMAT)."),
}

config_option = click.option(
    "--config",
    "config_path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="TOML file with settings (BULKHEAD_CONFIG).",
)


def configured(*fields: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command ``--config``, the options of some settings, and a way to read them all.

    The values are not checked here but with all other settings, so that every mistake is listed.
    What is no setting, the command is given as it is.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def with_options(config_path: Path | None, **given: Any) -> None:
            shared = click.get_current_context().find_root().params.get("config_path")
            overrides = {field: given.pop(field) for field in fields}
            command(
                functools.partial(
                    explain_settings,
                    config_path=config_path or shared,
                    environ=os.environ,
                    overrides=overrides,
                ),
                **given,
            )

        decorated = with_options
        for field in reversed(fields):
            option = _OPTIONS[field]
            decorated = click.option(option.flag, field, metavar=option.metavar, help=option.help)(
                decorated
            )
        return config_option(decorated)

    return decorate
