"""A worker process: what `serve` does, with a share of everything."""

from __future__ import annotations

import functools
import os
import pickle
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import attrs
import structlog
import trio

from bulkhead_trio.app import Ground, open_application
from bulkhead_trio.app.serving import Stopping, serve_application
from bulkhead_trio.config import Settings
from bulkhead_trio.database.embedded import open_embedded_server
from bulkhead_trio.http.listeners import listeners
from bulkhead_trio.observe.logs import configure_logging
from bulkhead_trio.workers._share_rules import share
from bulkhead_trio.workers.assignment import Assignment, Line
from bulkhead_trio.workers.snapshots import Siblings, encode

ASSIGNMENT_SECONDS = 30.0
REPORT_SECONDS = 1.0
"""Between two reports of what it has counted: so much is lost when it is killed."""

_log = structlog.get_logger("bulkhead_trio.workers")


def main() -> int:
    """Do what the main process says on standard input; the exit code."""
    return trio.run(_run)


async def _run() -> int:
    async with _main_process() as line:
        with trio.fail_after(ASSIGNMENT_SECONDS):
            frame = await line.receive()
        if frame is None:
            return 1
        assignment: Assignment = pickle.loads(frame)  # noqa: S301  of the process that started us
        configure_logging(
            level=assignment.settings.log_level,
            format=assignment.settings.log_format,
            always={"worker": assignment.worker},
        )
        try:
            await _work(assignment, line)
        except Exception:  # noqa: BLE001  whatever it is, the main process only sees our exit code
            _log.exception("worker_failed")
            return 1
    return 0


@asynccontextmanager
async def _main_process() -> AsyncIterator[Line]:
    """The line to it, which is standard input; nobody else gets to read from that."""
    sock = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    async with trio.SocketStream(trio.socket.from_stdlib_socket(sock)) as stream:
        yield Line(stream)


async def _work(assignment: Assignment, line: Line) -> None:
    whole = assignment.settings
    settings = share(whole, assignment.worker)
    siblings = Siblings(
        assignment.directory,
        worker=assignment.worker,
        workers=whole.workers,
        past=assignment.past,
    )
    own = {
        name: listeners([_adopted(number) for number in numbers])
        for name, numbers in assignment.listeners.items()
    }
    stopping = Stopping(grace=settings.shutdown_grace_seconds)
    gone = trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stopping.watch, signals)
            nursery.start_soon(_watch_main_process, line, stopping, gone)
            with stopping.starting:
                async with (
                    _shared_database(whole, assignment.ground) as ground,
                    open_application(
                        settings,
                        ground,
                        make_census=siblings.join,
                        logged={"worker": assignment.worker},
                        worker=assignment.worker,
                        workers=whole.workers,
                    ) as application,
                ):
                    await nursery.start(siblings.serve)
                    await serve_application(
                        settings,
                        application,
                        own,
                        stopping,
                        on_ready=functools.partial(nursery.start_soon, _report, line, siblings),
                    )
            nursery.cancel_scope.cancel()
    if gone.is_set():
        # Nobody else will; of several workers the last one can.
        with suppress(OSError):
            os.rmdir(assignment.directory)


def _adopted(number: int) -> socket.socket:
    sock = socket.socket(fileno=number)
    sock.set_inheritable(False)
    return sock


@asynccontextmanager
async def _shared_database(settings: Settings, ground: Ground) -> AsyncIterator[Ground]:
    """Use the embedded PostgreSQL as well, where there is one.

    Its users share it and the last one stops it: so it runs as long as any worker, and does not
    outlive them where the main process could not stop it.
    """
    if settings.database_url is not None:
        yield ground
        return
    async with open_embedded_server(
        settings.data_dir / "postgres", max_connections=settings.embedded_connections
    ) as server:
        yield attrs.evolve(ground, conninfo=server.conninfo)


async def _watch_main_process(line: Line, stopping: Stopping, gone: trio.Event) -> None:
    while await line.receive() is not None:
        pass
    _log.error("main_process_gone")
    gone.set()
    stopping.told("main process gone")


async def _report(line: Line, siblings: Siblings) -> None:
    """Say that it serves, and from then on what it has counted."""
    try:
        await line.send(b"")
        while True:
            await trio.sleep(REPORT_SECONDS)
            await line.send(encode(siblings.counted()))
    except trio.BrokenResourceError:
        return  # whoever watches the line says so
