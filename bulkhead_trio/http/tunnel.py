"""Bytes of another protocol, passed through: what a connection is after 101.

A front gives an application the one end, as an extension of its scope; `HTTPClient` gives the other
one, as the ``stream`` of an answer with 101; `pump` joins them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeAlias

import attrs
import trio

TUNNEL = "bulkhead_trio.tunnel"
"""The extension of a front that was made with ``tunnels=True``, for HTTP/1.1 requests that ask for
a WebSocket: `OpenTunnel`. An application that does not call it answers as it does anything else."""

IDLE_SECONDS = 300.0
"""Without a byte in either direction. WebSockets that live send pings, most of them each 20 to 60
seconds; behind one that does not, nobody may be any more."""

HALF_CLOSED_SECONDS = 5.0
"""As `IDLE_SECONDS`, once one end has finished; also for the rest, once one end has broken."""

CLOSING_SECONDS = 1.0
"""For telling an end that it is over."""


class ByteStream(Protocol):
    """One end of a tunnel. One task may read while another one writes."""

    async def read_piece(self) -> bytes:
        """What comes next, 64 KiB at most; ``b""`` once the peer has finished.

        Raises:
            trio.BrokenResourceError: the peer has gone.
            trio.ClosedResourceError: it was closed on this side.
        """

    async def write(self, data: bytes) -> None:
        """Have the kernel take all of ``data``; waits while the peer does not read.

        Raises:
            trio.BrokenResourceError: the peer has gone, or takes nothing.
            trio.ClosedResourceError: it was closed on this side.
        """

    async def send_eof(self) -> None:
        """Finish on this side. The peer can still be read; but not under TLS, which has no half."""

    async def aclose(self) -> None:
        """Close it. May be called again."""


OpenTunnel: TypeAlias = Callable[[int, Iterable[tuple[bytes, bytes]]], Awaitable[ByteStream]]
"""Answers 101 with these headers, and gives the connection, beginning with what has been read of it
already. Raises `LocalProtocolError` for another status, or when an answer has begun."""


@attrs.frozen
class Pumped:
    """What went through, in bytes.

    Attributes:
        forth: from the first end to the second one.
        back: from the second to the first.
        was_idle: whether it was ended for passing nothing.
    """

    forth: int
    back: int
    was_idle: bool


async def pump(
    first: ByteStream,
    second: ByteStream,
    *,
    idle: float = IDLE_SECONDS,
    half_closed: float = HALF_CLOSED_SECONDS,
) -> Pumped:
    """Pass on what each end sends to the other one, until both have finished; closes both.

    In each direction one piece is held, no more: who does not read stops the other one. An end that
    finishes is told to the other, which may go on for as long as it has something to say. An end
    that breaks ends both.

    Args:
        first: one end.
        second: the other.
        idle: seconds without a byte, after which it is over.
        half_closed: the same once one end has finished; and all that is left once one has broken.
    """
    flow = _Flow(idle, half_closed)
    try:
        async with trio.open_nursery() as nursery:
            flow.scope = nursery.cancel_scope
            flow.keep_going()
            nursery.start_soon(flow.pass_on, first, second, 0)
            nursery.start_soon(flow.pass_on, second, first, 1)
    finally:
        await _close(first, second)
    forth, back = flow.passed
    return Pumped(forth, back, was_idle=flow.scope.cancelled_caught and not flow.has_broken)


class _Flow:
    """Both directions, and until when something has to have come."""

    def __init__(self, idle: float, half_closed: float) -> None:
        self.scope = trio.CancelScope()
        self.passed = [0, 0]
        self.has_broken = False
        self._limit = idle
        self._half_closed = half_closed

    def keep_going(self) -> None:
        """Something came."""
        if not self.has_broken:
            self.scope.deadline = trio.current_time() + self._limit

    async def pass_on(self, source: ByteStream, sink: ByteStream, direction: int) -> None:
        """One direction, until its source has finished or one of both has broken."""
        try:
            while data := await source.read_piece():
                self.keep_going()
                await sink.write(data)
                self.passed[direction] += len(data)
                self.keep_going()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._end(min(self._limit, self._half_closed))
            self.has_broken = True
        else:
            self._end(min(self._limit, self._half_closed))
        try:
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # nobody is there to be told

    def _end(self, limit: float) -> None:
        self._limit = limit
        self.keep_going()


async def _close(*ends: ByteStream) -> None:
    # Closing says goodbye, where there is one to say; it must not take for ever, but it has to
    # happen also when all of this is cancelled.
    with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSING_SECONDS):
        async with trio.open_nursery() as nursery:
            for end in ends:
                nursery.start_soon(end.aclose)
