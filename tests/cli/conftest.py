"""The command line in this process, away from the variables of the machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
import structlog
from click.testing import CliRunner, Result

from bulkhead_trio.cli import main
from bulkhead_trio.config.settings import VARIABLES

Invoke: TypeAlias = Callable[..., Result]


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Invoke]:
    """``invoke("config", "check", API_PORT="1")``: run a command in an empty directory."""
    for name in list(os.environ):
        if name.startswith("BULKHEAD_") or name.lower() in VARIABLES:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, **variables: str) -> Result:
        # Wide enough for rich to wrap nothing.
        variables = {"COLUMNS": "240", **variables}
        result = CliRunner().invoke(main, arguments, env=variables)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    handlers, level = logging.root.handlers[:], logging.root.level
    yield run
    # Commands send the process's logs to their own standard error, which has gone by now.
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    structlog.reset_defaults()
