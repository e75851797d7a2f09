"""A process that is told and asked over its standard streams, line by line: both ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import msgspec
import trio

STDIN, STDOUT = 0, 1
READ_BYTES = 65_536
STOP_SECONDS = 5.0

GreetingT = TypeVar("GreetingT", bound=msgspec.Struct)


class PipedProcess(Generic[GreetingT]):
    """The process from its start to its end, seen by whoever started it. Its calls block.

    Attributes:
        greeting: the first line that it wrote.

    Args:
        module: what it runs.
        arguments: of its command line.
        greets: what its first line is.
        failure: what is raised where it does not answer.

    Raises:
        Exception: a ``failure``: it ended before its first line.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        greets: type[GreetingT],
        failure: Callable[[str], Exception],
    ) -> None:
        self._failure = failure
        self._process = subprocess.Popen(  # noqa: S603  our own interpreter
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("opened with pipes")
        self._orders, self._answers = self._process.stdin, self._process.stdout
        try:
            self.greeting = msgspec.json.decode(self._line(), type=greets)
        except BaseException:
            self.stop()
            raise

    def tell(self, line: bytes) -> bytes:
        """Write a line without its end, and wait for the one that answers it.

        Raises:
            Exception: a ``failure``: the process has ended.
        """
        try:
            self._orders.write(line + b"\n")
            self._orders.flush()
        except OSError as error:
            raise self._failure("it has ended") from error
        return self._line()

    def _line(self) -> bytes:
        line = self._answers.readline()
        if not line:
            raise self._failure(f"it ended with {self._process.wait()}")
        return line

    def stop(self) -> None:
        """Its standard input ends, and so does it."""
        try:
            self._process.communicate(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


async def write_line(document: msgspec.Struct) -> None:
    """Say something to whoever started this process."""
    data = msgspec.json.encode(document) + b"\n"
    while data:
        written = await trio.to_thread.run_sync(os.write, STDOUT, data)
        data = data[written:]


async def answer_lines(
    obey: Callable[[bytes], msgspec.Struct], *, stays: bool, scope: trio.CancelScope
) -> None:
    """Answer each line of standard input with ``obey``; its end cancels ``scope``, or we stay."""
    held = b""
    while True:
        # In a thread, since standard input may be a file, or shared with a shell.
        data = await trio.to_thread.run_sync(os.read, STDIN, READ_BYTES, abandon_on_cancel=True)
        if not data:
            break
        *lines, held = (held + data).split(b"\n")
        for line in lines:
            await write_line(obey(line))
    if not stays:
        scope.cancel()


async def end_on_signal(scope: trio.CancelScope) -> None:
    """Cancel ``scope`` on SIGTERM and on SIGINT."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            scope.cancel()
