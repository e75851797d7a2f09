"""One connection to an upstream: who has it, how long it is kept, and how it is talked on."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import trio

from bulkhead_trio.http.client._response_rules import ResponseReader
from bulkhead_trio.http.client.dialling import TLSStream
from bulkhead_trio.http.client.wire import (
    NEVER,
    READ_BYTES,
    LimitPassed,
    NothingThere,
    Watched,
    Wire,
)

if TYPE_CHECKING:
    from bulkhead_trio.http.client.pool import OriginPool

SHORT_SECONDS = 1.0
"""Whoever waits less long than this is woken on time; others a tenth of a second late at most."""


class Connection(Watched):
    """One connection; one exchange at a time has it, or its pool keeps it.

    Attributes:
        reader: takes apart what comes.
        uses: exchanges that have had it.
        born: when it was made, on Trio's clock; so are the others.
        taken: when it was taken last.
        idle_by: until when its pool keeps it; `NEVER` while an exchange has it.
    """

    __slots__ = ("_tls", "born", "idle_by", "pool", "reader", "taken", "uses", "wire")

    def __init__(
        self, wire: Wire, tls: TLSStream | None, pool: OriginPool, reader: ResponseReader
    ) -> None:
        self.wire = wire
        self.pool = pool
        self.reader = reader
        self.uses = 0
        self.born = self.taken = trio.current_time()
        self.idle_by = NEVER
        self._tls = tls

    @property
    def is_tls(self) -> bool:
        """Whether what is said is encrypted."""
        return self._tls is not None

    # --- while an exchange has it ----------------------------------------------------------------

    async def send_some(self, data: bytes, seconds: float) -> int:
        """Send what can be sent of ``data`` at once; says how much.

        Args:
            data: the bytes.
            seconds: the longest time in which the peer takes nothing.

        Raises:
            LimitPassed: it takes nothing.
            OSError: it is gone.
        """
        if self._tls is None:
            return self.wire.send_now(data)
        piece = data[:READ_BYTES]
        await self.send_all(piece, seconds)
        return len(piece)

    async def send_all(self, data: bytes | memoryview, seconds: float) -> None:
        """Send all of ``data``.

        Args:
            data: the bytes.
            seconds: the longest time in which the peer takes nothing.

        Raises:
            LimitPassed: it takes nothing.
            OSError: it is gone.
        """
        if self._tls is None:
            await self.wire.send_all(data, seconds)
            return
        try:
            await self._tls.send_all(data)
        except trio.BrokenResourceError as error:
            raise ConnectionResetError(str(error.__cause__ or error)) from error

    async def send_eof(self) -> None:
        """Finish on this side; under TLS the connection is closed then, the peer being told.

        Raises:
            LimitPassed: it takes nothing.
            OSError: it is gone.
        """
        if self._tls is None:
            self.wire.sock.shutdown(socket.SHUT_WR)
            return
        try:
            await self._tls.aclose()
        except trio.BrokenResourceError as error:
            raise ConnectionResetError(str(error.__cause__ or error)) from error

    async def receive(self, by: float, now: float) -> bytes:
        """What comes next; ``b""`` at the end. Others have a turn before.

        Args:
            by: when to give up, on Trio's clock.
            now: what that says now.

        Raises:
            LimitPassed: nothing came.
            OSError: the peer is gone, or what it says cannot be decrypted.
        """
        wire = self.wire
        if by - now < SHORT_SECONDS:
            with trio.CancelScope(deadline=by):
                return await self._receive()
            raise LimitPassed
        wire.deadline = by
        try:
            return await (wire.receive() if self._tls is None else self._receive())
        finally:
            wire.deadline = NEVER

    async def _receive(self) -> bytes:
        if self._tls is None:
            return await self.wire.receive()
        try:
            return bytes(await self._tls.receive_some(READ_BYTES))
        except trio.BrokenResourceError as error:
            raise ConnectionResetError(str(error.__cause__ or error)) from error

    def has_ended(self) -> bool:
        """Whether the peer's end came together with its answer; it will not be announced again."""
        return self._tls is None and self.wire.may_have_news and not self.wire.is_quiet()

    # --- while its pool keeps it -----------------------------------------------------------------

    def on_news(self) -> None:
        """Something came, or its end, although nothing was asked: it cannot be used any more."""
        if self._tls is None:
            self.pool.drop_idle(self)

    async def is_usable(self, now: float, *, may_repeat: bool) -> bool:
        """Whether the next request may be sent on it.

        What has come without being asked for is no answer to anything that is asked later. The
        kernel tells of it, at the latest when the loop next looks; it is asked only for a request
        that must not be lost to a connection that has ended since, for asking is a system call.
        """
        if now >= self.idle_by:
            return False
        if self._tls is None:
            wire = self.wire
            return wire.is_quiet() if wire.may_have_news or not may_repeat else not wire.is_closed
        # TLS may have something to say of its own, such as a ticket for the next session; only
        # what is left when that is done counts.
        inner = self._tls.transport_stream
        inner.may_wait = False
        try:
            await self._tls.receive_some(1)
        except NothingThere:
            return not self.wire.is_closed
        except (OSError, trio.BrokenResourceError):
            return False
        finally:
            inner.may_wait = True
        return False

    def close(self) -> None:
        """Close it, at once; for good manners at the end of TLS there is no time."""
        self.wire.close()
