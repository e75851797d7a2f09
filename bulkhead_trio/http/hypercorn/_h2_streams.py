"""One HTTP/2 connection's requests: their tasks, and what goes in and out of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import structlog
import trio
from hypercorn.config import Config
from hypercorn.protocol.events import Body, EndBody, Event, Request, Response, StreamClosed
from hypercorn.protocol.h2 import (
    BUFFER_HIGH_WATER,
    BUFFER_LOW_WATER,
    BufferCompleteError,
    StreamBuffer,
)
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope

from bulkhead_trio.http.hypercorn._exchanges import Exchanges
from bulkhead_trio.http.hypercorn._protocol import ErrorRenderer

_log = structlog.get_logger("bulkhead_trio.http")

NOT_OFFERED = ("http.response.push", "http.response.trailers")
"""Extensions of Hypercorn's that browsers have given up, or that leave buffers behind."""

NOBODY_SECONDS = 0.05


async def _nobody(_: int) -> None:
    return


class Inbox:
    """What has come of one request's body and was not read yet.

    It never makes the connection's reader wait, which has other streams to serve: the peer may send
    only as much as its window allows, and the window opens as the application reads.

    Attributes:
        scope: the application's; cancelled when nobody wants its answer any more.
        on_taken: told how many bytes the application has read.
        waits_since: when the application was last left with nothing to read.
    """

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.on_taken: Callable[[int], Awaitable[None]] = _nobody
        self.waits_since = trio.current_time()
        self._data = bytearray()
        self._is_complete = False
        self._is_read = False
        self._is_over = False
        self._news = trio.Event()

    @property
    def wants_more(self) -> bool:
        """Whether it is the peer's turn."""
        return not self._data and not self._is_complete

    async def __call__(self, message: ASGIReceiveEvent) -> None:
        """Take a message for the application."""
        if message["type"] == "http.request":
            self._data += message["body"]
            self._is_complete = not message["more_body"]
        else:
            self._is_over = True
        self._news.set()

    async def receive(self) -> ASGIReceiveEvent:
        """ASGI's ``receive``."""
        while True:
            if self._is_over:
                return {"type": "http.disconnect"}
            if self._data or (self._is_complete and not self._is_read):
                return await self._take()
            self._news = trio.Event()
            await self._news.wait()

    async def _take(self) -> ASGIReceiveEvent:
        body = bytes(self._data)
        self._data.clear()
        self._is_read = self._is_complete
        self.waits_since = trio.current_time()
        if body:
            await self.on_taken(len(body))
        return {"type": "http.request", "body": body, "more_body": not self._is_read}


class Outbox(StreamBuffer):
    """What waits to be sent on one stream; `push` waits while that is much.

    Hypercorn's lets go of the application whenever it sent little, so most of all when the peer's
    window is closed: an answer then piles up in memory.
    """

    async def push(self, data: bytes) -> None:
        """Add ``data``; returns when there is room for more.

        Raises:
            BufferCompleteError: the stream is over.
        """
        if self._complete:
            raise BufferCompleteError
        self.buffer.extend(data)
        await self._is_empty.clear()
        if len(self.buffer) >= BUFFER_HIGH_WATER:
            await self._paused.clear()
            await self._paused.wait()

    async def pop(self, max_length: int) -> bytes:
        """Take what may be sent now."""
        data = bytes(self.buffer[:max_length])
        del self.buffer[:max_length]
        if len(self.buffer) < BUFFER_LOW_WATER:
            await self._paused.set()
        if not self.buffer:
            await self._is_empty.set()
        return data


class H2Exchanges(Exchanges):
    """The applications' tasks of one connection; each can be cancelled alone."""

    def __init__(self) -> None:
        super().__init__(has_gone=lambda: False)  # the reader never waits for an application
        self.running = 0

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,  # noqa: ARG002  Hypercorn's signature
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Inbox:
        """Run the application on one request; returns where its messages go."""
        inbox = Inbox()
        self.running += 1
        self.spawn(self._run, inbox, app, scope, send)
        return inbox

    async def _run(
        self,
        inbox: Inbox,
        app: AppWrapper,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> None:
        try:
            with inbox.scope:
                await app(scope, inbox.receive, send, trio.to_thread.run_sync, trio.from_thread.run)
        except* Exception:  # noqa: BLE001  whatever it is, it costs this request and no other
            _log.exception("application_failed")
        finally:
            self.running -= 1
        await send(None)


class H2Stream(HTTPStream):
    """Hypercorn's, between one stream's events and ASGI.

    Attributes:
        is_given_up: its application was cancelled for a limit's sake.
        failure: the status to answer where the application has not answered.
        body_by: when all of the request has to be there.
    """

    failure = 500
    is_given_up = False
    body_by = float("inf")

    def __init__(self, *args: Any, render_error: ErrorRenderer) -> None:
        super().__init__(*args)
        self._render_error = render_error
        self.inbox: Inbox

    @property
    def is_answered(self) -> bool:
        """Whether all of the answer has been given to the connection."""
        return self.state is ASGIHTTPState.CLOSED

    async def handle(self, event: Event) -> None:
        """As Hypercorn's; a stream that ends early cancels its application."""
        if self.closed:
            return
        await super().handle(event)
        if isinstance(event, Request):
            self.inbox = cast("Inbox", self.app_put)
            for name in NOT_OFFERED:
                self.scope["extensions"].pop(name, None)
        elif isinstance(event, StreamClosed) and not self.is_answered:
            self.inbox.scope.cancel()

    async def app_send(self, message: ASGISendEvent | None) -> None:
        """As Hypercorn's; to a stream that is over, sending takes a moment."""
        if self.closed and message is not None:
            # Otherwise an endless answer to nobody would keep the event loop busy.
            await trio.sleep(NOBODY_SECONDS)
            return
        await super().app_send(message)

    def give_up(self, status: int) -> None:
        """Cancel the application, and answer ``status`` in its place if nothing has been said."""
        self.is_given_up = True
        self.failure = status
        self.inbox.scope.cancel()

    async def _send_error_response(self, status_code: int) -> None:
        status = self.failure if status_code == 500 else status_code
        headers, body, status = self._render_error(status, list(self.scope["headers"]))
        headers = [*headers, (b"content-length", b"%d" % len(body))]
        stream_id = self.stream_id
        await self.send(Response(stream_id=stream_id, headers=headers, status_code=status))
        if self.scope["method"] != "HEAD":
            await self.send(Body(stream_id=stream_id, data=body))
        self.state = ASGIHTTPState.CLOSED
        await self.send(EndBody(stream_id=stream_id))
