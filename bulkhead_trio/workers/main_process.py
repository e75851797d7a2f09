"""The main process: owns what the workers share, and the workers."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
import trio

from bulkhead_trio import app
from bulkhead_trio.app import Announce, Ground, open_ground
from bulkhead_trio.app.opening import Sockets, announce_ready, open_all
from bulkhead_trio.app.serving import CLOSING_SECONDS
from bulkhead_trio.config import Settings
from bulkhead_trio.observe.logs import configure_logging, log_outlet
from bulkhead_trio.observe.snapshots import ProcessSnapshot
from bulkhead_trio.workers.assignment import Assignment
from bulkhead_trio.workers.directory import socket_directory
from bulkhead_trio.workers.process import WorkerProcess, open_worker
from bulkhead_trio.workers.supervisor import Supervisor

TAKING_DOWN_SECONDS = 10.0
"""What a worker gets after its grace and its connections' to give everything else back."""

_log = structlog.get_logger("bulkhead_trio.workers")


async def serve(settings: Settings, *, announce: Announce) -> None:
    """Run the server with as many processes as ``WORKERS`` says, until it is told to stop.

    One is this process. Several are this one, which serves nobody, and that many others: this one
    keeps the data directory, the embedded PostgreSQL and the listening sockets.

    Args:
        settings: all of them.
        announce: told, in sentences for a person, what was done.

    Raises:
        WorkersFailed: the workers do not come up.
    """
    if settings.workers == 1:
        await app.serve(settings, announce=announce)
        return
    configure_logging(level=settings.log_level, format=settings.log_format)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            stopping = _Stopping()
            nursery.start_soon(stopping.watch, signals)
            nursery.start_soon(log_outlet().run)
            with stopping.starting:
                async with (
                    open_ground(settings, announce=announce) as ground,
                    open_all(settings, os.environ, shares=settings.workers) as sockets,
                ):
                    await _supervise(settings, ground, sockets, stopping, announce)
                    announce("Stopped; everything is given back.")
            nursery.cancel_scope.cancel()


class _Stopping:
    """What the signals mean: give up starting, or pass them on."""

    def __init__(self) -> None:
        self.starting = trio.CancelScope()
        self._supervisor: Supervisor | None = None
        self._sockets: Sockets = {}

    def serving(self, supervisor: Supervisor, sockets: Sockets) -> None:
        """From now on signals are for the workers."""
        self._supervisor = supervisor
        self._sockets = sockets

    async def watch(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            if self._supervisor is None:
                self.starting.cancel()
                continue
            _log.info("draining", signal=signal.Signals(number).name)
            # Kept open they would take connections that no worker accepts any more.
            for each in self._sockets.values():
                each.close()
            self._supervisor.stop(number)


async def _supervise(
    settings: Settings, ground: Ground, sockets: Sockets, stopping: _Stopping, announce: Announce
) -> None:
    with socket_directory(settings.workers) as directory:
        crew = _Crew(settings, ground, sockets, directory)
        # Requests have the grace time, and then sends of deliveries have it.
        patience = 2 * settings.shutdown_grace_seconds + CLOSING_SECONDS + TAKING_DOWN_SECONDS
        supervisor = Supervisor(crew.launch, workers=settings.workers, patience=patience)
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            stopping.serving(supervisor, sockets)
            announce_ready(settings, sockets, announce)


class _Crew:
    """Launches workers, each with its share of the sockets and its predecessors' counts."""

    def __init__(
        self, settings: Settings, ground: Ground, sockets: Sockets, directory: str
    ) -> None:
        self._assign = functools.partial(
            Assignment, settings=settings, ground=ground, directory=directory
        )
        self._sockets = sockets
        self._past: dict[int, ProcessSnapshot | None] = {}

    @asynccontextmanager
    async def launch(self, number: int) -> AsyncIterator[WorkerProcess]:
        assignment = self._assign(
            worker=number,
            listeners={
                name: tuple(sock.fileno() for sock in each.shares[number])
                for name, each in self._sockets.items()
            },
            past=self._past.get(number),
        )
        async with open_worker(assignment) as worker:
            try:
                yield worker
            finally:
                self._past[number] = worker.counted
