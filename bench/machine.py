"""What a reader needs to judge a figure: the machine, the versions, what a process used."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs

PACKAGES = ("bulkhead-trio", "trio", "quart-trio", "quart", "hypercorn", "h11", "psycopg")
KIBIBYTE = 1024


@attrs.frozen
class Machine:
    """Where a run took place; nothing in it names a host, a user or a path."""

    cores: int
    processor: str
    memory_bytes: int
    system: str
    python: str
    packages: dict[str, str]


def describe_machine(packages: Sequence[str] = PACKAGES) -> Machine:
    """The facts of this machine, and the versions of those of ``packages`` that are installed."""
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        processor=_processor(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.machine()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        packages={name: version for name in packages if (version := version_of(name))},
    )


def version_of(package: str) -> str | None:
    """The version of a package; ``None`` where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def machine_document(machine: Machine) -> dict[str, Any]:
    """The same as JSON-able values; members are camelCase."""
    return {
        "cores": machine.cores,
        "processor": machine.processor,
        "memoryBytes": machine.memory_bytes,
        "system": machine.system,
        "python": machine.python,
        "packages": machine.packages,
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def resident_bytes(pid: int) -> int:
    """The resident memory of a process.

    Raises:
        ProcessLookupError: there is no such process (any more).
    """
    for line in _read_proc(pid, "status").splitlines():
        name, _, value = line.partition(":")
        if name == "VmRSS":
            return int(value.split()[0]) * KIBIBYTE
    raise ProcessLookupError(f"process {pid} has ended")


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has used, its threads included, its children not.

    Raises:
        ProcessLookupError: there is no such process.
    """
    # After the name, which is in parentheses and may hold anything: state is field 3 of proc(5),
    # utime 14, stime 15.
    fields = _read_proc(pid, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _read_proc(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ProcessLookupError(f"there is no process {pid}") from None
