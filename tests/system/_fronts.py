"""Starts the fronts as processes of their own, without the rest of the service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from ._client import Address
from ._server import STOP_SECONDS, TAIL_CHARACTERS, command_environment

FRONTS = ("engine", "hypercorn")


@attrs.frozen
class FrontProcess:
    """A front that runs."""

    name: str
    process: subprocess.Popen[bytes]
    address: Address
    log: Path

    @property
    def output(self) -> str:
        """What it has logged so far."""
        return self.log.read_text(errors="replace")

    @property
    def memory(self) -> int:
        """Its resident set, in bytes."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024

    @property
    def open_files(self) -> int:
        """How many descriptors it has."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    @property
    def processor_seconds(self) -> float:
        """The time that it has spent computing."""
        fields = Path(f"/proc/{self.process.pid}/schedstat").read_text().split()
        return int(fields[0]) / 1e9

    def assert_well(self) -> None:
        """It runs, and has logged no accident."""
        assert self.process.poll() is None, self.tail()
        assert "Traceback" not in self.output, self.tail()
        assert "failed" not in self.output, self.tail()

    def tail(self) -> str:
        """The end of what it said, for a failure's message."""
        return f"--- output of {self.name}:\n{self.output[-TAIL_CHARACTERS:]}"


@contextmanager
def running_front(name: str, **limits: float) -> Iterator[FrontProcess]:
    """The front in a process, with these of `ConnectionLimits`; ended on the way out."""
    with tempfile.TemporaryDirectory(prefix="bulkhead-") as directory:
        log = Path(directory) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("_front.py"), name, json.dumps(limits)],
                env=command_environment({}),
                cwd=directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
            )
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                port = process.stdout.readline()
                assert port, log.read_text()
                yield FrontProcess(name, process, ("127.0.0.1", int(port)), log)
            finally:
                process.stdin.close()
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
