"""wrk, the load generator of the throughput jobs: its command line, and what it prints."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import attrs
import trio

from bench.client import Address
from bench.failures import RunFailed

THREADS = 1
"""It has the load's core to itself but for PostgreSQL; one thread does some 200,000 a second."""
LATE_SECONDS = 30.0
"""How much longer than planned it may run."""

_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
_PERCENTILE = re.compile(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s|m) *$", re.MULTILINE)
_TOTAL = re.compile(r"^\s+(\d+) requests in ([\d.]+)(ms|s|m)", re.MULTILINE)
_NOT_GOOD = re.compile(r"^\s+Non-2xx or 3xx responses: (\d+)$", re.MULTILINE)
_ERRORS = re.compile(
    r"^\s+Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)$", re.MULTILINE
)


class UnreadableOutput(Exception):
    """wrk printed something else than its report."""


@attrs.frozen
class Count:
    """What wrk counted in one run.

    Attributes:
        requests: answered ones.
        refused: those of them that were answered with neither 2xx nor 3xx.
        errors: connections that could not be opened, read or written, and timeouts.
        seconds: how long it ran.
        p50, p99: latency in milliseconds.
    """

    requests: int
    refused: int
    errors: int
    seconds: float
    p50: float
    p99: float

    @property
    def per_second(self) -> float:
        """Requests answered a second."""
        return self.requests / self.seconds if self.seconds else 0.0


def parse(output: str) -> Count:
    """What wrk's report with ``--latency`` says.

    Raises:
        UnreadableOutput: it is none.
    """
    total = _TOTAL.search(output)
    latency = {p: float(n) * _UNITS[unit] for p, n, unit in _PERCENTILE.findall(output)}
    if total is None or set(latency) != {"50", "99"}:
        raise UnreadableOutput(f"wrk printed no report: {output[-300:]!r}")
    refused = _NOT_GOOD.search(output)
    errors = _ERRORS.search(output)
    return Count(
        requests=int(total[1]),
        refused=int(refused[1]) if refused else 0,
        errors=sum(int(number) for number in errors.groups()) if errors else 0,
        seconds=float(total[2]) * _UNITS[total[3]] / 1000,
        p50=latency["50"],
        p99=latency["99"],
    )


def command(
    address: Address,
    path: str,
    headers: Mapping[str, str],
    *,
    connections: int,
    seconds: float,
    script: Path | None = None,
) -> list[str]:
    """wrk's command line."""
    scripted = [] if script is None else ["-s", str(script)]
    fields = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    return [
        "wrk", f"-t{THREADS}", f"-c{connections}", f"-d{seconds:g}s", "--latency",
        *scripted, *fields, f"http://{address.host}:{address.port}{path}",
    ]  # fmt: skip


def require() -> None:
    """See that wrk is there.

    Raises:
        RunFailed: it is not.
    """
    if shutil.which("wrk") is None:
        raise RunFailed("wrk makes the load and is not installed (Debian: apt install wrk)")


async def load(
    address: Address,
    path: str,
    headers: Mapping[str, str],
    *,
    connections: int,
    seconds: float,
    prefix: tuple[str, ...] = (),
    script: Path | None = None,
) -> Count:
    """Run wrk, and return what it counted.

    Args:
        address: the server.
        path: what to ask for.
        headers: fields of every request.
        connections: open at once, each with one request at a time.
        seconds: how long, in whole seconds.
        prefix: what the command line begins with, such as ``nice``.
        script: Lua that makes the requests; ``None``: all are the same.

    Raises:
        RunFailed: it ended with an error, printed no report, or ran much too long.
    """
    line = command(address, path, headers, connections=connections, seconds=seconds, script=script)
    with trio.move_on_after(seconds + LATE_SECONDS):
        done = await trio.run_process(
            [*prefix, *line], capture_stdout=True, stderr=subprocess.STDOUT, check=False
        )
        output = done.stdout.decode("utf-8", errors="replace")
        if done.returncode != 0:
            raise RunFailed(f"wrk ended with {done.returncode}: {output.strip()[:300]}")
        try:
            return parse(output)
        except UnreadableOutput as error:
            raise RunFailed(str(error)) from error
    raise RunFailed("wrk did not end")
