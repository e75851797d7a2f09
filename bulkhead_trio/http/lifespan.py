"""ASGI's lifespan protocol, from the server's side: an application is told when serving begins and
ends.

https://asgi.readthedocs.io/en/latest/specs/lifespan.html
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import structlog
import trio

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = structlog.get_logger("bulkhead_trio.http")


class LifespanError(Exception):
    """An application could not start, died while it was served, or could not shut down.

    Attributes:
        stage: ``startup``, ``serving`` or ``shutdown``.
    """

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage = stage


class Lifespan:
    """One application's life; made by `open_lifespan`.

    Attributes:
        state: what the application has put there while starting; its requests get a copy each.
        is_supported: whether the application speaks the protocol. If not, it is served all the
            same, and is told nothing.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.state: dict[str, Any] = {}
        self.is_supported = True
        self._app = app
        self._put, self._get = trio.open_memory_channel[Message](2)
        self._started = trio.Event()
        self._stopped = trio.Event()
        self._is_stopping = False
        self._failure: LifespanError | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application, with `state` in the scopes of its requests."""
        scope["state"] = self.state.copy()
        await self._app(scope, receive, send)

    # --- the application's side ------------------------------------------------------------------

    async def run(self, serving: trio.CancelScope) -> None:
        """Run the application's lifespan; an end that nobody asked for cancels ``serving``."""
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._get.receive, self._send)
        except* Exception as group:  # noqa: BLE001  any error at all may mean "not supported"
            self._note_error(group.exceptions[0], serving)
        else:
            if not self._started.is_set():
                self.is_supported = False
        finally:
            self._started.set()
            self._stopped.set()

    def _note_error(self, error: Exception, serving: trio.CancelScope) -> None:
        if self._failure is not None:
            return  # it has said so already
        if not self._started.is_set():
            # The protocol's way for an application to say that it does not know it.
            _log.debug("lifespan_not_supported", error=repr(error))
            self.is_supported = False
            return
        _log.error("lifespan_died", exc_info=error)
        stage = "shutdown" if self._is_stopping else "serving"
        self._failure = LifespanError(stage, f"the application died: {error!r}")
        self._failure.__cause__ = error
        serving.cancel()

    async def _send(self, message: Message) -> None:
        stage, _, outcome = message["type"].removeprefix("lifespan.").partition(".")
        done = {"startup": self._started, "shutdown": self._stopped}.get(stage)
        is_in_order = (
            done is not None and not done.is_set() and self._is_stopping == (done is self._stopped)
        )
        if outcome not in ("complete", "failed") or done is None or not is_in_order:
            raise RuntimeError(f"{message['type']!r} is not what comes next")
        if outcome == "failed":
            self._failure = LifespanError(stage, str(message.get("message") or "no reason given"))
        done.set()
        await trio.lowlevel.checkpoint()

    # --- the server's side -----------------------------------------------------------------------

    async def start_up(self, seconds: float) -> None:
        """Return when the application is ready.

        Raises:
            LifespanError: it says that it cannot start, or says nothing in time.
        """
        self._put.send_nowait({"type": "lifespan.startup"})
        await self._wait(self._started, "startup", seconds)

    async def shut_down(self, seconds: float) -> None:
        """Return when the application has given back what it had.

        Raises:
            LifespanError: it says that it could not, or says nothing in time.
        """
        if not self.is_supported or self._stopped.is_set():
            return
        self._is_stopping = True
        self._put.send_nowait({"type": "lifespan.shutdown"})
        await self._wait(self._stopped, "shutdown", seconds)

    async def _wait(self, event: trio.Event, stage: str, seconds: float) -> None:
        with trio.move_on_after(seconds) as scope:
            await event.wait()
        if scope.cancelled_caught:
            raise LifespanError(stage, f"no answer within {seconds:g} s")
        self.raise_failure()

    def raise_failure(self) -> None:
        """Raise what has gone wrong with the application, if anything."""
        if self._failure is not None:
            raise self._failure


@asynccontextmanager
async def open_lifespan(
    app: ASGIApp, *, startup_seconds: float = 60.0, shutdown_seconds: float = 30.0
) -> AsyncIterator[Lifespan]:
    """Start an application, and shut it down on leaving.

    What it yields is the application to serve: `Lifespan` is ASGI itself. Leaving with an error
    shuts the application down too. Being cancelled cancels it, as everything else. An application
    that dies while it is served cancels the block.

    Args:
        app: an ASGI 3 application, whether it speaks lifespan or not.
        startup_seconds: how long it may take to start.
        shutdown_seconds: how long it may take to shut down, and then to return.

    Raises:
        LifespanError: it cannot start, dies, or cannot shut down.
    """
    lifespan = Lifespan(app)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lifespan.run, nursery.cancel_scope)
        try:
            await lifespan.start_up(startup_seconds)
            yield lifespan
        except Exception as error:  # noqa: BLE001  raised below, outside the nursery
            failure = error
        if not (isinstance(failure, LifespanError) and failure.stage == "startup"):
            try:
                await lifespan.shut_down(shutdown_seconds)
            except LifespanError as error:
                _log.error("lifespan_failed", stage=error.stage, reason=str(error))
                failure = failure or error
        nursery.cancel_scope.deadline = trio.current_time() + (0 if failure else shutdown_seconds)
    if failure is not None:
        raise failure
    lifespan.raise_failure()
