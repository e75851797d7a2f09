"""The receiver as a process of its own: started, told what to do, asked, and ended.

Its calls wait for a pipe, as a test's own look at things may.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import msgspec

from bulkhead_trio.testing._piped import PipedProcess
from bulkhead_trio.testing.receiver.behaviour import Behaviour
from bulkhead_trio.testing.receiver.commands import (
    Behave,
    Command,
    Done,
    Forget,
    Listening,
    Look,
    Show,
    Sum,
    Trust,
)
from bulkhead_trio.testing.receiver.seen import Arrival, EndpointSeen, Received

MODULE = "bulkhead_trio.testing.receiver"


class ReceiverFailed(Exception):
    """The process ended, or did not understand."""


class ReceiverProcess:
    """`Receiver` as a process of its own; it works within its ``with`` block.

    Args:
        module: what it runs: one that calls `bulkhead_trio.testing.receiver.running.command` with
            a verification of its own, where signatures are to be judged.
        port: to listen on; 0 for any free one.
    """

    def __init__(self, module: str = MODULE, *, port: int = 0) -> None:
        self._module = module
        self._port = port
        self._kept: PipedProcess[Listening] | None = None

    def __enter__(self) -> Self:
        """Start it and wait until it listens.

        Raises:
            ReceiverFailed: it ended first; what it wrote is on standard error.
        """
        self._kept = PipedProcess(
            self._module, ("--port", str(self._port)), greets=Listening, failure=ReceiverFailed
        )
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
    def _running(self) -> PipedProcess[Listening]:
        if self._kept is None:
            raise RuntimeError("this receiver does not run")
        return self._kept

    def _tell(self, command: Command) -> Done:
        done = msgspec.json.decode(self._running.tell(msgspec.json.encode(command)), type=Done)
        if done.error is not None:
            raise ReceiverFailed(done.error)
        return done

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._running.greeting.port

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._running.greeting.pid

    def url(self, endpoint: int) -> str:
        """The address of an endpoint."""
        return f"http://127.0.0.1:{self.port}/e/{endpoint}"

    def behave(self, behaviours: Mapping[int, Behaviour]) -> None:
        """From the next request on, these endpoints do this; their turns begin anew."""
        self._tell(Behave(dict(behaviours)))

    def trust(self, secrets: Mapping[int, Sequence[str]]) -> None:
        """These endpoints are signed for with any of these secrets."""
        self._tell(Trust({endpoint: tuple(given) for endpoint, given in secrets.items()}))

    def forget(self) -> None:
        """Begin anew: nothing was seen, no secrets, and every endpoint takes everything."""
        self._tell(Forget())

    def arrivals(self, since: int = 0) -> Sequence[Arrival]:
        """Every request in the order of their coming, but the first ``since``."""
        return self._tell(Look(since)).arrivals

    def received(self, endpoint: int) -> Sequence[Received]:
        """The last requests of an endpoint in full, the oldest first."""
        return self._tell(Show(endpoint)).received

    def sums(self) -> dict[int, EndpointSeen]:
        """The sums of every endpoint that has seen a request."""
        return self._tell(Sum()).sums
