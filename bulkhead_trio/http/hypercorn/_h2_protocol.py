"""HTTP/2 between bytes and ASGI: Hypercorn's protocol class, with what we do otherwise.

``docs/http.md`` lists what Hypercorn 0.18 leaves open here, and what is done about it.
"""

from __future__ import annotations

import contextlib
from typing import Any, cast

import h2.connection
import h2.events
import h2.exceptions
import trio
from h2.errors import ErrorCodes
from h2.settings import SettingCodes, Settings
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import (
    Body,
    EndBody,
    InformationalResponse,
    Request,
    Response,
    StreamClosed,
)
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.utils import filter_pseudo_headers

from bulkhead_trio.http.hypercorn._budget_rules import Budget
from bulkhead_trio.http.hypercorn._h2_rules import (
    EARNED_BY_DATA,
    FrameMeter,
    H2Limits,
    fault_of,
    goaway,
    is_sendable,
)
from bulkhead_trio.http.hypercorn._h2_streams import H2Exchanges, H2Stream, Outbox
from bulkhead_trio.http.hypercorn._protocol import ErrorRenderer
from bulkhead_trio.http.limits import ConnectionLimits

PIECE_BYTES = 4096
"""Understood at once: a few hundred of the smallest frames. Then everything else has a turn."""

PUSHED_BYTES = 32 * 1024
"""Of an answer given to the stream at once; the peer has a while to take each."""

DEFAULT_WINDOW_BYTES = 65_535

TABLE_BYTES = 4096
"""Of header fields remembered for compressing answers: the default, and the most."""


class GuardedH2Protocol(H2Protocol):
    """One connection's HTTP/2."""

    task_group: H2Exchanges

    def __init__(
        self,
        *args: Any,
        limits: H2Limits,
        connection_limits: ConnectionLimits,
        render_error: ErrorRenderer,
    ) -> None:
        super().__init__(*args)
        self._limits = limits
        self._connection_limits = connection_limits
        self._render_error = render_error
        self._meter = FrameMeter()
        self._frames = Budget(rate=limits.frames_per_second, burst=limits.frames_at_once)
        self._resets = Budget(rate=limits.resets_per_second, burst=limits.resets_at_once)
        self._mine: dict[int, H2Stream] = {}
        self.streams = cast("dict[int, HTTPStream | WSStream]", self._mine)
        self._incomplete: set[int] = set()  # streams whose request has not all come
        self._is_leaving = False
        # Hypercorn offers CONNECT for WebSockets, which would be bound by nothing here.
        self.connection.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: limits.streams,
                SettingCodes.MAX_HEADER_LIST_SIZE: limits.header_bytes,
            },
        )
        self.connection.decoder.max_header_list_size = limits.header_bytes

    async def initiate(
        self,
        headers: list[tuple[bytes, bytes]] | None = None,  # noqa: ARG002  no upgrades from h2c
        settings: bytes | None = None,  # noqa: ARG002
    ) -> None:
        """Say hello, and begin to send what there will be."""
        self.connection.initiate_connection()
        self.connection.increment_flow_control_window(
            max(1, self._limits.body_bytes - DEFAULT_WINDOW_BYTES)
        )
        await self._flush()
        self.task_group.spawn(self.send_task)

    # --- coming in -------------------------------------------------------------------------------

    async def handle(self, event: Event) -> None:
        """Take what came; or the news that the connection is over."""
        if isinstance(event, RawData):
            data = event.data
            for start in range(0, len(data), PIECE_BYTES):
                if self.closed:
                    return
                await self._take_piece(data[start : start + PIECE_BYTES])
                await trio.lowlevel.checkpoint()
        else:
            await super().handle(event)

    async def _take_piece(self, piece: bytes) -> None:
        if self._frames.charge(trio.current_time(), self._meter.cost_of(piece)):
            await self._end(ErrorCodes.ENHANCE_YOUR_CALM)
            return
        try:
            events = self.connection.receive_data(piece)
        except h2.exceptions.ProtocolError:
            await self._flush()
            await self.send(Closed())
        else:
            await self._handle_events(events)

    async def _handle_events(self, events: list[h2.events.Event]) -> None:
        for event in events:
            match event:
                case h2.events.RequestReceived():
                    await self._begin(event)
                case h2.events.DataReceived():
                    await self._take_body(event)
                case h2.events.StreamEnded(stream_id=int(stream_id)):
                    self._incomplete.discard(stream_id)
                    if (stream := self._mine.get(stream_id)) is not None:
                        await stream.handle(EndBody(stream_id=stream_id))
                case h2.events.StreamReset(stream_id=int(stream_id)):
                    await self._drop(stream_id)
                    if self._resets.charge(trio.current_time()):
                        await self._end(ErrorCodes.ENHANCE_YOUR_CALM)
                case h2.events.WindowUpdated(stream_id=stream_id):
                    await self._window_updated(stream_id)
                case h2.events.RemoteSettingsChanged():
                    # Whatever it allows, what we remember for it stays small.
                    encoder = self.connection.encoder
                    encoder.header_table_size = min(encoder.header_table_size, TABLE_BYTES)
                    await self._window_updated(None)
                case h2.events.ConnectionTerminated():
                    await self.send(Closed())
            if self.closed:
                return
        await self._flush()

    async def _begin(self, event: h2.events.RequestReceived) -> None:
        stream_id, headers = event.stream_id, list(event.headers or ())
        if event.stream_ended is None:
            self._incomplete.add(stream_id)
        if self._is_leaving or self.task_group.running >= self._limits.streams:
            # Not looked at, so it can safely be sent again (RFC 9113, 8.7).
            self._reset(stream_id, ErrorCodes.REFUSED_STREAM)
        elif status := fault_of(headers):
            self._refuse(stream_id, status, headers)
        else:
            await self._open_stream(stream_id, headers)
            await self.send(Updated(idle=False))

    async def _open_stream(self, stream_id: int, headers: list[tuple[bytes, bytes]]) -> None:
        stream = self._mine[stream_id] = H2Stream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            stream_id,
            render_error=self._render_error,
        )
        self.stream_buffers[stream_id] = Outbox(self.context.event_class)
        self.priority.insert_stream(stream_id)
        self.priority.block(stream_id)
        pseudo = dict(headers)
        stream.body_by = trio.current_time() + self._connection_limits.body
        await stream.handle(
            Request(
                stream_id=stream_id,
                headers=filter_pseudo_headers(headers),
                http_version="2",
                method=pseudo[b":method"].decode("ascii"),  # as it was sent: "get" is not "GET"
                raw_path=pseudo[b":path"],
                state=self.connection_state,
            )
        )

        async def taken(count: int) -> None:
            if self.closed:
                return
            self.connection.acknowledge_received_data(count, stream_id)
            await self._flush()
            await self.send(Updated(idle=False))

        stream.inbox.on_taken = taken

    async def _take_body(self, event: h2.events.DataReceived) -> None:
        stream_id, data = event.stream_id or 0, event.data or b""
        stream = self._mine.get(stream_id)
        held = 0
        if stream is not None and not stream.closed:
            held = len(data)
            stream.inbox.waits_since = trio.current_time()
            await stream.handle(Body(stream_id=stream_id, data=data))
        if unread := (event.flow_controlled_length or 0) - held:
            self.connection.acknowledge_received_data(unread, stream_id)

    def _refuse(self, stream_id: int, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Answer what never becomes a request."""
        fields, body, status = self._render_error(status, headers)
        fields = [(b":status", b"%d" % status), *fields, *self.config.response_headers("h2")]
        fields.append((b"content-length", b"%d" % len(body)))
        try:
            has_room = self.connection.local_flow_control_window(stream_id) >= len(body)
            self.connection.send_headers(stream_id, fields, end_stream=not has_room)
            if has_room:
                self.connection.send_data(stream_id, body, end_stream=True)
        except h2.exceptions.ProtocolError:
            return  # reset already
        if stream_id in self._incomplete:
            self._reset(stream_id, ErrorCodes.NO_ERROR)

    # --- time ------------------------------------------------------------------------------------

    @property
    def waits_until(self) -> float:
        """When the first of the requests that have not all come is overdue."""
        gap = self._connection_limits.body_gap
        return min(
            (
                min(stream.body_by, stream.inbox.waits_since + gap)
                for stream_id, stream in self._mine.items()
                if stream_id in self._incomplete
                and stream.inbox.wants_more
                and not stream.is_given_up
            ),
            default=float("inf"),
        )

    def give_up_overdue(self) -> None:
        """Answer 408 to the requests whose rest does not come."""
        now, gap = trio.current_time(), self._connection_limits.body_gap
        for stream_id in list(self._incomplete):
            stream = self._mine.get(stream_id)
            if stream is None or stream.is_given_up or not stream.inbox.wants_more:
                continue
            if now >= min(stream.body_by, stream.inbox.waits_since + gap):
                stream.give_up(408)

    # --- going out -------------------------------------------------------------------------------

    async def stream_send(self, event: StreamEvent) -> None:
        """Send what the application, or its stream, has to say."""
        stream_id = event.stream_id
        if isinstance(event, StreamClosed):
            await self._close_answered(stream_id)
        elif isinstance(event, Body):
            for start in range(0, len(event.data), PUSHED_BYTES):
                piece = Body(stream_id=stream_id, data=event.data[start : start + PUSHED_BYTES])
                if not await self._send_in_time(piece):
                    return
        elif isinstance(event, EndBody):
            await self._send_in_time(event)
        elif isinstance(event, (Response, InformationalResponse)):
            if not is_sendable(event.headers):
                raise ValueError("an answer's header field has characters that none may have")
            await super().stream_send(event)

    async def _send_in_time(self, event: Body | EndBody) -> bool:
        """Whether the peer took what was before it in time; if not, the stream is over."""
        with trio.move_on_after(self._connection_limits.write) as scope:
            await super().stream_send(event)
        if scope.cancelled_caught:
            self._reset(event.stream_id, ErrorCodes.CANCEL)
            await self._drop(event.stream_id)
            await self._flush()
        return not scope.cancelled_caught

    async def _send_data(self, stream_id: int) -> None:
        """As Hypercorn's; data and the stream's end are one write, and nothing is left behind."""
        outbox = self.stream_buffers.get(stream_id)
        if outbox is None:
            await self._forget(stream_id)
            return
        try:
            window = self.connection.local_flow_control_window(stream_id)
            data = await outbox.pop(max(0, min(window, self.connection.max_outbound_frame_size)))
            if data:
                self.connection.send_data(stream_id, data)
                self._frames.earn(EARNED_BY_DATA)
            else:
                self.priority.block(stream_id)
            if outbox.complete:
                self.connection.end_stream(stream_id)
                self._frames.earn(EARNED_BY_DATA)
                if stream_id in self._incomplete:
                    # The answer does not need the rest of the request (RFC 9113, 8.1).
                    self._reset(stream_id, ErrorCodes.NO_ERROR)
                await self._forget(stream_id)
        except h2.exceptions.ProtocolError:
            await self._forget(stream_id)  # closed while it waited to send
        await self._flush()
        await self._end_if_done()

    async def _close_answered(self, stream_id: int) -> None:
        """The application is done with a stream, whether it has answered or not."""
        stream = self._mine.get(stream_id)
        if stream is not None and not stream.is_answered:
            self._reset(stream_id, ErrorCodes.INTERNAL_ERROR)
            await self._forget(stream_id)
            await self._flush()
        await self._close_stream(stream_id)
        await self.send(Updated(idle=not self.streams))
        await self._end_if_done()

    # --- ending ----------------------------------------------------------------------------------

    def _reset(self, stream_id: int, code: ErrorCodes) -> None:
        self._incomplete.discard(stream_id)
        try:
            self.connection.reset_stream(stream_id, error_code=code)
        except h2.exceptions.ProtocolError:
            return  # over already

    async def _drop(self, stream_id: int) -> None:
        """Forget a stream that was reset, and cancel what runs for it."""
        self._incomplete.discard(stream_id)
        await self._close_stream(stream_id)
        await self._forget(stream_id)
        await self.send(Updated(idle=not self.streams))

    async def _forget(self, stream_id: int) -> None:
        outbox = self.stream_buffers.pop(stream_id, None)
        if outbox is not None:
            await outbox.close()
        try:
            self.priority.remove_stream(stream_id)
        except KeyError:
            return  # not there any more

    async def leave(self) -> None:
        """Take no more requests; the connection ends with the last answer."""
        if self._is_leaving or self.closed:
            return
        self._is_leaving = True
        await self._flush()
        await self.send(RawData(data=goaway(self.connection.highest_inbound_stream_id)))
        await self._end_if_done()

    async def _end_if_done(self) -> None:
        if self._is_leaving and not self.streams and not self.stream_buffers and not self.closed:
            await self.send(Closed())

    async def _end(self, code: ErrorCodes) -> None:
        with contextlib.suppress(h2.exceptions.ProtocolError):  # closed from both sides
            self.connection.close_connection(code)
        await self._flush()
        await self.send(Closed())
