"""Serving: listeners opened, fronts on them, and the way out in order."""

from __future__ import annotations

import gc
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import structlog
import trio

from bulkhead_trio.api.drain import DrainGate
from bulkhead_trio.api.edge import cut_off_request, unreadable_request
from bulkhead_trio.api.messages import Listener
from bulkhead_trio.app.composition import Application, Front, open_application
from bulkhead_trio.app.ground import Announce, open_ground
from bulkhead_trio.app.opening import announce_ready, open_all
from bulkhead_trio.config import Settings
from bulkhead_trio.http.engine.server import HTTPServer
from bulkhead_trio.http.hypercorn.front import HypercornFront
from bulkhead_trio.http.hypercorn.tls import server_context
from bulkhead_trio.http.hypercorn.tls_front import TLSFront
from bulkhead_trio.http.limits import ConnectionLimits
from bulkhead_trio.observe.logs import configure_logging

_log = structlog.get_logger("bulkhead_trio.app")

OWN_FILES = 100
"""File descriptors for listeners, logs, locks, cancel requests and connections turned away."""

CLOSING_SECONDS = 5.0
"""What open connections get after the last answer to read it and go."""


async def serve(settings: Settings, *, announce: Announce) -> None:
    """Run the server in this process until it is told to stop, and all is given back.

    SIGTERM or SIGINT begins draining; a second SIGINT does not wait for what still runs.

    Args:
        settings: all of them.
        announce: told, in sentences for a person, what was done.
    """
    configure_logging(level=settings.log_level, format=settings.log_format)
    stopping = Stopping(grace=settings.shutdown_grace_seconds)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stopping.watch, signals)
            with stopping.starting:
                async with (
                    open_ground(settings, announce=announce) as ground,
                    open_application(settings, ground) as application,
                    open_all(settings, os.environ) as sockets,
                ):
                    listeners = {name: each.listeners(0) for name, each in sockets.items()}
                    await serve_application(
                        settings,
                        application,
                        listeners,
                        stopping,
                        on_ready=lambda: announce_ready(settings, sockets, announce),
                    )
                    announce("Stopped; everything is given back.")
            nursery.cancel_scope.cancel()


class Stopping:
    """What the signals mean at each stage: give up starting, drain, or stop waiting.

    Attributes:
        starting: cancelled when it is told to stop before it serves.
        requested: set when it is told to stop while it serves.
        grace: ends when nobody waits any longer for what still runs.
    """

    def __init__(self, *, grace: float) -> None:
        self.starting = trio.CancelScope()
        self.grace = trio.CancelScope()
        self.requested = trio.Event()
        self._grace_seconds = grace
        self._is_serving = False

    def serving(self) -> None:
        """From now on a signal begins to drain."""
        self._is_serving = True

    async def watch(self, signals: AsyncIterator[int]) -> None:
        """Do what each signal says, until there are none."""
        async for number in signals:
            self.told(signal.Signals(number).name)

    def told(self, why: str) -> None:
        """Stop, because of a signal or whatever else ``why`` names."""
        if not self._is_serving:
            self.starting.cancel()
        elif not self.requested.is_set():
            _log.info("draining", signal=why)
            self.grace.deadline = trio.current_time() + self._grace_seconds
            self.requested.set()
        elif why == "SIGINT":
            self.grace.cancel()


async def serve_application(
    settings: Settings,
    application: Application,
    listeners: Mapping[Listener, Sequence[trio.SocketListener]],
    stopping: Stopping,
    *,
    on_ready: Callable[[], object],
) -> None:
    """Serve what there are listeners for until told to stop, then drain.

    Args:
        settings: those of this process.
        application: what is served; gets the fronts.
        listeners: are closed.
        stopping: says when.
        on_ready: called once it serves.
    """
    limits = ConnectionLimits(
        connections=_most_connections(settings),
        refusals_per_second=settings.refusals_per_second or None,
    )
    async with trio.open_nursery() as nursery:
        for name, side in application.sides.items():
            if name not in listeners:
                continue
            front = _front(settings, name, side, limits)
            await nursery.start(front.serve, list(listeners[name]))
            application.fronts.append(front)
        # What is here now stays: the collector need not look at it again and again, which would
        # stop the loop for tens of milliseconds each time.
        gc.collect()
        gc.freeze()
        on_ready()
        stopping.serving()
        await stopping.requested.wait()
        await _drain(application.gate, application.fronts, stopping.grace)
        nursery.cancel_scope.deadline = trio.current_time() + CLOSING_SECONDS


def _front(settings: Settings, listener: Listener, side: Any, limits: ConnectionLimits) -> Front:
    """Who serves a listener. WebSockets are the gateway's to pass on, so nothing is handed over."""
    certificate, key = settings.tls_certificate, settings.tls_key
    if listener == "public" and certificate is not None and key is not None:
        return TLSFront(
            side,
            server_context(certificate, key),
            limits=limits,
            render_error=unreadable_request,
            tunnels=True,
        )
    if settings.http == "hypercorn":
        return HypercornFront(side, limits=limits, render_error=unreadable_request, tunnels=True)
    return HTTPServer(side, limits=limits, render_error=unreadable_request, tunnels=True)


async def _drain(gate: DrainGate, fronts: Sequence[Front], grace: trio.CancelScope) -> None:
    """Refuse new work, wait for what runs as long as ``grace`` allows, then close."""
    gate.close()
    with grace:
        await gate.wait_idle()
    if grace.cancelled_caught:
        _log.warning("grace_passed", in_flight=gate.in_flight)
        gate.cut_off()
        for front in fronts:
            if isinstance(front, HTTPServer):
                front.cut_off(cut_off_request)
    for front in fronts:
        await front.close()


def _most_connections(settings: Settings) -> int:
    """As many as there are file descriptors for beside everything else that needs some.

    The usual soft limit of 1,024 is a default for programs that use `select`; it is raised to the
    hard one, as servers do.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return ConnectionLimits().connections
    spare = hard - settings.connections_needed - OWN_FILES
    if spare < OWN_FILES:
        _log.warning("few_open_files", limit=hard, left_for_clients=max(1, spare))
    return max(1, min(ConnectionLimits().connections, spare))
