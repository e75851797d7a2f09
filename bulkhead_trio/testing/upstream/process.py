"""The scripted upstream as a process of its own: started, told what to do, asked, and ended.

Its calls wait for a pipe, as a test's own look at things may.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import msgspec

from bulkhead_trio.testing._piped import PipedProcess
from bulkhead_trio.testing.upstream.commands import (
    Command,
    Done,
    Drop,
    Forget,
    Listening,
    Look,
    OpenGate,
    Play,
)
from bulkhead_trio.testing.upstream.script import Script
from bulkhead_trio.testing.upstream.seen import Seen


class UpstreamProcessFailed(Exception):
    """The process ended, or did not understand."""


class _Running:
    """The process, from its start to its end.

    Args:
        arguments: of its command line.

    Raises:
        UpstreamProcessFailed: it ended before it listened.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self._process = PipedProcess(
            "bulkhead_trio.testing.upstream",
            arguments,
            greets=Listening,
            failure=UpstreamProcessFailed,
        )
        self.listening = self._process.greeting

    def tell(self, command: Command) -> Done:
        """Give a command, and wait until it is done.

        Raises:
            UpstreamProcessFailed: it was not.
        """
        done = msgspec.json.decode(self._process.tell(msgspec.json.encode(command)), type=Done)
        if done.error is not None:
            raise UpstreamProcessFailed(done.error)
        return done

    def stop(self) -> None:
        """Its standard input ends, and so does it."""
        self._process.stop()


class ScriptedUpstreamProcess:
    """`ScriptedUpstream` as a process of its own; it works within its ``with`` block.

    Args:
        script: what it does at first.
        host: the address that it listens on.
        port: there; 0 for any free one.
    """

    def __init__(
        self,
        script: Script = Script(),  # noqa: B008  frozen
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._script = script
        self._arguments = ("--host", host, "--port", str(port))
        self._kept: _Running | None = None

    def __enter__(self) -> Self:
        """Start it and wait until it listens.

        Raises:
            UpstreamProcessFailed: it ended first; what it wrote is on standard error.
        """
        self._kept = _Running(self._arguments)
        try:
            self.play(self._script)
        except BaseException:
            self._kept.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        running, self._kept = self._running, None
        running.stop()

    @property
    def _running(self) -> _Running:
        if self._kept is None:
            raise RuntimeError("this upstream does not run")
        return self._kept

    @property
    def url(self) -> str:
        """Its origin, without a path."""
        return self._running.listening.url

    @property
    def port(self) -> int:
        """Where it listens; it stays the same while connections are refused."""
        return self._running.listening.port

    @property
    def pid(self) -> int:
        """Of the process: for signals."""
        return self._running.listening.pid

    def play(self, script: Script) -> None:
        """Do this from the next request on; the turns of its rules begin anew."""
        self._running.tell(Play(script))

    def open_gate(self, name: str) -> None:
        """Let every answer pass that waits at this gate, now and later."""
        self._running.tell(OpenGate(name))

    def drop_connections(self, *, is_reset: bool = False) -> None:
        """End every connection that is open, whatever is under way on it."""
        self._running.tell(Drop(is_reset))

    def forget(self) -> None:
        """Begin the log anew, and close all gates."""
        self._running.tell(Forget())

    def seen(self) -> Seen:
        """What it has seen."""
        seen = self._running.tell(Look()).seen
        if seen is None:
            raise UpstreamProcessFailed("it did not say what it has seen")
        return seen
