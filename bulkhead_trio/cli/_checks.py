"""What `doctor` finds on the machine itself, without asking anybody."""

from __future__ import annotations

import platform
import resource
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Literal, TypeAlias

import attrs

from bulkhead_trio.cli._failures import one_line
from bulkhead_trio.config import Settings

Outcome: TypeAlias = Literal["ok", "warn", "fail"]

OLDEST_PYTHON = (3, 11)

OWN_FILES = 128
"""Files beside those of requests: Trio's and PostgreSQL's sockets, logs, modules, listeners."""


@attrs.frozen
class Check:
    """What was looked at, how it is, and what to do about it."""

    subject: str
    outcome: Outcome
    finding: str
    advice: str = ""


def check_python() -> Check:
    """Whether this Python is new enough."""
    found = f"{platform.python_version()}, trio {version('trio')}"
    if sys.version_info < OLDEST_PYTHON:
        return Check("Python", "fail", found, "Use Python 3.11 or newer.")
    return Check("Python", "ok", found)


def check_data_dir(directory: Path) -> Check:
    """Whether DATA_DIR, or where it would be made, can be written."""
    subject = f"DATA_DIR {directory}"
    try:
        wanted = directory.absolute()
        nearest = next(path for path in (wanted, *wanted.parents) if path.exists())
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(b"bulkhead-trio doctor")
    except OSError as error:
        advice = "Choose another DATA_DIR, or give this user the right to write there."
        return Check(subject, "fail", one_line(error), advice)
    finding = "can be written" if nearest == wanted else "will be made at first start"
    return Check(subject, "ok", finding)


def check_open_files(settings: Settings) -> Check:
    """Whether the limit on open files allows every tier to be full at once."""
    tiers = settings.tiers
    needed = OWN_FILES + sum(tier.workers + tier.queue + tier.connections for tier in tiers)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return Check("open files", "ok", f"unlimited; full tiers need {needed}")
    finding = f"{soft} allowed; full tiers need {needed}"
    if soft >= 2 * needed:
        return Check("open files", "ok", finding)
    raise_it = hard == resource.RLIM_INFINITY or hard >= 2 * needed
    advice = f"Raise it: ulimit -n {2 * needed}" + ("" if raise_it else ", as root or in systemd")
    if soft >= needed:
        return Check("open files", "warn", f"{finding}, idle clients come on top", advice)
    return Check("open files", "fail", finding, advice)
