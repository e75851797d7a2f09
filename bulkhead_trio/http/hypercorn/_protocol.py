"""HTTP/1.1 between bytes and ASGI: Hypercorn's protocol class, with what we do otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

import h11
from h11._state import MIGHT_SWITCH_PROTOCOL
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Body, EndBody, Request, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream

from bulkhead_trio.http.engine._head_rules import HeadLimits
from bulkhead_trio.http.hypercorn._guard_rules import Guard

REASONS = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}

RawHeaders = Sequence[tuple[bytes, bytes]]

ErrorRenderer = Callable[[int, RawHeaders], tuple[list[tuple[bytes, bytes]], bytes, int]]
"""Makes headers and body for a status that the protocol itself decided on; may correct it.

Its second argument is the request's headers, as far as they could be read."""


class HTTP11Protocol(H11Protocol):
    """Hypercorn's HTTP/1.1, with our answers to what cannot be read, and as strict as our own.

    HTTP/2 on a plain connection (h2c) is not offered: it would slip past our deadlines.
    """

    render_error: ErrorRenderer
    _head: h11.Response | None = None
    _is_refused = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._guard = Guard(HeadLimits())

    @property
    def their_state(self) -> Any:
        return self.connection.their_state

    @property
    def is_answering(self) -> bool:
        """Whether a whole request is there, and its answer not yet out."""
        return self.their_state in (h11.DONE, h11.MUST_CLOSE, MIGHT_SWITCH_PROTOCOL)

    @property
    def ahead(self) -> int:
        """How many bytes are read and not understood yet."""
        return len(self.connection.trailing_data[0]) + self._guard.held

    async def handle(self, event: Event) -> None:
        """As Hypercorn's, but h11 gets to see only what is beyond doubt."""
        if not isinstance(event, RawData):
            await super().handle(event)
            return
        if event.data:
            if good := self._guard.take(event.data):
                self.connection.receive_data(good)
        else:
            self._guard.end()
            if self._guard.error is None:
                self.connection.receive_data(b"")
        await self._handle_events()

    async def resume(self) -> None:
        """Go on with what was sent ahead, now that the answer before it is out."""
        await self._handle_events()

    async def _handle_events(self) -> None:
        """As Hypercorn's, but a request sent ahead does not stop the reader.

        Hypercorn would wait here until the answer before it is out, and meanwhile not notice that
        the peer has gone. Ours returns to reading; the connection calls `resume`.
        """
        while True:
            if self.connection.they_are_waiting_for_100_continue:
                await self._send_h11_event(h11.InformationalResponse(status_code=100, headers=[]))
            try:
                event = self.connection.next_event()
            except h11.RemoteProtocolError as malformed:
                await self.refuse(malformed.error_status_hint)
                return
            if isinstance(event, h11.Request):
                await self.send(Updated(idle=False))
                await self._create_stream(event)
            elif (
                self.stream is None
                or event in (h11.NEED_DATA, h11.PAUSED)
                or isinstance(event, h11.ConnectionClosed)
            ):
                if (error := self._guard.error) is not None and not self.is_answering:
                    await self.refuse(error.status)
                return
            elif isinstance(event, h11.Data):
                await self.stream.handle(Body(stream_id=STREAM_ID, data=bytes(event.data)))
            elif isinstance(event, h11.EndOfMessage):
                await self.stream.handle(EndBody(stream_id=STREAM_ID))

    async def _create_stream(self, request: h11.Request) -> None:
        # Always plain HTTP: an upgrade that is asked for is not taken (RFC 9110, 7.8).
        await self._create_http_stream(request, HTTPStream)

    async def _create_http_stream(
        self, request: h11.Request, make: Callable[..., HTTPStream]
    ) -> None:
        self.stream = make(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii"),  # as it was sent: "get" is not "GET"
                raw_path=request.target,
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1

    async def stream_send(self, event: StreamEvent) -> None:
        """As Hypercorn's; of an application whose request has been refused, only that it ends."""
        if not self._is_refused or isinstance(event, StreamClosed):
            await super().stream_send(event)

    async def _send_error_response(self, status_code: int) -> None:
        headers, body, status_code = self.render_error(status_code, ())
        common = [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        await self._send_h11_event(
            h11.Response(
                status_code=status_code,
                headers=[*headers, *common, *self.config.response_headers("h11")],
            )
        )
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())

    async def _send_h11_event(self, event: Any) -> None:
        """Write a response's head together with what follows it.

        One write for a small answer; and until there is a body, an answer that has been begun can
        still become another one, when the rest of the request turns out to be malformed.
        """
        if isinstance(event, h11.Response):
            headers = list(event.headers)
            if self.their_state is h11.SEND_BODY and (b"connection", b"close") not in headers:
                # Answered before all of the request was there: what follows is not told apart.
                headers.append((b"connection", b"close"))
            self._head = h11.Response(
                status_code=event.status_code,
                headers=headers,
                # Optional, but there are clients that cannot read a line without.
                reason=event.reason or REASONS.get(event.status_code, b"Unknown"),
            )
            return
        head, self._head = self._head, None
        try:
            data = b"" if head is None else self.connection.send(head) or b""
            data += self.connection.send(event) or b""
        except h11.LocalProtocolError:
            if self.their_state is not h11.ERROR:
                raise
        else:
            await self.send(RawData(data=data))

    async def refuse(self, status_code: int) -> None:
        """Answer a request that is not complete, if nothing has been answered yet."""
        was_refused, self._is_refused = self._is_refused, True
        if not was_refused and self.connection.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            await self._send_error_response(status_code)
        await self.send(Closed())
